"""Migrate images from one store to another: copy what is missing, and verify each copy's hash.

No progress is saved. An image that is in the target with the same hash is skipped, so a migration
that was interrupted resumes by running again, and a second run copies what has changed since.
"""

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from stillroom.concurrently import for_each_concurrently
from stillroom.errors import (
    BackendUnavailable,
    DigestMismatch,
    ImageNotFound,
    PathConflict,
    PreconditionFailed,
    ReadOnly,
    StorageFull,
    TooLarge,
)
from stillroom.maintenance.copies import folders_of
from stillroom.maintenance.migration_report import MigrationOutcome, MigrationStats, ProgressEvent
from stillroom.maintenance.rate_limiter import RateLimiter
from stillroom.paths import KeyPrefix, StorageKey
from stillroom.storage.inspection import Inspection, UnexpectedFile
from stillroom.storage.port import ImageStorage
from stillroom.storage.sources import ImportedImage
from stillroom.storage.values import ANY, Condition, OpenedImage, StoredImage

AT_ONCE: Final = 32
"""Images being copied. At 50 ms to the bucket and back, and two requests an image, 320 a second."""

_PACED_AT_ONCE: Final = 4
"""With a bound on the rate: no bucket waits for long with a body that is not read."""

_LARGE_BYTES: Final = 1024**2
_LARGE_AT_ONCE: Final = 4
"""Of larger images; in a bucket each holds a part of 16 MiB in memory."""

_SKIP_HEAD_AFTER: Final = 8
"""After so many in a row that the target lacks, the next one is sent without a HEAD before it."""

_ATTEMPTS: Final = 3

_GIVE_UP_AFTER: Final = 8
"""After so many in a row that the target refuses, the migration gives up."""


@dataclass(frozen=True, slots=True)
class Target:
    """The target store: the port to save through, and the inspection to verify with."""

    storage: ImageStorage
    inspection: Inspection


