"""Describe the images of a page by one HEAD each: a listing has neither types nor hashes."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from stillroom.concurrently import map_concurrently
from stillroom.errors import BackendUnavailable, ImageNotFound
from stillroom.paths import KeyPrefix, StorageKey
from stillroom.storage.objectstore import DEADLINE_S
from stillroom.storage.values import Entry, EntryPage, Page, StoredImage

MAX_CONCURRENT_HEADS: Final = 32
"""Limit for all pages together: half of the client's connections, so that saves and single reads
find a free one while a long page is read."""

FetchFacts = Callable[[StorageKey, float], Awaitable[StoredImage]]
"""(key, deadline on the event loop's clock) -> facts; raises like `ImageStorage.stat`."""


async def describe_page(page: Page, fetch_facts: FetchFacts, slots: asyncio.Semaphore) -> EntryPage:
    """Fetch the facts of each image of `page`; deleted images are left out.

    All pages share `MAX_CONCURRENT_HEADS` slots.

    Raises:
        BackendUnavailable: a request failed. No other one is running any more.
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
        raise BackendUnavailable("too many listings wait for the bucket") from None
    try:
        return await fetch_facts(StorageKey(text), deadline)
    except ImageNotFound:
        return None
    finally:
        slots.release()
