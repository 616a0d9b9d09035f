"""The query of a derived image: read strictly, and brought into one spelling.

Requests that come to the same picture come to the same `Derivation`, and there are some
thousands of them in all, so that no client can fill a cache with one picture.
"""

import re
from dataclasses import dataclass
from typing import Final, Literal, cast, get_args
from urllib.parse import unquote_to_bytes

from stillroom.errors import InvalidParameter
from stillroom.paths import decode_query_text

SIZES: Final = (64, 128, 256, 512, 1024, 2048)
"""Pixels of a side; what is asked for counts as the next of these, and more as the last."""

DEFAULT_QUALITY: Final = 80
_QUALITY_STEP: Final = 10
_MAX_QUALITY: Final = 100

Fit = Literal["contain", "cover"]
Format = Literal["webp", "jpeg", "png"]

_NAMES: Final = frozenset((b"width", b"height", b"fit", b"format", b"quality"))
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
    width, height = _size(given, "width"), _size(given, "height")
    fit = _choice(given, "fit", get_args(Fit))
    both = width is not None and height is not None
    form = cast("Format", _choice(given, "format", get_args(Format)))
    quality = _quality(given.get("quality"))
    return Derivation(
        width=width or SIZES[-1],
        height=height or SIZES[-1],
        fit=cast("Fit", fit) if both else "contain",  # one side alone leaves nothing to cut off
        format=form,
        quality=0 if form == "png" else quality,
    )


def _given(raw: bytes) -> dict[str, str]:
    given: dict[str, str] = {}
    for pair in raw.split(b"&") if raw else ():
        raw_name, _, raw_value = pair.partition(b"=")
        name = unquote_to_bytes(raw_name)
        if name not in _NAMES:
            continue
        text = name.decode("ascii")
        if text in given:
            raise InvalidParameter("given more than once", at=("query", text))
        given[text] = decode_query_text(raw_value, at=("query", text))
    return given


def _size(given: dict[str, str], name: str) -> int | None:
    text = given.get(name)
    if text is None:
        return None
    number = _NUMBER.fullmatch(text)
    if number is None:
        raise InvalidParameter("a whole number of pixels from 1 on", at=("query", name))
    pixels = int(number[1][:5])  # five digits are more than counts
    return next((size for size in SIZES if pixels <= size), SIZES[-1])


def _quality(text: str | None) -> int:
    if text is None:
        return DEFAULT_QUALITY
    number = _NUMBER.fullmatch(text)
    if number is None or int(number[1][:4]) > _MAX_QUALITY:
        raise InvalidParameter("a whole number from 1 to 100", at=("query", "quality"))
    return -(-int(number[1]) // _QUALITY_STEP) * _QUALITY_STEP


def _choice(given: dict[str, str], name: str, allowed: tuple[str, ...]) -> str:
    text = given.get(name, allowed[0])
    if text not in allowed:
        raise InvalidParameter(f"one of {', '.join(allowed)}", at=("query", name))
    return text
