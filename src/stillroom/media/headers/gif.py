"""GIF parser: width and height of the logical screen."""

from stillroom.media.headers.header_bytes import HeaderBytes


def size(header: HeaderBytes) -> tuple[int, int]:
    """Return the image's width and height; see https://www.w3.org/Graphics/GIF/spec-gif89a.txt."""
    width, height = header.numbers("<HH", 6)
    return width, height
