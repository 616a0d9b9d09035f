"""Search for images: filters, query parameters and pages of results."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Final, Literal

from stillroom.errors import InvalidParameter
from stillroom.generation.facets import FactsFilters
from stillroom.paths import ImagePrefix

SearchSort = Literal["-saved", "saved", "-path", "path"]

_A_PAGE: Final = 100


class SearchFilters(FactsFilters, total=False):
    """Filters for a search. An image must match all of them; see docs/search.md.

    Attributes:
        content_type: Content type, such as `image/png`.
        prefix: Text with which the path begins.
        saved_from: Earliest time of the last save (inclusive, timezone-aware).
        saved_before: Latest time of the last save (exclusive, timezone-aware).
        tag: One or several tags that the image has in the media library. A leading `-` excludes a
            tag.
        sort: Sort order; `-saved` is newest first.
    """

    content_type: str
    prefix: str
    saved_from: datetime
    saved_before: datetime
    tag: str | Iterable[str]
    sort: SearchSort


Query = Mapping[str, str | list[str]]
"""Query parameters by name. The values of a repeated parameter are a list."""


def search_query(q: str, filters: SearchFilters, limit: int | None) -> Query:
    """Return the query parameters for the first page of a search. Later pages also need `cursor`.

    Raises:
        InvalidPath: No path can begin with `prefix`.
        InvalidParameter: A time has no time zone.
    """
    ImagePrefix.parse(filters.get("prefix", ""))
    given: dict[str, str | list[str]] = {"q": q, "limit": str(min(limit or _A_PAGE, _A_PAGE))}
    for name, value in filters.items():
        if isinstance(value, datetime):
            if value.tzinfo is None:
                raise InvalidParameter(
                    f"{name}: the datetime has no time zone: set its tzinfo", at=(name,)
                )
            value = value.astimezone(UTC).isoformat()  # noqa: PLW2901  (converted for the query)
        if isinstance(value, Iterable) and not isinstance(value, str):
            given[name] = [str(one) for one in value]
        else:
            given[name] = str(value)
    return {name: text for name, text in given.items() if text}
