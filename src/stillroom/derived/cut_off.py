"""Whether a file ends before its image does: by its last bytes, by lengths, or by a JPEG's end.

Asked of what a decoder has refused. What is damaged elsewhere is not said to be cut off.
"""

import os
import struct
from typing import BinaryIO, Final

_HEAD_BYTES: Final = 16
_TAIL_BYTES: Final = 64
_MAX_BOXES: Final = 64

_PNG: Final = b"\x89PNG\r\n\x1a\n"
_PNG_END: Final = b"\0\0\0\0IEND\xaeB`\x82"
"""https://www.w3.org/TR/png-3/#11IEND"""

_JPEG: Final = b"\xff\xd8\xff"
_JPEG_END: Final = b"\xff\xd9"
"""The marker EOI of ITU-T T.81, B.1.1.3. No coded data holds it, but a thumbnail before that does.
Anything may follow it: more pictures, the video of a motion photo, what editors add."""

_SEGMENT: Final = struct.Struct(">BBH")
_MARKS: Final = 0xFF
_START_OF_SCAN: Final = 0xDA
_LENGTH_BYTES: Final = 2
_MAX_SEGMENTS: Final = 4096
_PIECE_BYTES: Final = 1024**2
_MAX_PIECES: Final = 64

_GIF: Final = (b"GIF87a", b"GIF89a")
_GIF_END: Final = b";"
_RIFF: Final = struct.Struct("<4sI")
_BMP: Final = struct.Struct("<2sI")
_BOX: Final = struct.Struct(">I4s")
_PIXELS: Final = b"mdat"
_WIDE: Final = 1
_WIDE_BOX: Final = struct.Struct(">8xQ")
_FILLED_WITH: Final = b"\0\r\n"


def is_cut_off(file: BinaryIO) -> bool:
    """Whether it ends too early; False where that cannot be told."""
    size = file.seek(0, os.SEEK_END)
    head = _read(file, 0, _HEAD_BYTES)
    tail = _read(file, max(0, size - _TAIL_BYTES), _TAIL_BYTES)
    if head.startswith(_PNG):
        return _PNG_END not in tail
    if head.startswith(_JPEG):
        return _jpeg_goes_on(file)
    if head.startswith(_GIF):
        return not tail.rstrip(_FILLED_WITH).endswith(_GIF_END)
    if head.startswith(b"RIFF"):
        return _RIFF.size > len(head) or _RIFF.unpack_from(head)[1] + _RIFF.size > size
    if head.startswith(b"BM"):
        return _BMP.size > len(head) or _BMP.unpack_from(head)[1] > size
    return head[4:8] == b"ftyp" and _box_goes_on(file, size)


def _jpeg_goes_on(file: BinaryIO) -> bool:
    """Whether a JPEG's segments before its first scan, or that scan and all others, do not end."""
    start = len(_JPEG_END)
    for _ in range(_MAX_SEGMENTS):
        head = _read(file, start, _SEGMENT.size)
        if head.startswith(_JPEG_END):
            return False
        if len(head) < _SEGMENT.size:
            return True
        marks, marker, length = _SEGMENT.unpack(head)
        if marks != _MARKS or length < _LENGTH_BYTES:
            return False
        if marker == _MARKS:  # one of those that may stand before a marker
            start += 1
            continue
        start += _SEGMENT.size - _LENGTH_BYTES + length
        if marker == _START_OF_SCAN:
            return _is_without(_JPEG_END, file, start)
    return False


def _is_without(mark: bytes, file: BinaryIO, start: int) -> bool:
    file.seek(start)
    before = b""
    for _ in range(_MAX_PIECES):
        piece = file.read(_PIECE_BYTES)
        if not piece:
            return True
        if mark in before + piece:
            return False
        before = piece[-1:]
    return False


def _box_goes_on(file: BinaryIO, size: int) -> bool:
    """Whether a box of an AVIF ends behind the file, or that of the pixels would follow.

    Source: ISO/IEC 14496-12, 4.2
    """
    start, kind = 0, b""
    for _ in range(_MAX_BOXES):
        if start == size:
            return kind != _PIXELS  # the last one, as encoders write it
        head = _read(file, start, _HEAD_BYTES)
        if len(head) < _BOX.size:
            return True  # also where the last one ends behind the file
        length, kind = _BOX.unpack_from(head)
        if length == _WIDE and len(head) == _HEAD_BYTES:
            (length,) = _WIDE_BOX.unpack_from(head)
        if length < _BOX.size:  # to the end of the file, or no length
            return False
        start += length
    return False


def _read(file: BinaryIO, start: int, length: int) -> bytes:
    file.seek(start)
    return file.read(length)
