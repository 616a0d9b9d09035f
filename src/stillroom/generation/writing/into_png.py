"""Writing of generation parameters and XMP into a PNG file.

The parameters are in an iTXt chunk directly after IHDR, so that reading the first bytes suffices.
Source: https://www.w3.org/TR/png-3/#11iTXt.
"""

import struct
import zlib
from collections.abc import Callable, Iterator
from typing import Final

from stillroom.file_parts import BrokenHeader
from stillroom.generation.carriers.entries import Entries
from stillroom.generation.carriers.png import SIGNATURE, XMP_KEYWORD, itxt_text
from stillroom.generation.tools.own import KEY
from stillroom.work_budget import WorkBudget

_HEAD: Final = KEY.encode("ascii") + b"\0"
_PACKET: Final = XMP_KEYWORD.encode("ascii") + b"\0"
_HEADER_END: Final = len(SIGNATURE) + 25


def embed(data: bytes, facts: bytes) -> bytes:
    """Embed or replace generation parameters (JSON). Raise `BrokenHeader` if IEND is missing."""
    kept = [SIGNATURE, data[len(SIGNATURE) : _HEADER_END], _chunk(_HEAD + b"\0\0\0\0" + facts)]
    for kind, start, end in _chunks(data):
        if kind != b"iTXt" or not data.startswith(_HEAD, start + 8):
            kept.append(data[start:end])
    return b"".join(kept)


def with_packet(data: bytes, change: Callable[[bytes | None], bytes]) -> bytes:
    """Replace the XMP packet of a PNG with the result of `change`, or insert one before the pixels.

    Raises:
        BrokenHeader: the chunks do not lead to IEND, or the packet cannot be read.
    """
    chunks = list(_chunks(data))
    packets = [
        (start, end)
        for kind, start, end in chunks
        if kind == b"iTXt" and data.startswith(_PACKET, start + 8)
    ]
    if packets:
        start, end = packets[0]
        packet: bytes | None = itxt_text(data[start + 8 : end - 4], Entries(WorkBudget()))
    else:
        start = end = next(start for kind, start, _ in chunks if kind in (b"IDAT", b"IEND"))
        packet = None
    return data[:start] + _chunk(_PACKET + b"\0\0\0\0" + change(packet)) + data[end:]


def _chunk(content: bytes) -> bytes:
    checked = b"iTXt" + content
    return struct.pack(">I", len(content)) + checked + struct.pack(">I", zlib.crc32(checked))


def _chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield the type, start and end of each chunk after IHDR. IEND ends at the end of the file."""
    if data[12:16] != b"IHDR":
        raise BrokenHeader
    at, kind = _HEADER_END, b""
    while kind != b"IEND":
        if at + 12 > len(data):
            raise BrokenHeader
        kind = data[at + 4 : at + 8]
        end = at + 12 + int.from_bytes(data[at : at + 4], "big")
        if end > len(data):
            raise BrokenHeader
        yield kind, at, len(data) if kind == b"IEND" else end
        at = end
