"""The query of a derived image: read strictly, and brought into one spelling.

Requests that come to the same picture come to the same `Derivation`, and there are some
thousands of them in all, so that no client can fill a cache with one picture.
"""

import re
from dataclasses import dataclass
from typing import Final, Literal, TypeVar, get_args
from urllib.parse import unquote_to_bytes

from stillroom.errors import InvalidParameter
from stillroom.http.parameters import Parameter, Place
from stillroom.paths import decode_query_text

SIZES: Final = (64, 128, 256, 512, 1024, 2048)
"""Pixels of a side; what is asked for counts as the next of these, and more as the last."""

DEFAULT_QUALITY: Final = 80
_QUALITY_STEP: Final = 10
_MAX_QUALITY: Final = 100

Fit = Literal["contain", "cover"]
Format = Literal["webp", "jpeg", "png"]
Choice = TypeVar("Choice", Fit, Format)

_NUMBER: Final = re.compile(r"0*([1-9][0-9]*)", re.ASCII)


@dataclass(frozen=True, slots=True)
class Derivation:
    """What is to be made of an image.

    Attributes:
        width: The box, in pixels; one of `SIZES`. A side that was not asked for is the largest.
        height: The same.
        fit: `contain` keeps all of the image within the box; `cover` fills the box and cuts
            off what hangs over. Neither enlarges.
        format: Of the result.
        quality: 10 to 100 in tens; 0 where the format has none.
    """

    width: int
    height: int
    fit: Fit
    format: Format
    quality: int

    @property
    def content_type(self) -> str:
        """Of the result."""
        return f"image/{self.format}"


def _size(text: str, at: Place) -> int:
    number = _NUMBER.fullmatch(text)
    if number is None:
        raise InvalidParameter("must be a whole number of pixels, 1 or more", at=at)
    pixels = int(number[1][:5])  # five digits are more than counts
    return next((size for size in SIZES if pixels <= size), SIZES[-1])


def _quality_of(text: str, at: Place) -> int:
    number = _NUMBER.fullmatch(text)
    if number is None or int(number[1][:4]) > _MAX_QUALITY:
        raise InvalidParameter("must be a whole number from 1 to 100", at=at)
    return -(-int(number[1]) // _QUALITY_STEP) * _QUALITY_STEP


def _choice(name: str, allowed: tuple[Choice, ...], description: str) -> Parameter[Choice]:
    """The first of those `allowed` is what counts without it."""

    def parse(text: str, at: Place) -> Choice:
        for one in allowed:
            if text == one:
                return one
        raise InvalidParameter(f"must be one of {', '.join(allowed)}", at=at)

    schema = {"type": "string", "enum": list(allowed)}
    return Parameter(name, parse, allowed[0], schema, description)


_PIXELS: Final = {"type": "integer", "minimum": 1}
_NEXT: Final = f"counts as the next of {', '.join(map(str, SIZES[:-1]))} and {SIZES[-1]}"
_WIDTH: Final[Parameter[int | None]] = Parameter(
    "width", _size, None, _PIXELS, f"Pixels of a thumbnail; {_NEXT}."
)
_HEIGHT: Final[Parameter[int | None]] = Parameter(
    "height", _size, None, _PIXELS, f"Pixels, as `width`; {_NEXT}."
)
_FITS: Final[tuple[Fit, ...]] = get_args(Fit)
_FIT: Final = _choice(
    "fit", _FITS, "`contain` (without it) shows all of the image, `cover` fills the box."
)
_FORMATS: Final[tuple[Format, ...]] = get_args(Format)
_FORMAT: Final = _choice("format", _FORMATS, "Of the picture; `webp` without it.")
_QUALITY: Final = Parameter(
    "quality",
    _quality_of,
    DEFAULT_QUALITY,
    {"type": "integer", "minimum": 1, "maximum": _MAX_QUALITY},
    "Counts as the next ten; 80 without it.",
)
DERIVATION_QUERY: Final = (_WIDTH, _HEIGHT, _FIT, _FORMAT, _QUALITY)
"""None has a default in the OpenAPI document: clients made from it send defaults, and any of these
makes a GET one for a derived image."""

_NAMES: Final = {parameter.name.encode(): parameter.name for parameter in DERIVATION_QUERY}


def parse_derivation(raw: bytes) -> Derivation | None:
    """What the query of a GET or HEAD asks for; None: the image as it is.

    Other parameters, whatever they are, are left alone.

    Raises:
        InvalidPath: a value that is not valid UTF-8.
        InvalidParameter: a parameter given twice, or of the wrong form.
    """
    given = _given(raw)
    if not given:
        return None
    width, height = _WIDTH.read(given), _HEIGHT.read(given)
    fit, form, quality = _FIT.read(given), _FORMAT.read(given), _QUALITY.read(given)
    both = width is not None and height is not None
    return Derivation(
        width=width or SIZES[-1],
        height=height or SIZES[-1],
        fit=fit if both else "contain",  # one side alone leaves nothing to cut off
        format=form,
        quality=0 if form == "png" else quality,
    )


def _given(raw: bytes) -> dict[str, str]:
    given: dict[str, str] = {}
    for pair in raw.split(b"&") if raw else ():
        raw_name, _, raw_value = pair.partition(b"=")
        # Lenient, unlike `read_query`: a CDN's or a page's own parameters may be of any form.
        name = _NAMES.get(unquote_to_bytes(raw_name))
        if name is None:
            continue
        if name in given:
            raise InvalidParameter("given more than once", at=("query", name))
        given[name] = decode_query_text(raw_value, at=("query", name))
    return given
