"""Listings, page by page as the bucket gives them, in the bucket's own order."""

import asyncio
from collections.abc import AsyncIterator

from stillroom.errors import BackendUnavailable, InvalidPath
from stillroom.paths import ImagePath, KeyPrefix, image_entry, is_manifest
from stillroom.storage.bucket.order import ListingOrder
from stillroom.storage.objectstore import DEADLINE_S, MAX_LISTED, ObjectStore
from stillroom.storage.values import ListQuery, Page


async def list_page(store: ObjectStore, query: ListQuery, order: ListingOrder) -> tuple[Page, int]:
    """One page for the caller, from as many of the bucket's as it takes.

    Args:
        store: Is listed.
        query: What the caller wants.
        order: Looks at each page.

    Returns:
        The page, and how many keys it leaves out since no image can have them.

    Raises:
        ListingUnsupported, BackendUnavailable: as their names say.
    """
    entries: list[str] = []
    modified_ns: dict[str, int] = {}
    skipped = 0
    token: str | None = None
    passed = (
        1 if query.delimited and query.after.endswith("/") else 0
    )  # the bucket shows it once more
    wanted = min(query.limit + passed, MAX_LISTED)
    deadline = asyncio.get_running_loop().time() + DEADLINE_S
    while True:
        page = await store.list(
            query.prefix.text,
            limit=wanted,
            after=query.after,
            token=token,
            delimited=query.delimited,
            deadline=deadline,
        )
        is_part = page.next_token is not None or bool(token or query.after)
        order.check(page.entries, is_part=is_part)
        found = len(entries)
        modified_ns |= page.modified_ns
        for entry in page.entries:
            if entry is not None and is_manifest(entry):
                if query.manifests:
                    entries.append(entry)
            elif entry is None or not is_image_entry(entry):
                skipped += 1
            elif not (query.delimited and entry == query.after):
                entries.append(entry)
        if page.next_token is not None and page.next_token == token:
            raise BackendUnavailable("the bucket's listing does not move on")
        token = page.next_token
        missing = query.limit - len(entries)
        # Where keys are left out, small pages would cost a request each.
        wanted = MAX_LISTED if len(entries) == found else min(missing, MAX_LISTED)
        if len(entries) > query.limit:  # SeaweedFS has sent 1,200 keys where 1,000 were asked for
            return Page(entries[: query.limit], more=True, modified_ns=modified_ns), skipped
        if token is None or len(entries) == query.limit:
            return Page(entries, more=token is not None, modified_ns=modified_ns), skipped


async def walk(store: ObjectStore, prefix: KeyPrefix, after: str) -> AsyncIterator[str | None]:
    """All keys behind `after`, in the bucket's order; what is no image, too.

    Raises:
        ListingUnsupported, BackendUnavailable: as their names say.
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
        if page.next_token is None:
            return
        if page.next_token == token:
            raise BackendUnavailable("the bucket's listing does not move on")
        token = page.next_token


def is_image_entry(entry: str) -> bool:
    """Whether a listed key, or a folder, can be an image's, or hold one."""
    try:
        ImagePath.parse(image_entry(entry).removesuffix("/"))
    except InvalidPath:
        return False
    return True
