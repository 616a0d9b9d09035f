"""Detection of truncated files, from the lengths of their parts or from a JPEG's end marker.

This check is for files that could not be decoded. Files with other damage, or with too many parts
to check, do not count as truncated. Other data may follow the image in a file: more images, the
video of a motion photo, or data that editors add.
"""

import os
import struct
from typing import BinaryIO, Final

_HEAD_BYTES: Final = 16
_MAX_BOXES: Final = 64

_PNG: Final = b"\x89PNG\r\n\x1a\n"
_PNG_END: Final = b"IEND"
_CHUNK: Final = struct.Struct(">I4s")
_CRC_BYTES: Final = 4
_MAX_CHUNK_BYTES: Final = 2**31 - 1
_MAX_CHUNKS: Final = 2**16
"""Maximum number of chunks to check: half a gigabyte of pixels in 8 KiB chunks (libpng)."""

_JPEG: Final = b"\xff\xd8\xff"
_JPEG_END: Final = b"\xff\xd9"
"""End marker EOI (ITU-T T.81, B.1.1.3). Embedded thumbnails contain it, coded data does not."""

_SEGMENT: Final = struct.Struct(">BBH")
_MARKS: Final = 0xFF
_START_OF_SCAN: Final = 0xDA
_LENGTH_BYTES: Final = 2
_MAX_SEGMENTS: Final = 4096
_PIECE_BYTES: Final = 1024**2
_MAX_PIECES: Final = 64

_GIF: Final = (b"GIF87a", b"GIF89a")
_SCREEN_BYTES: Final = 13
_EXTENSION: Final = 0x21
_EXTENSION_BYTES: Final = 2
_IMAGE: Final = 0x2C
_IMAGE_BYTES: Final = 10
_CODE_SIZE_BYTES: Final = 1
_HAS_TABLE: Final = 0x80
_TABLE_SIZE: Final = 0x07
_MAX_BLOCKS: Final = 2**18
"""Maximum number of blocks to check: 64 MiB in blocks of 255 bytes."""

_RIFF: Final = struct.Struct("<4sI")
_BMP: Final = struct.Struct("<2sI")
_BOX: Final = struct.Struct(">I4s")
_PIXELS: Final = b"mdat"
_WIDE: Final = 1
_WIDE_BOX: Final = struct.Struct(">8xQ")


def is_cut_off(file: BinaryIO) -> bool:
    """Return True if an image file is certainly truncated, else False."""
    size = file.seek(0, os.SEEK_END)
    head = _read(file, 0, _HEAD_BYTES)
    if head.startswith(_PNG):
        return _is_png_cut_off(file, size)
    if head.startswith(_JPEG):
        return _is_jpeg_cut_off(file)
    if head.startswith(_GIF):
        return len(head) < _SCREEN_BYTES or _is_gif_cut_off(file, head)
    if head.startswith(b"RIFF"):
        return _RIFF.size > len(head) or _RIFF.unpack_from(head)[1] + _RIFF.size > size
    if head.startswith(b"BM"):
        return _BMP.size > len(head) or _BMP.unpack_from(head)[1] > size
    return head[4:8] == b"ftyp" and _is_avif_cut_off(file, size)


def _is_png_cut_off(file: BinaryIO, size: int) -> bool:
    """Return whether a PNG is truncated; see https://www.w3.org/TR/png-3/#5Chunk-layout."""
    start = len(_PNG)
    for _ in range(_MAX_CHUNKS):
        head = _read(file, start, _CHUNK.size)
        if len(head) < _CHUNK.size:
            return True
        length, kind = _CHUNK.unpack(head)
        if length > _MAX_CHUNK_BYTES or not kind.isalpha():
            return False
        start += _CHUNK.size + length + _CRC_BYTES
        if start > size:
            return True
        if kind == _PNG_END:
            return False
    return False


def _is_gif_cut_off(file: BinaryIO, screen: bytes) -> bool:
    """Return whether a GIF is truncated; see https://www.w3.org/Graphics/GIF/spec-gif89a.txt."""
    start = _SCREEN_BYTES + _table_bytes(screen[10])
    in_data = False
    for _ in range(_MAX_BLOCKS):
        head = _read(file, start, _IMAGE_BYTES)
        if not head:
            return True
        if in_data:
            start += 1 + head[0]
            in_data = head[0] > 0
        elif head[0] == _EXTENSION:
            start += _EXTENSION_BYTES
            in_data = True
        elif head[0] == _IMAGE:
            if len(head) < _IMAGE_BYTES:
                return True
            start += _IMAGE_BYTES + _table_bytes(head[9]) + _CODE_SIZE_BYTES
            in_data = True
        else:
            return False  # the trailer, or an invalid block
    return False


def _table_bytes(packed: int) -> int:
    """Return the size in bytes of a GIF's colour table, from the flags in `packed`."""
    return 3 * 2 ** ((packed & _TABLE_SIZE) + 1) if packed & _HAS_TABLE else 0


def _is_jpeg_cut_off(file: BinaryIO) -> bool:
    """Return whether a JPEG ends before its first scan, or has no end marker after the scan."""
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
        if marker == _MARKS:  # a fill byte before a marker
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


def _is_avif_cut_off(file: BinaryIO, size: int) -> bool:
    """Return whether an AVIF is truncated; see ISO/IEC 14496-12, 4.2."""
    start, kind = 0, b""
    for _ in range(_MAX_BOXES):
        if start == size:
            return kind != _PIXELS  # encoders write the pixels last
        head = _read(file, start, _HEAD_BYTES)
        if len(head) < _BOX.size:
            return True  # the previous box extends to or beyond the end of the file
        length, kind = _BOX.unpack_from(head)
        if length == _WIDE and len(head) == _HEAD_BYTES:
            (length,) = _WIDE_BOX.unpack_from(head)
        if length < _BOX.size:  # 0 means up to the end of the file; other lengths are invalid
            return False
        start += length
    return False


def _read(file: BinaryIO, start: int, length: int) -> bytes:
    file.seek(start)
    return file.read(length)
