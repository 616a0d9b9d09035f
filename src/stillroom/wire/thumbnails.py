"""Values of thumbnail parameters."""

from typing import Final, Literal

Fit = Literal["contain", "cover"]
Format = Literal["webp", "jpeg", "png"]

POSTER_SUFFIX: Final = ".poster.webp"
"""Suffix for the path of a poster: the preview of a video whose frames cannot be decoded."""
