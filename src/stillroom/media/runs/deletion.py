"""Deleting runs: the manifest first, then each image by a mark, with its checks and its grace.

The steps, and what each leaves if the process dies after it:

1. a row says that the run is being deleted         the row; the next sweep goes on
2. the manifest goes                                the same
3. page by page, images are marked; each commit     the same, and the marks
   says how far it has come
4. a manifest that was written meanwhile goes       the same
5. the row goes                                     marks, which the sweeper deletes when they
                                                    are due
"""

import asyncio
import contextlib
import logging
import uuid
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from stillroom.errors import (
    BackendUnavailable,
    ImageNotFound,
    StillroomError,
)
from stillroom.media import clock
from stillroom.media.database import MediaDatabase
from stillroom.media.resource import RunDeletion, now
from stillroom.media.runs.service import Runs
from stillroom.paths import MANIFEST_NAME, ImagePath, KeyPrefix, StorageKey, image_entry
from stillroom.storage.port import ImageStorage
from stillroom.storage.values import ListQuery, StoredImage

if TYPE_CHECKING:  # else every start would wait for the database's import
    from stillroom.media.rows.repository import MediaRepository

PAGE: Final = 1000
"""Images in one transaction, as many as S3 lists: ten milliseconds of writing, and one sync."""

_LEASE: Final = timedelta(minutes=2)
"""A deletion that has not marked a page for so long is presumed dead."""

_SHORTEST_GRACE: Final = timedelta(minutes=1)
"""A transaction that records an image in place, and began before it was marked, is over by then."""

log = logging.getLogger("stillroom.media")


class RunDeletions:
    """Deletes runs of one storage."""

    def __init__(self, storage: ImageStorage, database: MediaDatabase, *, grace: timedelta) -> None:
        """Delete runs from `storage`.

        Args:
            storage: Where runs are.
            database: Where the marks are, and which runs are being deleted.
            grace: How long an image stays that was marked.
        """
        self._storage = storage
        self._database = database
        self._runs = Runs(storage, database)
        self._due_after = max(grace, _SHORTEST_GRACE)

    async def delete(
        self, folder: ImagePath, *, saved_until: datetime | None = None
    ) -> RunDeletion:
        """Delete a run, open or published.

        Args:
            folder: All images in it, on whatever level, are the run's.
            saved_until: What was saved later stays; None: until now.

        Returns:
            How many images are marked, and how many stay.

        Raises:
            RunNotFound: the folder has no images, and no manifest.
            RunConflict: a published run is in it.
            BackendUnavailable: the storage or the database failed, or another process is deleting
                the run; what was begun is gone on with.
        """
        if not await self._runs.is_published(folder):
            await self._runs.require_images(folder)
        await self._runs.require_none_inside(folder)
        rows, claim = await self._database.rows(), uuid.uuid4()
        begun = await rows.run_deletions.begin(
            KeyPrefix.of_folder(folder).text, claim, saved_until=saved_until or now(), lease=_LEASE
        )
        if begun is None:
            raise BackendUnavailable("the run is being deleted by another request")
        try:
            return await self._go_on(rows, claim, begun)
        except Exception:
            with contextlib.suppress(StillroomError):  # then the lease has to end
                await rows.run_deletions.release(claim)
            raise

    async def go_on(self, is_stopping: Callable[[], bool]) -> None:
        """Go on with the deletions whose processes have died, or have failed.

        Raises:
            BackendUnavailable: the database is away.
        """
        rows = await self._database.rows()
        while not is_stopping():
            claim = uuid.uuid4()
            left = await rows.run_deletions.claim(claim, lease=_LEASE)
            if left is None:
                return
            try:
                await self._go_on(rows, claim, left)
            except StillroomError as error:
                log.warning("the run %r is not deleted yet: %s", _name(left), error)
                return  # and again when the lease is over

    async def _go_on(
        self, rows: "MediaRepository", claim: uuid.UUID, deletion: RunDeletion
    ) -> RunDeletion:
        await self._delete_manifest(deletion)
        until_ns = int(deletion.saved_until.timestamp() * 1e9)
        after: str | None = deletion.after
        while after is not None:
            page = await self._storage.entries(ListQuery(KeyPrefix(deletion.folder), after, PAGE))
            images = [entry for entry in page.entries if isinstance(entry, StoredImage)]
            older = [image for image in images if image.modified_ns <= until_ns]
            last = images[-1].key.text if images else after
            is_ours = await rows.run_deletions.mark(
                claim,
                older,
                newer=len(images) - len(older),
                due_at=clock.latest() + self._due_after,
                after=page.next_after or last,
                lease=_LEASE,
            )
            if not is_ours:
                raise _taken_over()
            after = page.next_after
            await asyncio.sleep(0)  # others have their turn
        await self._delete_manifest(deletion)
        ended = await rows.run_deletions.end(claim)
        if ended is None:
            raise _taken_over()
        log.info(
            "deleted the run %r: %d images are marked, %d are in the library, %d are newer",
            _name(deletion), ended.marked, ended.kept, ended.newer,
        )  # fmt: skip
        return ended

    async def _delete_manifest(self, deletion: RunDeletion) -> None:
        with contextlib.suppress(ImageNotFound):
            await self._storage.delete(StorageKey(deletion.folder + MANIFEST_NAME))


def _name(deletion: RunDeletion) -> str:
    return image_entry(deletion.folder).rstrip("/")


def _taken_over() -> BackendUnavailable:
    return BackendUnavailable("another process goes on with the deletion of the run")
