"""GIF parser: width, height and blocks (https://www.w3.org/Graphics/GIF/spec-gif89a.txt)."""

from typing import Final

from stillroom.formats.file_parts import FileParts

SIGNATURES: Final = (b"GIF87a", b"GIF89a")
_EXTENSION: Final = 0x21
_IMAGE: Final = 0x2C


def size(parts: FileParts) -> tuple[int, int]:
    """Return the width and height of the image, which GIF calls the logical screen."""
    width, height = parts.numbers("<HH", 6)
    return width, height


def check_blocks(parts: FileParts) -> None:
    """Read the lengths of all blocks. Raises `CutOff` if the file ends before the last block."""
    at = 13 + _table_bytes(parts.numbers("B", 10)[0])
    while (kind := parts.numbers("B", at)[0]) in (_EXTENSION, _IMAGE):
        at += 2 if kind == _EXTENSION else 11 + _table_bytes(parts.numbers("B", at + 9)[0])
        while length := parts.numbers("B", at)[0]:
            at += 1 + length
        at += 1


def _table_bytes(flags: int) -> int:
    return 3 * 2 ** ((flags & 7) + 1) if flags & 0x80 else 0
