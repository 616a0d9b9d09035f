"""Trash: images are moved there instead of being deleted, and can be restored for a while.

A crash at any point leaves an image in its place, in the trash, or in both (docs/adr/0044). A
deletion has three steps:

1. In one transaction, insert a row with a random key in the trash, and a pending deletion of this
   key.
2. Move the image to this key. In a bucket, the image is copied and then deleted.
3. Cancel other pending deletions of this version of the image.

After a crash or a refused move, a row may have no file. Such a row is not listed. The sweeper
(background job) deletes it when the pending deletion is due. A restoration has three steps, too:

1. Claim the pending deletion for a limited time (a lease), so that no sweeper executes it.
2. Save the file as an image (hard link or copy), unless another image has its name.
3. Delete the file in the trash, then the row.

After a crash, a repeated request recognizes the saved image. If the lease ends during step 2 and
a sweeper deletes the file, either the image exists already, and does not depend on the file, or
the restoration fails because the file has expired.
"""

import contextlib
import dataclasses
import itertools
import logging
import secrets
import uuid
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from stillroom.concurrently import for_each_concurrently, map_concurrently
from stillroom.errors import (
    BackendUnavailable,
    ImageNotFound,
    PathConflict,
    PreconditionFailed,
    RunConflict,
    StorageFull,
    TrashNotFound,
)
from stillroom.features.database import clock
from stillroom.features.database.clock import new_id, now
from stillroom.features.database.database import Database, RowsOf, rows_of
from stillroom.features.library.resource import RunDeletion
from stillroom.features.runs.database import run_rows
from stillroom.paths import COMPUTE_PREFIX, ImagePath, StorageKey, image_entry
from stillroom.store import causes
from stillroom.store.background import Stopping
from stillroom.store.causes import Cause, caused_by
from stillroom.store.port import ImageStorage
from stillroom.store.uploads import Uploads
from stillroom.store.values import Condition, StoredImage

if TYPE_CHECKING:  # a normal import would load the database driver at every start
    from stillroom.features.trash.rows import TrashedFile, TrashRows

LEASE: Final = timedelta(minutes=2)  # then an interrupted restoration can be repeated
_ATTEMPTS: Final = 3
_AT_ONCE: Final = 8
_BATCH: Final = 500

trash_rows: "RowsOf[TrashRows]" = rows_of("stillroom.features.trash.rows.TrashRows")

log = logging.getLogger("stillroom.media")


