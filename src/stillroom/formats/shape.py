"""Display size of videos, whose pixels may not be square."""

from typing import Final

_PADDING: Final = 16
"""Limit of the number of pixels that encoders add to a side to fill whole blocks."""


def display_size(coded: tuple[int, int], display: tuple[int, int]) -> tuple[int, int]:
    """Return the coded size, with one side enlarged to match the display aspect ratio.

    Zeros mean unknown. If `display` only crops padding, return `display`; otherwise use its ratio:
    https://html.spec.whatwg.org/multipage/media.html#concept-video-intrinsic-width
    """
    (width, height), (across, down) = coded, display
    if not width or not height or not across or not down:
        return display if across and down else coded
    if 0 <= width - across < _PADDING and 0 <= height - down < _PADDING:
        return display
    if across * height > width * down:
        return (height * across * 2 + down) // (down * 2), height
    return width, (width * down * 2 + across) // (across * 2)
