"""The SDK's search: its filters, and its pages."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Final, Literal
from urllib.parse import quote, urlencode

from stillroom.client import answers
from stillroom.client.exchange import Call, Flow
from stillroom.client.retries import Attempts, Retries, persistently
from stillroom.client.values import FactsFilters, ImageMetadata
from stillroom.errors import InvalidParameter
from stillroom.paths import ImagePrefix

SearchSort = Literal["-saved", "saved", "-path", "path"]

_A_PAGE: Final = 100


class SearchFilters(FactsFilters, total=False):
    """What images must have, all of it; see docs/search.md.

    Attributes:
        content_type: Such as `image/png`.
        prefix: Literal text that paths begin with.
        saved_from: Then or later, aware.
        saved_before: Earlier, aware.
        tag: A tag that the library has for it, or with a `-` ahead one that it must not have; or
            several such.
        sort: `-saved` is the newest first.
    """

    content_type: str
    prefix: str
    saved_from: datetime
    saved_before: datetime
    tag: str | Iterable[str]
    sort: SearchSort


Query = Mapping[str, str | list[str]]
"""Parameters by their names; those that are given several times are lists."""


def search_query(q: str, filters: SearchFilters, limit: int | None) -> Query:
    """The parameters of the first page; the others add `cursor`.

    Raises:
        InvalidPath: no path begins with the prefix.
        InvalidParameter: a time without its zone.
    """
    ImagePrefix.parse(filters.get("prefix", ""))
    given: dict[str, str | list[str]] = {"q": q, "limit": str(min(limit or _A_PAGE, _A_PAGE))}
    for name, value in filters.items():
        if isinstance(value, datetime):
            if value.tzinfo is None:
                raise InvalidParameter(f"{name}: the time needs its zone", at=(name,))
            value = value.astimezone(UTC).isoformat()  # noqa: PLW2901  (as it is sent)
        if isinstance(value, Iterable) and not isinstance(value, str):
            given[name] = [str(one) for one in value]
        else:
            given[name] = str(value)
    return {name: text for name, text in given.items() if text}


def page_of_found(retries: Retries, query: Query) -> Flow[tuple[list[ImageMetadata], Query | None]]:
    """The images of a page, and the parameters of the next one."""
    asked = urlencode(query, doseq=True, quote_via=quote, safe="")
    answer = yield from persistently(Call("GET", f"/storage/search?{asked}"), Attempts(retries))
    found, cursor = answers.found(answer, str(query.get("prefix", "")))
    return found, None if cursor is None else {**query, "cursor": cursor}