@dataclasses.dataclass(frozen=True, slots=True)
class Trash:
    """Trash of one storage. Several processes may use it at the same time."""

    storage: ImageStorage
    files: Uploads
    database: Database
    retention: timedelta

    async def delete(self, key: StorageKey, condition: Condition) -> Mapping[str, object]:
        """Move an image to the trash if `condition` holds. Return its trash id for the response."""
        for _ in range(_ATTEMPTS):
            image = await self.storage.stat(key)
            condition.check(image.etag)
            with contextlib.suppress(PreconditionFailed):  # replaced meanwhile: check the new one
                return {"trash_id": str(await self.discard(image))}
        raise BackendUnavailable("the image kept changing during the deletion: try again")

    async def discard_of_run(self, image: StoredImage, run: RunDeletion) -> None:
        """Move an image or the manifest of a run to the trash, with the trash id of the run."""
        with caused_by(Cause(causes.current.get().actor, reason="run")):
            await self.discard(image, run)

    async def discard(self, image: StoredImage, run: RunDeletion | None = None) -> uuid.UUID:
        """Move exactly this version of an image to the trash. Return its id there.

        Raises the errors of `Uploads.discard`. If the database does not respond, nothing is moved.
        """
        from stillroom.features.trash.rows import TrashedFile

        id_, trash_id = new_id(), None if run is None else run.trash_id
        if trash_id is not None:  # a deletion that is resumed after a crash finds the same row
            id_ = uuid.uuid5(trash_id, f"{image.key.text} {image.save_id}")
        file = TrashedFile(
            id=id_,
            trash_id=trash_id or id_,
            path=image_entry(image.key.text if run is None else run.folder),
            storage_key=image.key,
            place=StorageKey(self.files.trash_prefix + secrets.token_hex(16)),
            save_id=image.save_id,
            sha256=image.sha256,
            size=image.size,
            content_type=image.content_type,
            deleted_at=now(),
            purge_at=clock.CLOCK.latest() + self.retention,
            actor=causes.current.get().actor,
        )
        rows = await trash_rows(self.database)
        await self.files.discard(image, await rows.add(file))
        with contextlib.suppress(BackendUnavailable):  # they then find no image to delete
            await rows.cancel_others(file)
        return file.trash_id

    async def page(
        self, before: uuid.UUID | None, limit: int, prefix: str
    ) -> tuple[Sequence[Any], uuid.UUID | None]:
        """Return a page of rows that have a file, and `before` for the next page (None if last)."""

        async def exists(entry: Any) -> bool:  # noqa: ANN401  (a row)
            return entry.path.endswith("/") or await self._exists(entry)

        entries = await (await trash_rows(self.database)).page(before, limit + 1, prefix)
        page = entries[:limit]
        have_files = await map_concurrently(exists, page, limit=_AT_ONCE)
        following = page[-1].trash_id if len(entries) > limit else None
        return [*itertools.compress(page, have_files)], following

    async def find(self, trash_id: uuid.UUID) -> Sequence["TrashedFile"]:
        """Return the files of a deleted image or run by its trash id, or raise `TrashNotFound`."""
        if files := await (await trash_rows(self.database)).find(trash_id):
            return files
        raise TrashNotFound

    async def restore(
        self, files: Sequence["TrashedFile"], path: ImagePath | None = None
    ) -> StoredImage:
        """Restore the files with one id: an image (to `path` if it is set), or a run.

        Return the image, or the last file of the run. Raises:
            PathConflict: an image has this path. Nothing was restored, except possibly a part of a
                run if the image was saved during the restoration.
            RunConflict: the run is still being deleted.
            TrashNotFound: the files have expired.
            BackendUnavailable: another request restores the same files, or a sweeper deletes them.
        """
        rows, claim = await trash_rows(self.database), uuid.uuid4()
        if files[0].is_of_run:
            runs = await run_rows(self.database)
            if await runs.is_deleting([COMPUTE_PREFIX + files[0].path]):
                raise RunConflict("the run is still being deleted: try again later")
            await for_each_concurrently(self._require_free, files, limit=_AT_ONCE)
        await rows.claim(claim, files, LEASE)
        try:
            images = [file for file in files if not file.is_manifest]
            restored = await map_concurrently(
                lambda file: self._restore(file, path), images, limit=_AT_ONCE
            )
            for manifest in (file for file in files if file.is_manifest):
                restored.append(saved := await self._restore(manifest, None))
                if saved is not None:
                    folder = ImagePath(manifest.path.rstrip("/"))
                    await runs.note_publication(folder, saved.save_id, len(images))
        finally:
            with contextlib.suppress(BackendUnavailable):  # the claim then lasts until it expires
                await rows.release(claim)
        if saves := [image for image in restored if image is not None]:
            return saves[-1]
        raise TrashNotFound

    async def _require_free(self, file: "TrashedFile") -> None:
        with contextlib.suppress(ImageNotFound):
            await self.storage.stat(file.storage_key)
            if await self.files.find_saved(file.storage_key, file.id.hex) is None:
                raise _conflict(file.storage_key)

    async def _restore(self, file: "TrashedFile", path: ImagePath | None) -> StoredImage | None:
        key = file.storage_key if path is None else StorageKey.of_image(path)
        image: StoredImage | None
        try:
            with contextlib.closing(await self.storage.open(file.place)) as opened:
                facts: dict[str, Any] = {"sha256": file.sha256, "content_type": file.content_type}
                target = dataclasses.replace(opened.image, key=key, save_id=file.id.hex, **facts)
                image = await self.files.restore(opened, target)
        except PreconditionFailed:
            raise _conflict(key) from None
        except ImageNotFound:  # expired, or restored before a crash
            image = await self.files.find_saved(key, file.id.hex)
            if image is None:
                return None
        try:
            await self.purge([file])
        except BackendUnavailable as error:
            log.warning("cannot delete from the trash what was restored: %s", error)
        return image

    async def purge(self, files: Sequence["TrashedFile"]) -> None:
        """Delete files in the trash, then their rows. This also works on a full disk."""
        rows = await trash_rows(self.database)
        for start in range(0, len(files), _BATCH):
            batch = files[start : start + _BATCH]
            places = [file.place for file in batch]
            await for_each_concurrently(self.files.delete, places, limit=_AT_ONCE)
            await rows.remove(batch)

    async def free_space(self, stop: Stopping) -> None:
        """Delete the oldest files while the disk has too little free space.

        A row without a file is kept, because another process may be moving the file.
        """
        last: uuid.UUID | None = None
        while not stop.is_set():
            try:
                return await self.storage.check()
            except StorageFull:
                if not (oldest := await (await trash_rows(self.database)).find_oldest(last)):
                    break
            last = oldest[0].trash_id
            have_files = await map_concurrently(self._exists, oldest, limit=_AT_ONCE)
            if any(have_files):
                log.warning("the disk is nearly full: deleting %r from the trash", oldest[0].path)
            await self.purge([*itertools.compress(oldest, have_files)])
        return None

    async def _exists(self, file: Any) -> bool:  # noqa: ANN401  (with a `place`)
        with contextlib.suppress(ImageNotFound):
            return bool(await self.storage.stat(file.place))
        return False


def _conflict(key: StorageKey) -> PathConflict:
    return PathConflict(f"an image exists at {image_entry(key.text)!r}: move it, then restore")
