"""JPEG XL: size from the codestream, bare or in a container."""

from stillroom.file_parts import BrokenHeader, boxes
from stillroom.media.headers.header_bytes import HeaderBytes


def size(header: HeaderBytes) -> tuple[int, int]:
    """ISO/IEC 18181-1, SizeHeader; bits come from the lowest on."""
    start = 0
    if header.bytes_at(0, 2) != b"\xff\x0a":
        start = _codestream(header)
    if header.bytes_at(start, 2) != b"\xff\x0a":
        raise BrokenHeader
    head = header.bytes_at(start + 2, min(9, header.size - start - 2))  # 67 bits at most
    bits = int.from_bytes(head, "little")

    def take(count: int) -> int:
        nonlocal bits
        taken = bits & (1 << count) - 1
        bits >>= count
        return taken

    small = take(1)

    def side() -> int:
        return 8 * (take(5) + 1) if small else take((9, 13, 18, 30)[take(2)]) + 1

    height = side()
    ratio = take(3)
    if ratio == 0:
        return side(), height
    across, down = ((1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))[ratio - 1]
    return height * across // down, height


def _codestream(header: HeaderBytes) -> int:
    """Where it begins in a container; `jxlp` has a number in front of it."""
    for kind, start, _ in boxes(header, 0, header.size):
        if kind in (b"jxlc", b"jxlp"):
            return start + (4 if kind == b"jxlp" else 0)
    raise BrokenHeader
