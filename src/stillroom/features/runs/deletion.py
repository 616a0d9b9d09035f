"""Deletion of runs: first the manifest (list of images), and after a grace period the images.

1. Insert a row for the run's deletion. After a crash, a sweeper (background job) resumes a deletion
   that has a row.
2. Delete the manifest.
3. Mark the images for deletion, page by page. Each commit records the position.
4. Delete any manifest that was written since step 2.
5. Delete the row. A sweeper then executes the pending deletions of the images.

If the run is moved to the trash, steps 2 and 3 move its files there instead.
"""

import asyncio
import contextlib
import logging
import uuid
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from stillroom.concurrently import for_each_concurrently
from stillroom.errors import BackendUnavailable, ImageNotFound, PreconditionFailed, StillroomError
from stillroom.features.database import clock
from stillroom.features.database.clock import new_id, now
from stillroom.features.library.database import MediaDatabase
from stillroom.features.library.resource import RunDeletion
from stillroom.features.runs.database import run_rows
from stillroom.features.runs.manifest import MANIFEST_NAME
from stillroom.features.runs.service import Runs
from stillroom.paths import ImagePath, KeyPrefix, StorageKey, image_entry
from stillroom.store.pages import each_page
from stillroom.store.port import ImageStorage
from stillroom.store.values import ListQuery, StoredImage

if TYPE_CHECKING:  # a normal import would load the database driver at every start
    from stillroom.features.runs.rows import RunRows

PAGE: Final = 1000  # images per transaction, which takes ten milliseconds
_LEASE: Final = timedelta(minutes=2)  # time without progress after which others may resume
SHORTEST_GRACE: Final = timedelta(minutes=1)  # longer than any transaction that records an image
_MOVED_AT_ONCE: Final = 8
_MOVED_PAGE: Final = 100  # images that are moved to the trash before the lease is renewed
_TAKEN_OVER: Final = "another process is deleting the run: try again later"

log = logging.getLogger("stillroom.media")


class RunDeletions:
    """Deletion of the runs in one storage.

    Attributes:
        discard: Function that moves an image of a run to the trash. None if there is no trash.
    """

    discard: Callable[[StoredImage, RunDeletion], Awaitable[object]] | None = None

    def __init__(self, storage: ImageStorage, database: MediaDatabase, *, grace: timedelta) -> None:
        self._storage = storage
        self._database = database
        self._runs = Runs(storage, database)
        self._due_after = max(grace, SHORTEST_GRACE)

    async def delete(
        self, folder: ImagePath, *, saved_until: datetime | None = None, to_trash: bool = False
    ) -> RunDeletion:
        """Delete an open or published run. Return the numbers of deleted and kept images.

        Images that were saved after `saved_until` (default: now) are kept. With `to_trash`, the
        images are moved to the trash if there is one.

        Raises:
            RunNotFound: the folder has neither images nor a manifest.
            RunConflict: the folder contains another published run.
            BackendUnavailable: the storage or the database failed, or another process is deleting
                the run. A deletion that has begun is resumed in the background.
        """
        if not await self._runs.is_published(folder):
            await self._runs.require_images(folder)
        await self._runs.require_none_inside(folder)
        rows, claim = await run_rows(self._database), uuid.uuid4()
        deletion = await rows.begin(
            KeyPrefix.of_folder(folder).text,
            claim,
            saved_until=saved_until or now(),
            lease=_LEASE,
            trash_id=new_id() if to_trash and self.discard is not None else None,
        )
        if deletion is None:
            raise BackendUnavailable("another request is deleting the run: try again later")
        try:
            return await self._continue(rows, claim, deletion)
        except Exception:
            with contextlib.suppress(StillroomError):  # the claim then lasts until it expires
                await rows.release(claim)
            raise

    async def resume(self, is_stopping: Callable[[], bool]) -> None:
        """Resume run deletions that have failed or were interrupted by a crash."""
        rows = await run_rows(self._database)
        while not is_stopping():
            claim = uuid.uuid4()
            deletion = await rows.claim(claim, lease=_LEASE)
            if deletion is None:
                return
            try:
                await self._continue(rows, claim, deletion)
            except StillroomError as error:
                log.warning("cannot delete the run %r yet, will retry: %s", _name(deletion), error)
                return  # a later sweep retries when the lease has expired

    async def _continue(
        self, rows: "RunRows", claim: uuid.UUID, deletion: RunDeletion
    ) -> RunDeletion:
        is_trashed = deletion.trash_id is not None and self.discard is not None
        manifest = StorageKey(deletion.folder + MANIFEST_NAME)
        await self._delete_manifest(manifest, deletion if is_trashed else None)
        until_ns = int(deletion.saved_until.timestamp() * 1e9)
        last = deletion.after
        query = ListQuery(KeyPrefix(deletion.folder), last, _MOVED_PAGE if is_trashed else PAGE)
        async for page in each_page(self._storage.entries, query):
            images = page.images
            older = [image for image in images if image.modified_ns <= until_ns]
            last = page.next_after or (images[-1].key.text if images else last)
            if is_trashed:
                in_use = await (await self._database.rows()).resources.recorded_in_place(older)
                await self._discard([image for image in older if image.key not in in_use], deletion)
            if not await rows.mark(
                claim,
                older,
                newer=len(images) - len(older),
                due_at=clock.CLOCK.latest() + self._due_after,
                after=last,
                lease=_LEASE,
                is_trashed=is_trashed,
            ):
                raise BackendUnavailable(_TAKEN_OVER)
            await asyncio.sleep(0)  # let other tasks run
        await self._delete_manifest(manifest)
        ended = await rows.end(claim)
        if ended is None:
            raise BackendUnavailable(_TAKEN_OVER)
        log.info(
            "deleted the run %r: images to delete: %d; kept because the media library uses them: "
            "%d; kept because they were saved after the request: %d",
            _name(deletion), ended.marked, ended.kept, ended.newer,
        )  # fmt: skip
        return ended

    async def _discard(self, images: Sequence[StoredImage], deletion: RunDeletion) -> None:
        async def move(image: StoredImage) -> None:
            with contextlib.suppress(ImageNotFound, PreconditionFailed):  # deleted or replaced
                if self.discard is not None:
                    await self.discard(image, deletion)

        await for_each_concurrently(move, images, limit=_MOVED_AT_ONCE)

    async def _delete_manifest(self, key: StorageKey, trashed: RunDeletion | None = None) -> None:
        with contextlib.suppress(ImageNotFound):
            if trashed is not None:
                await self._discard([await self._storage.stat(key)], trashed)
            await self._storage.delete(key)


def _name(deletion: RunDeletion) -> str:
    return image_entry(deletion.folder).rstrip("/")
