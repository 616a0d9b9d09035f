"""A PNG's facts: one iTXt chunk directly behind IHDR, so that the first bytes have it.

Source: https://www.w3.org/TR/png-3/#11iTXt.
"""

import struct
import zlib
from collections.abc import Iterator
from typing import Final

from stillroom.file_parts import BrokenHeader
from stillroom.generation.carriers.png import SIGNATURE
from stillroom.generation.tools.own import KEY

_HEAD: Final = KEY.encode("ascii") + b"\0"
_HEADER_END: Final = len(SIGNATURE) + 25


def embed(data: bytes, facts: bytes) -> bytes:
    """The PNG with that chunk, and without earlier ones of the same keyword.

    Raises:
        BrokenHeader: its chunks do not lead to IEND.
    """
    kept = [SIGNATURE, data[len(SIGNATURE) : _HEADER_END], _chunk(_HEAD + b"\0\0\0\0" + facts)]
    for kind, start, end in _chunks(data):
        if kind != b"iTXt" or not data.startswith(_HEAD, start + 8):
            kept.append(data[start:end])
    return b"".join(kept)


def _chunk(content: bytes) -> bytes:
    checked = b"iTXt" + content
    return struct.pack(">I", len(content)) + checked + struct.pack(">I", zlib.crc32(checked))


def _chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Kind, start and end of each chunk behind IHDR; what follows IEND belongs to it."""
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
