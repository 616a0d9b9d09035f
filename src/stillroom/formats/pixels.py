"""Properties of pixels: names of colour profiles (ICC, ITU-T H.273), and display size of videos."""

import contextlib
import struct
from collections.abc import Mapping
from typing import Final

_MAX_NAME: Final = 100
_PADDING: Final = 16  # maximum number of pixels that encoders add to a side to fill whole blocks
SRGB: Final = "sRGB"
CODED_SPACES: Final[Mapping[tuple[int, ...], str]] = {
    (1, 1): "Rec. 709",
    (1, 13): SRGB,
    (9, 1): "Rec. 2020",
    (9, 14): "Rec. 2020",
    (9, 15): "Rec. 2020",
    (9, 16): "Rec. 2100 PQ",
    (9, 18): "Rec. 2100 HLG",
    (12, 13): "Display P3",
}
"""Names of colour spaces by the codes of primaries and transfer function in boxes cICP and nclx:
https://www.itu.int/rec/T-REC-H.273"""


def icc_name(profile: bytes) -> str | None:
    """Return the name in an ICC profile (ICC.1-2022-05: 7.3, 9.2.41), or None if it has none."""
    with contextlib.suppress(struct.error):
        (count,) = struct.unpack_from(">I", profile, 128)
        if profile[36:40] != b"acsp":
            return None
        for index in range(min(count, 100)):
            tag, start, length = struct.unpack_from(">4sII", profile, 132 + 12 * index)
            if tag == b"desc":
                return _icc_text(profile[start : start + length])
    return None


def printable(name: str | None) -> str | None:
    """Return an untrusted name without non-printable characters, truncated; None if empty."""
    clean = "".join(char for char in (name or "")[: 4 * _MAX_NAME] if char.isprintable()).strip()
    return clean[:_MAX_NAME] or None


def _icc_text(entry: bytes) -> str | None:
    if entry[:4] == b"desc":
        (length,) = struct.unpack_from(">I", entry, 8)
        return entry[12 : 12 + length].partition(b"\0")[0].decode("latin-1")
    if entry[:4] == b"mluc":
        length, start = struct.unpack_from(">II", entry, 20)
        return entry[start : start + min(length, 8 * _MAX_NAME)].decode("utf-16-be", "replace")
    return None


def display_size(coded: tuple[int, int], display: tuple[int, int]) -> tuple[int, int]:
    """Return the size at which a video is displayed.

    One side of the coded size is enlarged, so that the aspect ratio is that of `display`. If
    `display` only crops padding, it is returned unchanged. If one size has a 0, use the other:
    https://html.spec.whatwg.org/multipage/media.html#concept-video-intrinsic-width
    """
    (width, height), (across, down) = coded, display
    if not all((*coded, *display)):
        return display if all(display) else coded
    if 0 <= width - across < _PADDING and 0 <= height - down < _PADDING:
        return display
    if across * height > width * down:
        return (height * across * 2 + down) // (down * 2), height
    return width, (width * down * 2 + across) // (across * 2)
