"""Functions that write generation parameters and XMP into a PNG file.

The parameters are in an iTXt chunk directly after IHDR, so that readers find them in the first
bytes of the file.
Source: https://www.w3.org/TR/png-3/#11iTXt.
"""

import struct
import zlib
from collections.abc import Callable, Iterator
from typing import Final

from stillroom.formats import png
from stillroom.formats.file_parts import LOOKS_OF_A_READ, BrokenHeader, FileParts
from stillroom.formats.work_budget import WorkBudget
from stillroom.generation.carriers.entries import Entries
from stillroom.generation.carriers.png import XMP_KEYWORD, itxt_text
from stillroom.generation.tools.own import KEY

_HEAD: Final = KEY.encode("ascii") + b"\0"
_PACKET: Final = XMP_KEYWORD.encode("ascii") + b"\0"
_MAX_CHUNKS: Final = 200_000


def embed(data: bytes, facts: bytes) -> bytes:
    """Return a PNG file with generation parameters (JSON) embedded, replacing earlier ones."""
    (_, _, header_end), *others = _chunks(data)
    kept = [data[:header_end], _chunk(_HEAD + b"\0\0\0\0" + facts)]
    for kind, start, end in others:
        if kind != b"iTXt" or not data.startswith(_HEAD, start + 8):
            kept.append(data[start:end])
    return b"".join(kept)


def with_packet(data: bytes, change: Callable[[bytes | None], bytes]) -> bytes:
    """Return a PNG file with its XMP packet replaced, or added before the pixels; see `Writer`."""
    chunks = list(_chunks(data))
    packets = (
        (start, end)
        for kind, start, end in chunks
        if kind == b"iTXt" and data.startswith(_PACKET, start + 8)
    )
    pixels = next(start for kind, start, _ in chunks if kind in (png.PIXELS, png.LAST))
    start, end = next(packets, (pixels, pixels))
    content = data[start + 8 : end - 4]
    packet = itxt_text(content, Entries(WorkBudget())) if start < end else None
    return data[:start] + _chunk(_PACKET + b"\0\0\0\0" + change(packet)) + data[end:]


def _chunk(content: bytes) -> bytes:
    checked = b"iTXt" + content
    return struct.pack(">I", len(content)) + checked + struct.pack(">I", zlib.crc32(checked))


def _chunks(data: bytes) -> Iterator[png.Chunk]:
    if data[12:16] != b"IHDR":
        raise BrokenHeader
    budget = WorkBudget(LOOKS_OF_A_READ * _MAX_CHUNKS, len(data))
    for kind, start, length in png.chunks(FileParts.whole(data, budget)):
        end = start + length + 4
        if end > len(data):
            raise BrokenHeader
        yield kind, start - 8, len(data) if kind == png.LAST else end
