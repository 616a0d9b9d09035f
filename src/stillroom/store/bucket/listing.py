"""Listings of a bucket's images, page by page, in the bucket's own order."""

import asyncio
from collections.abc import AsyncIterator

from stillroom.errors import BackendUnavailable, InvalidPath
from stillroom.paths import ImagePath, KeyPrefix, image_entry, is_reserved
from stillroom.store.bucket.order import ListingOrder
from stillroom.store.objectstore import DEADLINE_S, MAX_LISTED, ListedPage, ObjectStore
from stillroom.store.values import ListQuery, Page


async def list_page(store: ObjectStore, query: ListQuery, order: ListingOrder) -> tuple[Page, int]:
    """Return one page of images, and the number of keys skipped because they are no image paths."""
    entries: list[str] = []
    modified_ns: dict[str, int] = {}
    skipped = 0
    token: str | None = None
    repeats_folder = query.delimited and query.after.endswith("/")  # the folder `after`
    limit = min(query.limit + repeats_folder, MAX_LISTED)
    deadline = asyncio.get_running_loop().time() + DEADLINE_S
    while True:
        page = await _read(store, query, order, limit=limit, token=token, deadline=deadline)
        count_before = len(entries)
        modified_ns |= page.modified_ns
        for entry in page.entries:
            if entry is not None and is_reserved(entry):
                if query.reserved:
                    entries.append(entry)
            elif entry is None or not is_image_entry(entry):
                skipped += 1
            elif not (query.delimited and entry == query.after):
                entries.append(entry)
        token = page.next_token
        missing = query.limit - len(entries)
        # If all keys were skipped, request a full page: small ones could cost many requests.
        limit = MAX_LISTED if len(entries) == count_before else min(missing, MAX_LISTED)
        if token is None or missing <= 0:  # SeaweedFS has sent 1,200 keys for a limit of 1,000
            more = token is not None or missing < 0
            return Page(entries[: query.limit], more=more, modified_ns=modified_ns), skipped


async def walk(store: ObjectStore, prefix: KeyPrefix, after: str) -> AsyncIterator[str | None]:
    """Yield all keys after `after` in the bucket's order, including keys that are not images."""
    query, order = ListQuery(prefix, after), ListingOrder()
    token: str | None = None
    while True:
        page = await _read(store, query, order, limit=MAX_LISTED, token=token)
        for entry in page.entries:
            yield entry
        token = page.next_token
        if token is None:
            return


async def _read(
    store: ObjectStore,
    query: ListQuery,
    order: ListingOrder,
    *,
    limit: int,
    token: str | None,
    deadline: float | None = None,
) -> ListedPage:
    page = await store.list(
        query.prefix.text,
        limit=limit,
        after=query.after,
        token=token,
        delimited=query.delimited,
        deadline=deadline,
    )
    is_part = page.next_token is not None or bool(token or query.after)
    order.check(page.entries, is_part=is_part)
    if page.next_token is not None and page.next_token == token:
        raise BackendUnavailable("cannot list the images: the bucket sent the same page twice")
    return page


def is_image_entry(entry: str) -> bool:
    """Return whether an entry is a valid image key, or a folder that can contain such keys."""
    try:
        ImagePath.parse(image_entry(entry).removesuffix("/"))
    except InvalidPath:
        return False
    return True
