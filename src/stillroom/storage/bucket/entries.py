"""What is on a page, described: one HEAD an image, since a listing has neither types nor hashes."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from stillroom.concurrently import map_concurrently
from stillroom.errors import BackendUnavailable, ImageNotFound
from stillroom.paths import KeyPrefix, StorageKey
from stillroom.storage.objectstore import DEADLINE_S
from stillroom.storage.values import Entry, EntryPage, Page, StoredImage

LOOKS_AT_ONCE: Final = 32
"""For all pages together: half of what the client has under way, so that saves and single
look-ups find a slot while a long page is read."""

Look = Callable[[StorageKey, float], Awaitable[StoredImage]]
"""A key and when to give up, by the event loop's clock; raises as `ImageStorage.stat`."""


async def described(page: Page, look: Look, slots: asyncio.Semaphore) -> EntryPage:
    """Look at each image of `page`; those that are gone are left out.

    Args:
        page: Of names.
        look: Asks for the facts of one image.
        slots: `LOOKS_AT_ONCE` of them, for all pages together.

    Raises:
        BackendUnavailable: a look failed. No further one is under way.
    """
    found = await map_concurrently(
        lambda text: _described(text, look, slots), page.entries, limit=LOOKS_AT_ONCE
    )
    entries = [entry for entry in found if entry is not None]
    return EntryPage(entries, page.entries[-1] if page.more else None)


async def _described(text: str, look: Look, slots: asyncio.Semaphore) -> Entry | None:
    if text.endswith("/"):
        return KeyPrefix(text)
    deadline = asyncio.get_running_loop().time() + DEADLINE_S
    try:
        async with asyncio.timeout_at(deadline):
            await slots.acquire()
    except TimeoutError:
        raise BackendUnavailable("too many listings wait for the bucket") from None
    try:
        return await look(StorageKey(text), deadline)
    except ImageNotFound:
        return None
    finally:
        slots.release()