class Migration:
    """One pass over a source store, which is never changed. Cancel `run` to stop."""

    def __init__(
        self,
        source: Inspection,
        target: Target | None,
        *prefixes: KeyPrefix,
        rate_limit: RateLimiter,
        stats: MigrationStats,
        overwrite: bool = False,
        dry_run: bool = False,
        on_event: Callable[[ProgressEvent], None] = lambda _told: None,
    ) -> None:
        """Prepare a pass; both stores stay open.

        Args:
            source: Where the images are.
            target: Where to copy them. None, for a dry run: the target does not exist yet.
            prefixes: Only keys that begin with one of them.
            rate_limit: How fast to read the source.
            stats: Updated with each image.
            overwrite: Replace what differs also where it is newer than the source's.
            dry_run: Report what would be done, and do nothing.
            on_event: Called with the outcome of each image.
        """
        self.stats = stats
        self._source = source
        self._target = target
        self._prefixes = prefixes
        self._rate_limit = rate_limit
        self._overwrite = overwrite
        self._dry_run = dry_run
        self._on_event = on_event
        self._large = asyncio.Semaphore(_LARGE_AT_ONCE)
        self._absent_in_a_row = 0
        self._refused_in_a_row = 0

    async def run(self) -> None:
        """Copy every image that the target lacks, and then the manifests of runs.

        A manifest is there only once all images of its run are: one of them that could not be
        copied keeps it out.

        Raises:
            BackendUnavailable: one of the stores as a whole is out of reach, or the target answers,
                and takes no image.
            StorageFull: the target takes no more.
        """
        manifests: list[StorageKey] = []
        incomplete: set[str] = set()

        async def copy(key: StorageKey) -> None:
            if key.is_manifest:
                manifests.append(key)
                return
            event = await self.copy(key)
            if event is not None and event.outcome is MigrationOutcome.FAILED:
                incomplete.update(folders_of(key))

        await self._each(self._source, copy, self._note_unexpected)
        for key in manifests:
            if key.text.rpartition("/")[0] in incomplete:
                detail = "images of this run could not be copied"
                self._note(ProgressEvent(MigrationOutcome.FAILED, key.text, detail=detail))
            else:
                await self.copy(key)

    async def find_extras(self) -> None:
        """Report every image that only the target has; none is deleted.

        Raises:
            BackendUnavailable: as `run`.
        """
        if self._target is not None:
            await self._each(self._target.inspection, self._look_for_extra, lambda _stray: None)

    async def _each(
        self,
        store: Inspection,
        job: Callable[[StorageKey], Awaitable[object]],
        on_unexpected: Callable[[UnexpectedFile], None],
    ) -> None:
        """Run a job for each image of a store, several at once."""

        async def entries() -> AsyncGenerator[StorageKey | UnexpectedFile, None]:
            for prefix in self._prefixes:
                async for entry in store.walk(prefix, ""):
                    yield entry

        async def do(entry: StorageKey | UnexpectedFile) -> None:
            if isinstance(entry, UnexpectedFile):
                on_unexpected(entry)
            else:
                await job(entry)

        at_once = _PACED_AT_ONCE if self._rate_limit.is_bounded else AT_ONCE
        await for_each_concurrently(do, entries(), limit=at_once)

    def _note_unexpected(self, unexpected: UnexpectedFile) -> None:
        self._note(ProgressEvent(MigrationOutcome.STRAY, unexpected.name, detail=unexpected.reason))

    async def _look_for_extra(self, key: StorageKey) -> None:
        try:
            await self._source.stat(key)
        except ImageNotFound:
            self._note(
                ProgressEvent(
                    MigrationOutcome.EXTRA, key.text, detail="the source has no such image"
                )
            )

    async def copy(self, key: StorageKey) -> ProgressEvent | None:
        """Copy one image, and count it; None if it is not in the source any more.

        Raises:
            BackendUnavailable, StorageFull: as `run`.
        """
        try:
            event = await self._copy_with_retries(key)
        except ImageNotFound:
            return None
        self._note(event)
        return event

    def _note(self, event: ProgressEvent) -> None:
        self.stats.note(event)
        self._on_event(event)

    async def _copy_with_retries(self, key: StorageKey) -> ProgressEvent:
        """Copy one image, with retries."""
        why, refused = "", False
        for _ in range(_ATTEMPTS):
            try:
                return await self._try(key)
            except (ReadOnly, StorageFull):
                raise
            except PreconditionFailed:
                self._absent_in_a_row = 0
                why = "the target's image kept changing during the copy"
            except (PathConflict, TooLarge) as error:
                return ProgressEvent(MigrationOutcome.FAILED, key.text, detail=str(error))
            except _RefusedByTargetError as error:
                await self._check_target()
                why, refused = str(error), True
            except (DigestMismatch, BackendUnavailable) as error:
                # If a store as a whole cannot be reached, this image is not to blame.
                await self._source.check()
                await self._check_target()
                why, refused = str(error), False
        self._refused_in_a_row = self._refused_in_a_row + 1 if refused else 0
        if self._refused_in_a_row >= _GIVE_UP_AFTER:
            raise BackendUnavailable(f"the target answers, but refuses every image: {why}")
        return ProgressEvent(MigrationOutcome.FAILED, key.text, detail=why)

    async def _check_target(self) -> None:
        if self._target is not None:
            await self._target.storage.check()

    async def _try(self, key: StorageKey) -> ProgressEvent:
        there = None
        if self._dry_run or self._absent_in_a_row < _SKIP_HEAD_AFTER:
            there = await self._there(key)
        if there is not None:
            self._absent_in_a_row = 0
            image, sha256 = await self._facts(key)
            if image.size == there.size and sha256 == await self._hash_of(there):
                return ProgressEvent(MigrationOutcome.SAME, key.text, image.size, sha256.hex())
            if there.modified_ns >= image.modified_ns and not self._overwrite:
                return ProgressEvent(
                    MigrationOutcome.DIFFERS,
                    key.text,
                    detail="the target has another image, and it is not older than the source's",
                )
        outcome = MigrationOutcome.COPIED if there is None else MigrationOutcome.REPLACED
        if self._dry_run or self._target is None:
            image = await self._source.stat(key)
            return ProgressEvent(outcome, key.text, image.size, (image.sha256 or b"").hex())
        image, sha256 = await self._copy(self._target, key, there)
        self._refused_in_a_row = 0
        if there is None:
            self._absent_in_a_row += 1
        return ProgressEvent(outcome, key.text, image.size, sha256.hex())

    async def holds(self, key: StorageKey, sha256: bytes) -> StoredImage | None:
        """The target's image at a key, if it has this hash."""
        there = await self._there(key)
        return there if there is not None and await self._hash_of(there) == sha256 else None

    async def pair(self, key: StorageKey) -> tuple[StoredImage | None, StoredImage | None]:
        """The source's image and the target's image at a key; None where there is none."""
        image: StoredImage | None = None
        with contextlib.suppress(ImageNotFound):
            image = await self._source.stat(key)
        return image, await self._there(key)

    async def take_back(self, copy: StoredImage) -> None:
        """Delete this very save from the target."""
        if self._target is not None:
            with contextlib.suppress(ImageNotFound, PreconditionFailed):
                await self._target.storage.delete(copy.key, save_id=copy.save_id)

    async def _there(self, key: StorageKey) -> StoredImage | None:
        if self._target is None:
            return None
        try:
            return await self._target.storage.stat(key)
        except ImageNotFound:
            return None

    async def _facts(self, key: StorageKey) -> tuple[StoredImage, bytes]:
        """The source's facts of an image; its hash is computed if none is recorded."""
        image = await self._source.stat(key)
        return image, image.sha256 or await self._read(self._source, image)

    async def _hash_of(self, there: StoredImage) -> bytes | None:
        if there.sha256 is not None or self._target is None:
            return there.sha256
        return await self._read(self._target.inspection, there)

    async def _read(self, store: Inspection, image: StoredImage) -> bytes:
        """The hash of the bytes of one save.

        Raises:
            BackendUnavailable: they cannot be read, or it is another save by now.
        """
        opened = (await store.open(image.key)).opened
        try:
            if opened.image.save_id != image.save_id:
                raise BackendUnavailable("the image was replaced while it was read")
            digest = hashlib.sha256()
            async for chunk in opened.chunks(0, opened.image.size):
                if store is self._source:
                    await self._rate_limit.spend(len(chunk))
                digest.update(chunk)
            return digest.digest()
        finally:
            opened.close()

    async def _copy(
        self, target: Target, key: StorageKey, there: StoredImage | None
    ) -> tuple[StoredImage, bytes]:
        """Copy one save, and verify the copy.

        Raises:
            PreconditionFailed: the target's image has changed since it was compared.
            DigestMismatch: the bytes do not match the hash, in the source or in the target.
        """
        opened = (await self._source.open(key)).opened
        image, sha256 = opened.image, opened.image.sha256
        if image.size <= _LARGE_BYTES and sha256 is not None:
            return await self._save_opened(target, opened, sha256, there)
        opened.close()  # a bucket does not wait with a body for as long as what follows may take
        async with self._large:
            if sha256 is None:  # the target wants to know it before the last byte
                sha256 = await self._read(self._source, image)
            opened = (await self._source.open(key)).opened
            if opened.image.save_id != image.save_id:
                opened.close()
                raise BackendUnavailable("the image was replaced while it was read")
            return await self._save_opened(target, opened, sha256, there)

    async def _save_opened(
        self, target: Target, opened: OpenedImage, sha256: bytes, there: StoredImage | None
    ) -> tuple[StoredImage, bytes]:
        """Save an opened image in the target, and close it."""
        image = opened.image
        condition = Condition(if_none_match=ANY)
        if there is not None:
            condition = Condition(if_match=frozenset((there.etag,)))
        reading = _Reading(self._paced(opened.chunks(0, image.size)))
        try:
            imported = ImportedImage(image, sha256, reading.chunks())
            saved = await target.storage.save(image.key, imported, condition)
        except ReadOnly:
            raise
        except BackendUnavailable as error:
            if reading.failed:
                raise
            raise _RefusedByTargetError(str(error)) from error
        finally:
            opened.close()
        await self._verify_copy(target, saved, sha256)
        return image, sha256

    async def _paced(self, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        async for chunk in chunks:
            await self._rate_limit.spend(len(chunk))
            yield chunk

    async def _verify_copy(self, target: Target, saved: StoredImage, sha256: bytes) -> None:
        """Verify a copy by reading it back; one that does not match is deleted again.

        Raises:
            DigestMismatch: the copy does not have the expected SHA-256.
        """
        try:
            opened = (await target.inspection.open(saved.key)).opened
        except ImageNotFound:
            return  # deleted meanwhile
        try:
            if opened.image.save_id != saved.save_id:
                return  # replaced meanwhile
            found = hashlib.sha256()
            async for chunk in opened.chunks(0, opened.image.size):
                found.update(chunk)
        finally:
            opened.close()
        if found.digest() != sha256:
            await self.take_back(saved)
            raise DigestMismatch(
                f"the copy has the SHA-256 {found.hexdigest()} instead of {sha256.hex()}: "
                "it was deleted again"
            )


class _RefusedByTargetError(Exception):
    """The target refused an image that the source has read without an error."""


class _Reading:
    """A stream of the source's bytes that notes whether reading them failed."""

    def __init__(self, source: AsyncIterator[bytes]) -> None:
        self._source = source
        self.failed = False

    async def chunks(self) -> AsyncIterator[bytes]:
        try:
            async for chunk in self._source:
                yield chunk
        except BackendUnavailable:
            self.failed = True
            raise
