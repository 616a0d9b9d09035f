"""The query of a search: its table for the OpenAPI document, and its strict reading."""

import base64
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from stillroom.errors import InvalidParameter, InvalidPath
from stillroom.http.facts_query import FACTS_QUERY, FactsParameters, read_facts
from stillroom.http.parameters import (
    DEFAULT_LIMIT,
    Parameter,
    Place,
    choice,
    limit_parameter,
    moment,
    optional,
    or_null,
    read_query,
    read_texts,
    visible_name,
)
from stillroom.http.query import PREFIX, TAG_FILTER
from stillroom.paths import ImagePath, ImagePrefix

MAX_SEARCH_LIMIT: Final = 1000

_PLACE = re.compile(r"[0-9]{1,19}", re.ASCII)
_LAST_PLACE: Final = 2**63 - 1
_MAX_CURSOR: Final = 1400
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def _time_ns(text: str, at: Place) -> int:
    since = moment(text, at) - _EPOCH
    return (since.days * 86_400 + since.seconds) * 10**9 + since.microseconds * 1000


_CONTENT_TYPE: Final = optional(
    "content_type",
    visible_name,
    "Such as `image/png`.",
    type="string",
    pattern="^[!-~]{1,255}$",
)
_SAVED_FROM: Final = optional(
    "saved_from", _time_ns, "Then or later.", type="string", format="date-time"
)
_SAVED_BEFORE: Final = optional(
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
    *FACTS_QUERY,
    TAG_FILTER,
    _CONTENT_TYPE,
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
    """What `GET /storage/search` was asked for; None asks for nothing.

    Attributes:
        after: Where the page before ended: a path, or the place of a save.
    """

    facts: FactsParameters
    tags: tuple[str, ...] = ()
    content_type: str | None = None
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
    given = read_query(raw, [one for one in SEARCH_QUERY if one is not TAG_FILTER])
    sort = _SORT.read(given)
    by_path = sort.endswith("path")
    cursor = _CURSOR.read(given)
    return SearchParameters(
        facts=read_facts(given),
        tags=read_texts(raw, TAG_FILTER),
        content_type=_CONTENT_TYPE.read(given),
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
