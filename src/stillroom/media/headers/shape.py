"""How large a video is shown whose pixels are not square."""

from typing import Final

_PADDING: Final = 16
"""Pixels by which a side is filled up to whole blocks of an encoder, and a little more."""


def shown_size(coded: tuple[int, int], shown: tuple[int, int]) -> tuple[int, int]:
    """Coded pixels in the shape that they are to be shown in; no side becomes smaller.

    So do browsers (https://html.spec.whatwg.org/multipage/media.html#concept-video-intrinsic-width):
    a file may ask for twice the size, and says by that nothing about its pixels.

    Args:
        coded: Width and height in pixels; zeros where they are not known.
        shown: The same as the file asks for it, or a ratio; zeros where it does not.
    """
    (width, height), (across, down) = coded, shown
    if not width or not height or not across or not down:
        return shown if across and down else coded
    if 0 <= width - across < _PADDING and 0 <= height - down < _PADDING:
        return shown
    if across * height > width * down:
        return (height * across * 2 + down) // (down * 2), height
    return width, (width * down * 2 + across) // (across * 2)
