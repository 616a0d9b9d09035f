"""Listings of a bucket's images, page by page, in the bucket's own order."""

import asyncio
from collections.abc import AsyncIterator

from stillroom.errors import BackendUnavailable, InvalidPath
from stillroom.paths import ImagePath, KeyPrefix, image_entry, is_manifest
from stillroom.storage.bucket.order import ListingOrder
from stillroom.storage.objectstore import DEADLINE_S, MAX_LISTED, ListedPage, ObjectStore
from stillroom.storage.values import ListQuery, Page


async def list_page(store: ObjectStore, query: ListQuery, order: ListingOrder) -> tuple[Page, int]:
    """List one page of images. Requests as many pages of the bucket as necessary.

    Returns:
        The page, and the number of skipped keys that are not valid image keys.

    Raises:
        ListingUnsupported: the bucket's order is unstable, so pages cannot be continued.
        BackendUnavailable: the bucket could not be read.
    """
    entries: list[str] = []
    modified_ns: dict[str, int] = {}
    skipped = 0
    token: str | None = None
    repeats_folder = query.delimited and query.after.endswith("/")  # the folder `after`
    limit = min(query.limit + repeats_folder, MAX_LISTED)
    deadline = asyncio.get_running_loop().time() + DEADLINE_S
    while True:
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
        count_before = len(entries)
        modified_ns |= page.modified_ns
        for entry in page.entries:
            if entry is not None and is_manifest(entry):
                if query.manifests:
                    entries.append(entry)
            elif entry is None or not is_image_entry(entry):
                skipped += 1
            elif not (query.delimited and entry == query.after):
                entries.append(entry)
        token = _next_token(page, token)
        missing = query.limit - len(entries)
        # If all keys were skipped, request a full page: small ones could cost many requests.
        limit = MAX_LISTED if len(entries) == count_before else min(missing, MAX_LISTED)
        if len(entries) > query.limit:  # SeaweedFS has sent 1,200 keys for a limit of 1,000
            return Page(entries[: query.limit], more=True, modified_ns=modified_ns), skipped
        if token is None or len(entries) == query.limit:
            return Page(entries, more=token is not None, modified_ns=modified_ns), skipped


async def walk(store: ObjectStore, prefix: KeyPrefix, after: str) -> AsyncIterator[str | None]:
    """Yield all keys after `after` in the bucket's order, including keys that are not images.

    Raises:
        ListingUnsupported: the bucket's order is unstable, so pages cannot be continued.
        BackendUnavailable: the bucket could not be read.
    """
    token: str | None = None
    order = ListingOrder()
    while True:
        deadline = asyncio.get_running_loop().time() + DEADLINE_S
        page = await store.list(
            prefix.text, limit=MAX_LISTED, after=after, token=token, deadline=deadline
        )
        order.check(page.entries, is_part=page.next_token is not None or bool(token or after))
        for entry in page.entries:
            yield entry
        token = _next_token(page, token)
        if token is None:
            return


def _next_token(page: ListedPage, token: str | None) -> str | None:
    if page.next_token is not None and page.next_token == token:
        raise BackendUnavailable("cannot list the images: the bucket sent the same page twice")
    return page.next_token


def is_image_entry(entry: str) -> bool:
    """Return whether a listed key is a valid image key, or a listed folder can contain one."""
    try:
        ImagePath.parse(image_entry(entry).removesuffix("/"))
    except InvalidPath:
        return False
    return True
