"""JPEG XL parser: width and height from the codestream, with or without a container."""

from stillroom.formats.file_parts import BrokenHeader, FileParts
from stillroom.formats.isobmff import find_box


def size(parts: FileParts) -> tuple[int, int]:
    """Return the width and height from the SizeHeader of the codestream (ISO/IEC 18181-1)."""
    start = 0
    if parts.bytes_at(0, 2) != b"\xff\x0a":
        kind, start, _ = find_box(parts, 0, parts.size, b"jxlc", b"jxlp")
        start += 4 if kind == b"jxlp" else 0
    if parts.bytes_at(start, 2) != b"\xff\x0a":
        raise BrokenHeader
    head = parts.bytes_at(start + 2, min(9, parts.size - start - 2))  # 67 bits at most
    bits = int.from_bytes(head, "little")

    def read_bits(count: int) -> int:
        nonlocal bits
        value = bits & (1 << count) - 1
        bits >>= count
        return value

    small = read_bits(1)

    def read_side() -> int:
        if small:
            return 8 * (read_bits(5) + 1)
        return read_bits((9, 13, 18, 30)[read_bits(2)]) + 1

    height = read_side()
    ratio = read_bits(3)
    if ratio == 0:
        return read_side(), height
    across, down = ((1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))[ratio - 1]
    return height * across // down, height
