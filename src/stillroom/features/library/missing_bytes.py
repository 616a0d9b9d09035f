"""Warning at server start about resources whose files are missing from the bucket.

After a change of the settings from a disk to a bucket, the library still has its rows. The server
then responds 404 for each file that was not copied to the bucket.
"""

import logging
from collections.abc import Callable
from typing import Final

from stillroom.concurrently import map_concurrently
from stillroom.errors import ImageNotFound
from stillroom.features.library.database import MediaDatabase
from stillroom.features.library.resource import MediaResource
from stillroom.store.port import ImageStorage

_PAGE: Final = 100  # resources to check first; more are checked if a file is missing
_MOST: Final = 10_000  # resources to check, in half a minute, for less than a cent
_AT_ONCE: Final = 8

log = logging.getLogger("stillroom.media")


async def warn_about_missing_bytes(
    storage: ImageStorage, database: MediaDatabase, is_stopping: Callable[[], bool]
) -> None:
    """Check the files of 100 resources. If any is missing, check up to 10,000 and log a warning."""

    async def is_there(resource: MediaResource) -> bool:
        try:
            await storage.stat(resource.storage_key)
        except ImageNotFound:
            return False
        return True

    checked = missing = 0
    async for page in (await database.rows()).resources.in_order(limit=_PAGE):
        there = await map_concurrently(is_there, page, limit=_AT_ONCE)
        checked += len(page)
        missing += there.count(False)
        if not missing or is_stopping():
            return
        if checked >= _MOST:
            break
    if missing:
        log.warning(
            "%s%d of %d resources of the media library have no bytes in this bucket: if they "
            "were on a disk or in another bucket, copy them with `stillroom migrate` "
            "(docs/migration.md); `stillroom media orphans` lists them",
            "at least " if checked >= _MOST else "", missing, checked,
        )  # fmt: skip
