"""Ingest intents: rows that announce an ingest. They expire after a time limit, the lease."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from stillroom.errors import BackendUnavailable
from stillroom.features.database.clock import new_id
from stillroom.features.library.resource import IN_PLACE, Intent, SourceChanged
from stillroom.features.library.source import Source
from stillroom.paths import StorageKey
from stillroom.store.port import ImageStorage

if TYPE_CHECKING:  # a normal import would load the database driver at every start
    from stillroom.features.library.rows.repository import MediaRepository

LEASE: Final = timedelta(minutes=15)  # without a renewal; copying 5 GiB in R2 takes less


@contextlib.asynccontextmanager
async def renewed(rows: "MediaRepository", intent: Intent) -> AsyncIterator[None]:
    """Context manager: renew an intent's lease, so that sweepers keep the file during the block."""

    async def renew() -> None:
        while True:
            await asyncio.sleep(LEASE.total_seconds() / 3)  # two renewals in a row may fail
            with contextlib.suppress(BackendUnavailable):  # the next renewal may succeed
                await rows.intents.write(intent, lease=LEASE)

    renewing = asyncio.create_task(renew())
    try:
        yield
    finally:
        renewing.cancel()
        await asyncio.wait([renewing])


@contextlib.asynccontextmanager
async def protected(
    storage: ImageStorage, rows: "MediaRepository", source: Source
) -> AsyncIterator[Intent]:
    """Context manager: prevent sweepers from deleting the source image until the block ends.

    Yields an intent, which the transaction that records the source must delete. Raises
    `ImageNotFound` or `SourceChanged` if the source was deleted or replaced after it was read, and
    `MarkClaimed` if a sweeper is already deleting the source.
    """
    image = source.image
    media_key = StorageKey.of_media(new_id(), source.probed.extension)
    intent = Intent(media_key, IN_PLACE, image.key)
    await rows.intents.write(intent, lease=LEASE)
    try:
        await rows.deletions.require_unclaimed(image.key)
        if (await storage.stat(image.key)).save_id != image.save_id:
            raise SourceChanged
        yield intent
    finally:  # the transaction may have been rolled back; after a crash the lease runs out
        with contextlib.suppress(BackendUnavailable):
            await rows.intents.remove(media_key)
