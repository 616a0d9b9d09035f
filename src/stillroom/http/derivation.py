"""Strict parsing and normalisation of thumbnail parameters.

Requests for the same thumbnail result in equal `Derivation` values. There are only a few thousand
different values, so that no client can fill a cache with thumbnails of one image.
"""

import re
from dataclasses import dataclass
from typing import Final, Literal, TypeVar, get_args
from urllib.parse import unquote_to_bytes

from stillroom.errors import InvalidParameter
from stillroom.http.parameters import Parameter, Place
from stillroom.paths import decode_query_text

SIZES: Final = (64, 128, 256, 512, 1024, 2048)
"""Supported widths and heights in pixels. Other values are rounded up, at most to the last."""

DEFAULT_QUALITY: Final = 80
_QUALITY_STEP: Final = 10
_MAX_QUALITY: Final = 100

Fit = Literal["contain", "cover"]
Format = Literal["webp", "jpeg", "png"]
Choice = TypeVar("Choice", Fit, Format)

_NUMBER: Final = re.compile(r"0*([1-9][0-9]*)", re.ASCII)


@dataclass(frozen=True, slots=True)
class Derivation:
    """Normalised parameters of a thumbnail.

    Attributes:
        width: Width of the box in pixels; one of `SIZES`, by default the largest.
        height: Height of the box in pixels; also one of `SIZES`.
        fit: `contain` scales the image to fit into the box; `cover` fills the box and crops the
            image. Neither enlarges it.
        format: Image format.
        quality: Multiple of ten up to 100; 0 for formats without a quality.
    """

    width: int
    height: int
    fit: Fit
    format: Format
    quality: int

    @property
    def content_type(self) -> str:
        """Content type of the thumbnail."""
        return f"image/{self.format}"


def _parse_size(text: str, at: Place) -> int:
    number = _NUMBER.fullmatch(text)
    if number is None:
        raise InvalidParameter("must be a whole number of pixels, 1 or more", at=at)
    pixels = int(number[1][:5])  # five digits exceed the largest size
    return next((size for size in SIZES if pixels <= size), SIZES[-1])


def _parse_quality(text: str, at: Place) -> int:
    number = _NUMBER.fullmatch(text)
    if number is None or int(number[1][:4]) > _MAX_QUALITY:
        raise InvalidParameter("must be a whole number from 1 to 100", at=at)
    return -(-int(number[1]) // _QUALITY_STEP) * _QUALITY_STEP


def _choice(name: str, allowed: tuple[Choice, ...], description: str) -> Parameter[Choice]:
    """Return a parameter with the `allowed` values. The first one is the default."""

    def parse(text: str, at: Place) -> Choice:
        for value in allowed:
            if text == value:
                return value
        raise InvalidParameter(f"must be one of {', '.join(allowed)}", at=at)

    schema = {"type": "string", "enum": list(allowed)}
    return Parameter(name, parse, allowed[0], schema, description)


_PIXELS: Final = {"type": "integer", "minimum": 1}
_ROUNDING: Final = f"rounded up to {', '.join(map(str, SIZES[:-1]))} or {SIZES[-1]}"
_WIDTH: Final[Parameter[int | None]] = Parameter(
    "width", _parse_size, None, _PIXELS, f"Width of a thumbnail in pixels, {_ROUNDING}."
)
_HEIGHT: Final[Parameter[int | None]] = Parameter(
    "height", _parse_size, None, _PIXELS, f"Height of a thumbnail in pixels, {_ROUNDING}."
)
_FITS: Final[tuple[Fit, ...]] = get_args(Fit)
_FIT: Final = _choice(
    "fit", _FITS, "`contain` (the default) shows the whole image, `cover` fills the box."
)
_FORMATS: Final[tuple[Format, ...]] = get_args(Format)
_FORMAT: Final = _choice("format", _FORMATS, "Format of the thumbnail; `webp` by default.")
_QUALITY: Final = Parameter(
    "quality",
    _parse_quality,
    DEFAULT_QUALITY,
    {"type": "integer", "minimum": 1, "maximum": _MAX_QUALITY},
    "Quality of the thumbnail, rounded up to a multiple of ten; 80 by default.",
)
DERIVATION_QUERY: Final = (_WIDTH, _HEIGHT, _FIT, _FORMAT, _QUALITY)
"""Thumbnail parameters. They have no defaults in the OpenAPI document, because generated clients
send default values, and each parameter turns a GET into a request for a thumbnail."""

_NAMES: Final = {parameter.name.encode(): parameter.name for parameter in DERIVATION_QUERY}


def parse_derivation(raw: bytes) -> Derivation | None:
    """Parse the query of a GET or HEAD. Return None if it has no thumbnail parameters.

    Other parameters are ignored.

    Raises:
        InvalidPath: a value is not valid UTF-8.
        InvalidParameter: a parameter is repeated or has an invalid value.
    """
    texts = _read_texts(raw)
    if not texts:
        return None
    width, height = _WIDTH.read(texts), _HEIGHT.read(texts)
    fit, form, quality = _FIT.read(texts), _FORMAT.read(texts), _QUALITY.read(texts)
    both = width is not None and height is not None
    return Derivation(
        width=width or SIZES[-1],
        height=height or SIZES[-1],
        fit=fit if both else "contain",  # with only a width or a height, nothing is cropped
        format=form,
        quality=0 if form == "png" else quality,
    )


def _read_texts(raw: bytes) -> dict[str, str]:
    texts: dict[str, str] = {}
    for pair in raw.split(b"&") if raw else ():
        raw_name, _, raw_value = pair.partition(b"=")
        # Unlike in `read_query`, invalid names are ignored, since CDNs and pages add parameters.
        name = _NAMES.get(unquote_to_bytes(raw_name))
        if name is None:
            continue
        if name in texts:
            raise InvalidParameter("given more than once", at=("query", name))
        texts[name] = decode_query_text(raw_value, at=("query", name))
    return texts
