"""Detection of truncated image files, by the lengths of their parts or by the end marker of JPEG.

Only files that cannot be decoded are checked. A file with other damage, or with too many parts to
check, does not count as truncated. Other data, such as more images, may follow the image.
"""

import os
from collections.abc import Callable
from typing import BinaryIO, Final

from stillroom.formats import gif, isobmff, jpeg, png
from stillroom.formats.file_parts import LOOKS_OF_A_READ, BrokenHeader, CutOff, FileParts, at_most
from stillroom.formats.work_budget import TooMuchWork, WorkBudget

_HEAD_BYTES: Final = 16
_MAX_CHUNK_BYTES: Final = 2**31 - 1
_CRC_BYTES: Final = 4
_MAX_BOXES: Final = 64
_PIXELS: Final = b"mdat"
_JPEG_END: Final = b"\xff\xd9"  # ITU-T T.81, B.1.1.3: in thumbnails, too, but never in coded data
_PIECE_BYTES: Final = 1024**2
_MAX_BYTES: Final = 64 * _PIECE_BYTES


class _OpenFile(FileParts):
    def __init__(self, file: BinaryIO) -> None:
        size = file.seek(0, os.SEEK_END)
        super().__init__(size, size)
        self._file = file

    def _find_part(self, start: int, length: int) -> tuple[int, bytes]:
        self._file.seek(start)
        return start, self._file.read(length)


def is_cut_off(file: BinaryIO) -> bool:
    """Return True if an image file is certainly truncated, and False if this is not certain."""
    parts = _OpenFile(file)
    head = parts.bytes_at(0, min(_HEAD_BYTES, parts.size))
    for at, signature, check, max_reads in _CHECKS:
        if head.startswith(signature, at):
            parts.budget = WorkBudget(LOOKS_OF_A_READ * max_reads, _MAX_BYTES)
            try:
                return check(parts)
            except CutOff:
                return True
            except (BrokenHeader, TooMuchWork):
                return False
    return False


def _is_png_cut_off(parts: FileParts) -> bool:
    for kind, start, length in png.chunks(parts):
        if length > _MAX_CHUNK_BYTES or not kind.isalpha():
            return False
        if start + length + _CRC_BYTES > parts.size:
            return True
    return False


def _is_jpeg_cut_off(parts: FileParts) -> bool:
    *_, (_, start, _) = jpeg.segments(parts)
    while start + len(_JPEG_END) <= parts.size:
        piece = parts.bytes_at(start, min(_PIECE_BYTES, parts.size - start))
        if _JPEG_END in piece:
            return False
        start += len(piece) - 1  # the marker may be in two pieces
    return True


def _is_gif_cut_off(parts: FileParts) -> bool:
    gif.check_blocks(parts)
    return False


def _is_avif_cut_off(parts: FileParts) -> bool:
    start, end, kind = 0, 0, b""
    for box, _, until in at_most(_MAX_BOXES, isobmff.boxes(parts, 0, parts.size)):
        start, end, kind = end, until, box
    is_open = parts.bytes_at(start, 4) == bytes(4)  # a box without a length ends with the file
    return end < parts.size or (kind != _PIXELS and not is_open)  # encoders write the pixels last


_CHECKS: Final[tuple[tuple[int, bytes, Callable[[FileParts], bool], int], ...]] = (
    (0, png.SIGNATURE, _is_png_cut_off, 2**16),
    (0, jpeg.SIGNATURE, _is_jpeg_cut_off, 2**14),
    *((0, signature, _is_gif_cut_off, 2**18) for signature in gif.SIGNATURES),
    (0, b"RIFF", lambda parts: parts.numbers("<I", 4)[0] + 8 > parts.size, 1),
    (0, b"BM", lambda parts: parts.numbers("<I", 2)[0] > parts.size, 1),
    (4, b"ftyp", _is_avif_cut_off, 2**8),
)
"""One tuple per signature: offset, bytes, checking function and maximum number of its reads.

The maximum is enough for half a gigabyte of PNG pixels in chunks of 8 KiB (as libpng writes them),
and for 64 MiB of GIF pixels in blocks of 255 bytes."""
