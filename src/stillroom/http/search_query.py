"""Query parameters of the search: table for the OpenAPI document, and parser."""

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

_POSITION = re.compile(r"[0-9]{1,19}", re.ASCII)
_MAX_POSITION: Final = 2**63 - 1
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
    "saved_from", _time_ns, "Saved at this time or later.", type="string", format="date-time"
)
_SAVED_BEFORE: Final = optional(
    "saved_before", _time_ns, "Saved before this time.", type="string", format="date-time"
)
_SORT: Final[Parameter[str]] = choice(
    "sort",
    "-saved",
    "saved",
    "path",
    "-path",
    absent="-saved",
    description="Sorts by the time of the save or by path; `-` reverses the order.",
)
_LIMIT: Final = limit_parameter("Images", MAX_SEARCH_LIMIT)
_CURSOR: Final = Parameter(
    "cursor",
    lambda text, _: text[: _MAX_CURSOR + 1],
    "",
    or_null(type="string", maxLength=_MAX_CURSOR),
    "`next` of the previous page; all other parameters must be the same.",
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
"""Query parameters of the search."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchParameters:
    """Parsed query of `GET /storage/search`. Filters that are None accept any value.

    Attributes:
        after: Last entry on the previous page: a path, or a save's position in the order of saves.
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
    """Parse the query of the search. Unknown parameters are ignored.

    Raises:
        InvalidPath: text is not valid UTF-8, or no path can begin with the prefix.
        InvalidParameter: a parameter is repeated or has an invalid value.
    """
    texts = read_query(
        raw, [parameter for parameter in SEARCH_QUERY if parameter is not TAG_FILTER]
    )
    sort = _SORT.read(texts)
    by_path = sort.endswith("path")
    cursor = _CURSOR.read(texts)
    return SearchParameters(
        facts=read_facts(texts),
        tags=read_texts(raw, TAG_FILTER),
        content_type=_CONTENT_TYPE.read(texts),
        prefix=PREFIX.read(texts),
        saved_from_ns=_SAVED_FROM.read(texts),
        saved_before_ns=_SAVED_BEFORE.read(texts),
        by_path=by_path,
        descending=sort.startswith("-"),
        limit=_LIMIT.read(texts),
        after=_parse_cursor(cursor, by_path=by_path) if cursor else None,
    )


def cursor_behind(place: str | int) -> str:
    """Return the cursor for the page after a path, or after a save's position.

    The cursor contains only data about the last image on the page that the client has received.
    """
    return base64.urlsafe_b64encode(str(place).encode()).decode().rstrip("=")


def _parse_cursor(cursor: str, *, by_path: bool) -> str | int:
    try:
        text = base64.b64decode(
            cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True
        ).decode()
        if by_path:
            return ImagePath.parse(text).text
    except (ValueError, InvalidPath):  # binascii.Error and UnicodeDecodeError are ValueErrors
        text = ""
    if by_path or not _POSITION.fullmatch(text) or int(text) > _MAX_POSITION:
        raise InvalidParameter(
            "must be the `next` of a page with the same sort", at=("query", "cursor")
        )
    return int(text)
