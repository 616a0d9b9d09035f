"""Strict parsing and normalization of the query parameters for thumbnails.

Queries for the same thumbnail are parsed to equal `Derivation` objects. Only a few thousand
different objects exist, so that no client can fill a cache with thumbnails of one image.
"""

import re
from dataclasses import dataclass
from typing import Annotated, Final, get_args

from stillroom.store.http.parameters import Parameter, build, choice, read_texts
from stillroom.wire.thumbnails import Fit, Format

# Supported widths and heights in pixels. Others are rounded up, or down if they are too large.
SIZES: Final = (64, 128, 256, 512, 1024, 2048)

DEFAULT_QUALITY: Final = 80
_QUALITY_STEP: Final = 10
_MAX_QUALITY: Final = 100

_NUMBER: Final = re.compile(r"0*([1-9][0-9]*)", re.ASCII)


def _parse_size(text: str) -> int:
    number = _NUMBER.fullmatch(text)
    if number is None:
        raise ValueError("must be a whole number of pixels, 1 or more")
    pixels = int(number[1][:5])  # five digits exceed the largest size
    return next((size for size in SIZES if pixels <= size), SIZES[-1])


def _parse_quality(text: str) -> int:
    number = _NUMBER.fullmatch(text)
    if number is None or int(number[1][:4]) > _MAX_QUALITY:
        raise ValueError("must be a whole number from 1 to 100")
    return -(-int(number[1]) // _QUALITY_STEP) * _QUALITY_STEP


def _pixels(side: str) -> Parameter:
    rounded = f"rounded up to {', '.join(map(str, SIZES[:-1]))} or {SIZES[-1]}"
    schema = {"type": "integer", "minimum": 1}
    return Parameter(_parse_size, schema, f"{side} of a thumbnail in pixels, {rounded}.")


_FIT: Final = choice(
    *get_args(Fit),
    description="`contain` (the default) shows the whole image, `cover` fills the box.",
)
_FORMAT: Final = choice(
    *get_args(Format), description="Format of the thumbnail; `webp` by default."
)
_QUALITY: Final = Parameter(
    _parse_quality,
    {"type": "integer", "minimum": 1, "maximum": _MAX_QUALITY},
    "Quality of the thumbnail, rounded up to a multiple of ten; 80 by default.",
)


@dataclass(frozen=True, slots=True)
class Derivation:
    """Query parameters for a thumbnail. A request with any of them gets a thumbnail.

    The OpenAPI document contains no defaults, because generated clients would send the defaults.

    Attributes:
        width: Width in pixels (one of `SIZES`) of the box into which the thumbnail must fit.
        height: Height in pixels of this box.
        fit: `contain` shows the whole image; `cover` fills the box and crops the image. Neither
            enlarges the image.
        quality: Multiple of ten up to 100; 0 for formats without a quality.
    """

    width: Annotated[int, _pixels("Width")] = 0
    height: Annotated[int, _pixels("Height")] = 0
    fit: Annotated[Fit, _FIT] = "contain"
    format: Annotated[Format, _FORMAT] = "webp"
    quality: Annotated[int, _QUALITY] = DEFAULT_QUALITY

    @property
    def content_type(self) -> str:
        """Content type of the thumbnail."""
        return f"image/{self.format}"


def parse_derivation(raw: bytes) -> Derivation | None:
    """Parse the query of an image request. Return None if it has no thumbnail parameters.

    Unknown parameters are ignored, since CDNs and web pages add some. For errors, see `build`.
    """
    texts = read_texts(raw, Derivation, has_foreign_names=True) if raw else None
    if not texts:
        return None
    parameters = build(Derivation, texts)
    return Derivation(
        width=parameters.width or SIZES[-1],
        height=parameters.height or SIZES[-1],
        # with only a width or a height, nothing is cropped
        fit=parameters.fit if parameters.width and parameters.height else "contain",
        format=parameters.format,
        quality=0 if parameters.format == "png" else parameters.quality,
    )
