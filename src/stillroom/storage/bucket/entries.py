"""Metadata of the images on a page, read with one HEAD request per image.

A bucket's listing contains neither content types nor hashes.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from stillroom.concurrently import map_concurrently
from stillroom.errors import BackendUnavailable, ImageNotFound
from stillroom.paths import KeyPrefix, StorageKey
from stillroom.storage.objectstore import DEADLINE_S
from stillroom.storage.values import Entry, EntryPage, Page, StoredImage

MAX_CONCURRENT_HEADS: Final = 32
"""Maximum number of concurrent HEAD requests for all pages. It is half of the client's connections,
so that saves and single reads need not wait for a long page."""

FetchFacts = Callable[[StorageKey, float], Awaitable[StoredImage]]
"""Function that returns an image's metadata. Raises like `ImageStorage.stat`.

The arguments are the key and a deadline on the event loop's clock.
"""


async def describe_page(page: Page, fetch_facts: FetchFacts, slots: asyncio.Semaphore) -> EntryPage:
    """Fetch the metadata of each image on `page`. Images deleted meanwhile are left out.

    `slots` limits the concurrent requests of all pages to `MAX_CONCURRENT_HEADS`.

    Raises:
        BackendUnavailable: a request failed. All other requests were cancelled.
    """
    results = await map_concurrently(
        lambda text: _describe_entry(text, fetch_facts, slots),
        page.entries,
        limit=MAX_CONCURRENT_HEADS,
    )
    entries = [entry for entry in results if entry is not None]
    return EntryPage(entries, page.entries[-1] if page.more else None)


async def _describe_entry(
    text: str, fetch_facts: FetchFacts, slots: asyncio.Semaphore
) -> Entry | None:
    if text.endswith("/"):
        return KeyPrefix(text)
    deadline = asyncio.get_running_loop().time() + DEADLINE_S
    try:
        async with asyncio.timeout_at(deadline):
            await slots.acquire()
    except TimeoutError:
        raise BackendUnavailable(
            "too many listings are waiting for the bucket: try again later"
        ) from None
    try:
        return await fetch_facts(StorageKey(text), deadline)
    except ImageNotFound:
        return None
    finally:
        slots.release()
