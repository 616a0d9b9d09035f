"""The query of a search: its table for the OpenAPI document, and its strict reading."""

import base64
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, TypeVar

from stillroom.errors import InvalidParameter, InvalidPath
from stillroom.http.parameters import (
    DEFAULT_LIMIT,
    Parameter,
    Place,
    choice,
    limit_parameter,
    moment,
    or_null,
    read_query,
    visible_name,
)
from stillroom.http.query import PREFIX
from stillroom.paths import ImagePath, ImagePrefix

MAX_SEARCH_LIMIT: Final = 1000
MAX_SEARCH_TEXT: Final = 1000
"""Characters of one parameter."""

MAX_SEED: Final = 2**64 - 1

_DIGITS = re.compile(r"[0-9]{1,20}", re.ASCII)
_PLACE = re.compile(r"[0-9]{1,19}", re.ASCII)
_LAST_PLACE: Final = 2**63 - 1
_MAX_CURSOR: Final = 1400
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

Value = TypeVar("Value")


def _text(text: str, at: Place) -> str:
    if len(text) > MAX_SEARCH_TEXT:
        raise InvalidParameter(f"must have at most {MAX_SEARCH_TEXT} characters", at=at)
    return text


def _seed(text: str, at: Place) -> int:
    if not _DIGITS.fullmatch(text) or int(text) > MAX_SEED:
        raise InvalidParameter("must be a whole number, 0 to 2**64 - 1", at=at)
    return int(text)


def _time_ns(text: str, at: Place) -> int:
    since = moment(text, at) - _EPOCH
    return (since.days * 86_400 + since.seconds) * 10**9 + since.microseconds * 1000


_TEXT: Final = or_null(type="string", maxLength=MAX_SEARCH_TEXT)


def _text_parameter(name: str, description: str) -> Parameter[str]:
    return Parameter(name, _text, "", _TEXT, description)


def _optional(
    name: str, parse: Callable[[str, Place], Value], description: str, **schema: object
) -> Parameter[Value | None]:
    return Parameter(name, parse, None, or_null(**schema), description)


_Q: Final = _text_parameter(
    "q",
    "Words in the prompt, the path or the model; all must be there. In double quotes: a phrase.",
)
_PROMPT: Final = _text_parameter("prompt", "The same in the prompt alone.")
_MODEL: Final = _text_parameter("model", "Words that follow each other in the model's name.")
_LORA: Final = _text_parameter("lora", "Words that follow each other in the name of a LoRA.")
_SAMPLER: Final = _text_parameter("sampler", "The sampler's whole name, in any case.")
_TOOL: Final = _text_parameter("tool", "The tool's whole name, in any case.")
_SEED: Final = _optional(
    "seed", _seed, "Up to 2**64 - 1.", type="integer", minimum=0, maximum=MAX_SEED
)
_CONTENT_TYPE: Final = _optional(
    "content_type",
    visible_name,
    "Such as `image/png`.",
    type="string",
    pattern="^[!-~]{1,255}$",
)
_AI_MARK: Final[Parameter[str | None]] = choice(
    "ai_mark",
    "c2pa",
    "iptc",
    "both",
    "none",
    absent=None,
    description="Whether an image says that AI made it: this very answer.",
)
_SAVED_FROM: Final = _optional(
    "saved_from", _time_ns, "Then or later.", type="string", format="date-time"
)
_SAVED_BEFORE: Final = _optional(
    "saved_before", _time_ns, "Earlier.", type="string", format="date-time"
)
_SORT: Final[Parameter[str]] = choice(
    "sort",
    "-saved",
    "saved",
    "path",
    "-path",
    absent="-saved",
    description="By the time of the save or by path; `-` the other way round.",
)
_LIMIT: Final = limit_parameter("Images", MAX_SEARCH_LIMIT)
_CURSOR: Final = Parameter(
    "cursor",
    lambda text, _: text[: _MAX_CURSOR + 1],
    "",
    or_null(type="string", maxLength=_MAX_CURSOR),
    "`next` of the page before; all other parameters must be the same.",
)

SEARCH_QUERY: Final = (
    _Q,
    _PROMPT,
    _MODEL,
    _LORA,
    _SAMPLER,
    _SEED,
    _TOOL,
    _CONTENT_TYPE,
    _AI_MARK,
    PREFIX,
    _SAVED_FROM,
    _SAVED_BEFORE,
    _SORT,
    _LIMIT,
    _CURSOR,
)
"""Of a search."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchParameters:
    """What `GET /storage/search` was asked for; empty texts and None ask for nothing.

    Attributes:
        after: Where the page before ended: a path, or the place of a save.
    """

    q: str = ""
    prompt: str = ""
    model: str = ""
    lora: str = ""
    sampler: str = ""
    tool: str = ""
    seed: int | None = None
    content_type: str | None = None
    ai_mark: str | None = None
    prefix: ImagePrefix
    saved_from_ns: int | None = None
    saved_before_ns: int | None = None
    by_path: bool = False
    descending: bool = True
    limit: int = DEFAULT_LIMIT
    after: str | int | None = None


def parse_search_query(raw: bytes) -> SearchParameters:
    """Read the query of a search. Unknown parameters are left alone.

    Raises:
        InvalidPath: text that is not valid UTF-8, or a prefix that no path can have.
        InvalidParameter: a parameter given twice, or of the wrong form.
    """
    given = read_query(raw, SEARCH_QUERY)
    sort = _SORT.read(given)
    by_path = sort.endswith("path")
    cursor = _CURSOR.read(given)
    return SearchParameters(
        q=_Q.read(given),
        prompt=_PROMPT.read(given),
        model=_MODEL.read(given),
        lora=_LORA.read(given),
        sampler=_SAMPLER.read(given),
        tool=_TOOL.read(given),
        seed=_SEED.read(given),
        content_type=_CONTENT_TYPE.read(given),
        ai_mark=_AI_MARK.read(given),
        prefix=PREFIX.read(given),
        saved_from_ns=_SAVED_FROM.read(given),
        saved_before_ns=_SAVED_BEFORE.read(given),
        by_path=by_path,
        descending=sort.startswith("-"),
        limit=_LIMIT.read(given),
        after=_place(cursor, by_path=by_path) if cursor else None,
    )


def cursor_behind(place: str | int) -> str:
    """The cursor of the page behind a path, or behind the place of a save.

    It says only where the last image of a page stands that its reader has seen.
    """
    return base64.urlsafe_b64encode(str(place).encode()).decode().rstrip("=")


def _place(cursor: str, *, by_path: bool) -> str | int:
    try:
        text = base64.b64decode(
            cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True
        ).decode()
        if by_path:
            return ImagePath.parse(text).text
    except (ValueError, InvalidPath):  # binascii's and UTF-8's errors are values, too
        text = ""
    if by_path or not _PLACE.fullmatch(text) or int(text) > _LAST_PLACE:
        raise InvalidParameter(
            "must be `next` of a page with the same sort", at=("query", "cursor")
        )
    return int(text)
