"""Values of thumbnail parameters."""

from typing import Literal

Fit = Literal["contain", "cover"]
Format = Literal["webp", "jpeg", "png"]
