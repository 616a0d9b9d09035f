"""Query parameters of the image search, and cursors, with which clients get the next page."""

import base64
import re
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Final

from stillroom.errors import InvalidParameter, InvalidPath
from stillroom.features.search.facts_query import FactsParameters, Tags
from stillroom.features.search.values import Place
from stillroom.paths import ImagePath
from stillroom.store.http import parameters

MAX_SEARCH_LIMIT: Final = 1000

_SORTS: Final = ("-saved", "saved", "path", "-path", "size", "-size")
_POSITION = re.compile(r"(?:([0-9]{1,19})\.)?([0-9]{1,19})", re.ASCII)
_MAX_POSITION: Final = 2**63 - 1
_MAX_CURSOR: Final = 1400


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchFilters:
    """Query parameters that select images. A filter that is None matches all images."""

    facts: FactsParameters
    tags: Tags = ()
    content_type: parameters.ContentType = None
    prefix: parameters.Prefix = parameters.EVERY_PATH
    saved_from: Annotated[datetime | None, parameters.moment("Saved at this time or later.")] = None
    saved_before: Annotated[datetime | None, parameters.moment("Saved before this time.")] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchParameters(SearchFilters):
    """Query parameters of `GET /storage/search`."""

    sort: Annotated[
        str,
        parameters.choice(
            *_SORTS,
            default="-saved",
            description="Sorts by the time of the save, path or size; `-` reverses the order.",
        ),
    ] = "-saved"
    limit: Annotated[int, parameters.page_size("Images", MAX_SEARCH_LIMIT)] = (
        parameters.DEFAULT_LIMIT
    )
    cursor: Annotated[
        str,
        parameters.Parameter(
            lambda text: text[: _MAX_CURSOR + 1],
            parameters.or_null(type="string", maxLength=_MAX_CURSOR),
            "`next` of the previous page; all other parameters must be the same.",
        ),
    ] = ""

    def __post_init__(self) -> None:
        _ = self.after  # check the cursor

    @property
    def order(self) -> str:
        """Property by which images are sorted: `saved`, `path` or `size`."""
        return self.sort.removeprefix("-")

    @property
    def after(self) -> Place | None:
        """Position of the last image on the previous page, or None on the first page.

        It is `SearchQuery.after`, but with the path of the image instead of its storage key.
        """
        return _parse_cursor(self.cursor, self.order) if self.cursor else None


def cursor_behind(place: Place) -> str:
    """Return the cursor for the page that follows an image.

    `place` is the position of the image, as in `SearchQuery.after`, but with its path instead of
    its storage key. The client knows the image already, so the cursor reveals nothing new.
    """
    text = ".".join(map(str, place)) if isinstance(place, tuple) else str(place)
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _parse_cursor(cursor: str, order: str) -> Place:
    try:
        text = base64.b64decode(
            cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True
        ).decode()
        if order == "path":
            return ImagePath.parse(text).text
    except (ValueError, InvalidPath):  # binascii.Error and UnicodeDecodeError are ValueErrors
        text = ""
    match = _POSITION.fullmatch(text)
    numbers = [int(number) for number in match.groups() if number] if match else []
    if len(numbers) != 1 + (order == "size") or max(numbers) > _MAX_POSITION:
        raise InvalidParameter(
            "must be the value of `next` from a page with the same sort order",
            at=("query", "cursor"),
        )
    return (numbers[0], numbers[1]) if order == "size" else numbers[0]
