"""Iteration over the pages of a listing."""

import dataclasses
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeVar

from stillroom.store.values import EntryPage, ListQuery, Page

AnyPage = TypeVar("AnyPage", Page, EntryPage)


async def each_page(
    read: Callable[[ListQuery], Awaitable[AnyPage]], query: ListQuery
) -> AsyncIterator[AnyPage]:
    """Yield all pages of a listing. `read` is the method `list` or `entries` of a storage."""
    after: str | None = query.after
    while after is not None:
        page = await read(dataclasses.replace(query, after=after))
        yield page
        after = page.next_after
