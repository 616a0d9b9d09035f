"""Migration of images between stores: copies missing images and verifies each copy's hash.

Images that the target store already has with the same hash are skipped. To resume an interrupted
migration, or to copy later changes, run the migration again.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import Final

from stillroom import errors
from stillroom.concurrently import for_each_concurrently
from stillroom.features.library.recorded_bytes import hash_opened
from stillroom.features.runs.manifest import is_manifest
from stillroom.maintenance.inspection.port import Inspection, UnexpectedFile
from stillroom.maintenance.migration_report import MigrationOutcome, MigrationStats, ProgressEvent
from stillroom.maintenance.rate_limiter import RateLimiter
from stillroom.paths import KeyPrefix, StorageKey, folders_of
from stillroom.store.port import ImageStorage
from stillroom.store.sources import DescribedSource
from stillroom.store.values import ANY, Condition, OpenedImage, StoredImage

AT_ONCE: Final = 32  # images copied concurrently: 320 per second if each takes 100 ms
_PACED_AT_ONCE: Final = 4  # with a rate limit: a bucket closes downloads that wait too long
_LARGE_BYTES: Final = 1024**2
_LARGE_AT_ONCE: Final = 4  # images above 1 MiB; each needs 16 MiB of memory if it is in a bucket
_SKIP_HEAD_AFTER: Final = 8  # consecutive images that the target lacks; then HEADs are omitted
_ATTEMPTS: Final = 3
_GIVE_UP_AFTER: Final = 8  # consecutive images that the target rejects; then the migration fails


@dataclass(frozen=True, slots=True)
class Target:
    """Target store, opened as a storage (to save images) and as an inspection (to read them)."""

    storage: ImageStorage
    inspection: Inspection


@dataclass(eq=False)
class Migration:
    """One migration pass. The source store is never changed. Cancel `run` to stop it."""

    source: Inspection
    target: Target | None  # None in a dry run if the target store does not exist yet
    prefixes: Sequence[KeyPrefix]  # of the images to copy
    _: KW_ONLY
    rate_limit: RateLimiter
    stats: MigrationStats
    overwrite: bool = False  # if True, different images in the target are replaced if newer, too
    dry_run: bool = False
    on_event: Callable[[ProgressEvent], None] = lambda _event: None
    _large: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_LARGE_AT_ONCE))
    _absent_in_a_row: int = 0
    _refused_in_a_row: int = 0

    async def run(self) -> None:
        """Copy every image that is missing in the target, then the manifests of runs.

        A manifest is a JSON file that lists the images of a run (a published folder). It is copied
        only if all images in the folder were copied. Raises `BackendUnavailable` if the target
        rejects several images in a row.
        """
        manifests: list[StorageKey] = []
        incomplete: set[str] = set()

        async def copy(entry: StorageKey | UnexpectedFile) -> None:
            if isinstance(entry, UnexpectedFile):
                self._note(ProgressEvent(MigrationOutcome.STRAY, entry.name, detail=entry.reason))
            elif is_manifest(entry.text):
                manifests.append(entry)
            else:
                event = await self.copy(entry)
                if event is not None and event.outcome is MigrationOutcome.FAILED:
                    incomplete.update(folders_of(entry.text))

        await self._each(self.source, copy)
        for key in manifests:
            if key.text.rpartition("/")[0] in incomplete:
                detail = "images of this run could not be copied"
                self._note(ProgressEvent(MigrationOutcome.FAILED, key.text, detail=detail))
            else:
                await self.copy(key)

    async def find_extras(self) -> None:
        """Report images that exist only in the target."""
        if self.target is not None:
            await self._each(self.target.inspection, self._check_extra)

    async def _each(
        self, store: Inspection, job: Callable[[StorageKey | UnexpectedFile], Awaitable[None]]
    ) -> None:
        entries = (entry for prefix in self.prefixes async for entry in store.walk(prefix, ""))
        at_once = _PACED_AT_ONCE if self.rate_limit.is_bounded else AT_ONCE
        await for_each_concurrently(job, entries, limit=at_once)

    async def _check_extra(self, entry: StorageKey | UnexpectedFile) -> None:
        if isinstance(entry, StorageKey) and await _find(self.source, entry) is None:
            detail = "the source has no such image"
            self._note(ProgressEvent(MigrationOutcome.EXTRA, entry.text, detail=detail))

    async def copy(self, key: StorageKey) -> ProgressEvent | None:
        """Copy one image and count the result. Return None if the image is not in the source."""
        try:
            event = await self._copy_with_retries(key)
        except errors.ImageNotFound:
            return None
        self._note(event)
        return event

    def _note(self, event: ProgressEvent) -> None:
        self.stats.note(event)
        self.on_event(event)

    async def _copy_with_retries(self, key: StorageKey) -> ProgressEvent:
        detail, refused = "", False
        for _ in range(_ATTEMPTS):
            try:
                return await self._copy_if_needed(key)
            except (errors.ReadOnly, errors.StorageFull):
                raise
            except errors.PreconditionFailed:
                self._absent_in_a_row = 0
                detail = "the target's image kept changing during the copy"
            except (errors.PathConflict, errors.TooLarge) as error:
                return ProgressEvent(MigrationOutcome.FAILED, key.text, detail=str(error))
            except _RefusedByTargetError as error:
                await self._check_target()
                detail, refused = str(error), True
            except (errors.DigestMismatch, errors.BackendUnavailable) as error:
                # The checks raise an error if a whole store is unreachable.
                await self.source.check()
                await self._check_target()
                detail, refused = str(error), False
        self._refused_in_a_row = self._refused_in_a_row + 1 if refused else 0
        if self._refused_in_a_row >= _GIVE_UP_AFTER:
            raise errors.BackendUnavailable(
                f"the target responds, but refuses every image: {detail}"
            )
        return ProgressEvent(MigrationOutcome.FAILED, key.text, detail=detail)

    async def _check_target(self) -> None:
        if self.target is not None:
            await self.target.storage.check()

    async def _copy_if_needed(self, key: StorageKey) -> ProgressEvent:
        existing = None
        if self.dry_run or self._absent_in_a_row < _SKIP_HEAD_AFTER:
            existing = await self._find_in_target(key)
        if existing is not None:
            self._absent_in_a_row = 0
            image = await self.source.stat(key)
            sha256 = image.sha256 or await self._compute_hash(self.source, image)
            if image.size == existing.size and sha256 == await self._hash_of(existing):
                return ProgressEvent(MigrationOutcome.SAME, key.text, image.size, sha256.hex())
            if existing.modified_ns >= image.modified_ns and not self.overwrite:
                detail = "the target has another image, and it is not older than the source's"
                return ProgressEvent(MigrationOutcome.DIFFERS, key.text, detail=detail)
        outcome = MigrationOutcome.COPIED if existing is None else MigrationOutcome.REPLACED
        if self.dry_run or self.target is None:
            image = await self.source.stat(key)
            return ProgressEvent(outcome, key.text, image.size, (image.sha256 or b"").hex())
        image, sha256 = await self._copy(self.target, key, existing)
        self._refused_in_a_row = 0
        if existing is None:
            self._absent_in_a_row += 1
        return ProgressEvent(outcome, key.text, image.size, sha256.hex())

    async def find_copy(self, key: StorageKey, sha256: bytes) -> StoredImage | None:
        """Return the target's image at a key if it has this SHA-256, else None."""
        existing = await self._find_in_target(key)
        if existing is None or await self._hash_of(existing) != sha256:
            return None
        return existing

    async def find_pair(self, key: StorageKey) -> tuple[StoredImage | None, StoredImage | None]:
        """Return the source's image and the target's image at a key; None for a missing image."""
        return await _find(self.source, key), await self._find_in_target(key)

    async def delete_copy(self, copy: StoredImage) -> None:
        """Delete an image from the target, unless it was replaced by a later version."""
        if self.target is not None:
            with contextlib.suppress(errors.ImageNotFound, errors.PreconditionFailed):
                await self.target.storage.delete(copy.key, save_id=copy.save_id)

    async def _find_in_target(self, key: StorageKey) -> StoredImage | None:
        return None if self.target is None else await _find(self.target.storage, key)

    async def _hash_of(self, existing: StoredImage) -> bytes | None:
        if existing.sha256 is not None or self.target is None:
            return existing.sha256
        return await self._compute_hash(self.target.inspection, existing)

    async def _compute_hash(self, store: Inspection, image: StoredImage) -> bytes:
        with contextlib.closing((await store.open(image.key)).opened) as opened:
            if opened.image.save_id != image.save_id:
                raise errors.BackendUnavailable("the image was replaced while it was read")
            spend = self.rate_limit.spend if store is self.source else None
            return await hash_opened(opened, spend)

    async def _copy(
        self, target: Target, key: StorageKey, existing: StoredImage | None
    ) -> tuple[StoredImage, bytes]:
        opened = (await self.source.open(key)).opened
        image, sha256 = opened.image, opened.image.sha256
        if image.size <= _LARGE_BYTES and sha256 is not None:
            return await self._save_and_verify(target, opened, sha256, existing)
        opened.close()  # the next steps may take longer than a bucket keeps idle downloads open
        async with self._large:
            if sha256 is None:  # the target requires the hash before the last byte
                sha256 = await self._compute_hash(self.source, image)
            opened = (await self.source.open(key)).opened
            if opened.image.save_id != image.save_id:
                opened.close()
                raise errors.BackendUnavailable("the image was replaced while it was read")
            return await self._save_and_verify(target, opened, sha256, existing)

    async def _save_and_verify(
        self, target: Target, opened: OpenedImage, sha256: bytes, existing: StoredImage | None
    ) -> tuple[StoredImage, bytes]:
        image = opened.image
        condition = Condition(if_none_match=ANY)
        if existing is not None:
            condition = Condition(if_match=frozenset((existing.etag,)))
        can_read = True

        async def chunks() -> AsyncIterator[bytes]:
            nonlocal can_read
            try:
                async for chunk in opened.chunks(0, image.size):
                    await self.rate_limit.spend(len(chunk))
                    yield chunk
            except errors.BackendUnavailable:
                can_read = False
                raise

        try:
            imported = DescribedSource.of_image(image, sha256, chunks())
            saved = await target.storage.save(image.key, imported, condition)
        except errors.ReadOnly:
            raise
        except errors.BackendUnavailable as error:
            if not can_read:
                raise
            raise _RefusedByTargetError(str(error)) from error
        finally:
            opened.close()
        await self._verify_copy(target, saved, sha256)
        return image, sha256

    async def _verify_copy(self, target: Target, saved: StoredImage, sha256: bytes) -> None:
        """Read a copy back. If it differs, delete it and raise DigestMismatch."""
        try:
            opened = (await target.inspection.open(saved.key)).opened
        except errors.ImageNotFound:
            return  # deleted in the meantime
        with contextlib.closing(opened):
            if opened.image.save_id != saved.save_id:
                return  # replaced in the meantime
            sha256_of_copy = await hash_opened(opened)
        if sha256_of_copy != sha256:
            await self.delete_copy(saved)
            raise errors.DigestMismatch(
                f"the copy in the target had the SHA-256 {sha256_of_copy.hex()} instead of "
                f"{sha256.hex()}, so it was deleted: migrate the image again"
            )


async def _find(store: Inspection | ImageStorage, key: StorageKey) -> StoredImage | None:
    with contextlib.suppress(errors.ImageNotFound):
        return await store.stat(key)
    return None


class _RefusedByTargetError(Exception):
    """Error for an image that was read from the source, but rejected by the target."""
