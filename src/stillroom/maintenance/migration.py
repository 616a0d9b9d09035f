"""From one store to another: what is not there yet is copied, and hashed again where it arrives.

Nothing is remembered of how far it has come. What is there with the same hash is there, so a
migration that was killed goes on by beginning anew, and one that is finished brings the difference.
"""

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from enum import StrEnum
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
from stillroom.maintenance.verify import Pace
from stillroom.paths import KeyPrefix, StorageKey
from stillroom.storage.inspection import Inspection, UnexpectedFile
from stillroom.storage.port import ImageStorage
from stillroom.storage.sources import ImportedImage
from stillroom.storage.values import ANY, Condition, OpenedImage, StoredImage

AT_ONCE: Final = 32
"""Images under way. At 50 ms to the bucket and back, and two requests an image, 320 a second."""

_PACED_AT_ONCE: Final = 4
"""With a bound on the rate: no bucket waits for long with a body that is not read."""

_LARGE_BYTES: Final = 1024**2
_LARGE_AT_ONCE: Final = 4
"""Of larger images; in a bucket each holds a part of 16 MiB in memory."""

_SURE_AFTER: Final = 8
"""So many in a row that are not there: then the next one is sent without asking for it first."""

_ATTEMPTS: Final = 3

_HOPELESS_AFTER: Final = 8
"""So many in a row that the target does not take: then it takes none."""

_MAX_PROBLEMS: Final = 10_000
"""Kept for the report; more are counted."""


class Outcome(StrEnum):
    """What became of one image."""

    COPIED = "copied"
    """It was not there, and is now."""

    REPLACED = "replaced"
    """There was an older one, and it was replaced."""

    SAME = "same"
    """It was there already, by its hash."""

    DIFFERS = "differs"
    """Another image is there that is not older; it was left alone."""

    FAILED = "failed"
    """It is not there."""

    STRAY = "stray"
    """No image, and so nothing that could be copied. No problem, but reported."""

    EXTRA = "extra"
    """Only the target has it: deleted in the source since it was copied, or the target's own."""


PROBLEMS: Final = frozenset((Outcome.DIFFERS, Outcome.FAILED))
_NO_IMAGES_OF_THE_SOURCE: Final = frozenset((Outcome.STRAY, Outcome.EXTRA))


@dataclass(frozen=True, slots=True)
class ProgressEvent:
    """One line of the report.

    Attributes:
        name: The key; of strays whatever they are called.
        size: Bytes; of what was copied, replaced or the same.
        sha256: Hexadecimal, of the same.
        detail: For people.
    """

    outcome: Outcome
    name: str
    size: int = 0
    sha256: str = ""
    detail: str = ""


@dataclass
class MigrationStats:
    """What came of a migration so far.

    Attributes:
        images: Looked at, and not deleted meanwhile.
        size: Bytes copied.
        counts: Images by outcome.
        problems: The first 10,000 that are no success, strays and extras among them.
    """

    images: int = 0
    size: int = 0
    counts: dict[Outcome, int] = field(default_factory=dict)
    problems: list[ProgressEvent] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._noted: set[str] = set()

    @property
    def wrong(self) -> int:
        """Images of the source that are not in the target."""
        return sum(self.counts.get(outcome, 0) for outcome in PROBLEMS)

    @property
    def event_of(self) -> int:
        """What would be in `problems` if there was room for all."""
        return self.wrong + sum(self.counts.get(one, 0) for one in _NO_IMAGES_OF_THE_SOURCE)

    def note(self, event: ProgressEvent) -> None:
        """Count it, and keep what an operator has to look at."""
        if event.outcome in PROBLEMS:
            if event.name in self._noted:
                return  # a row asked for it once more
            if len(self._noted) < _MAX_PROBLEMS:
                self._noted.add(event.name)
        self.counts[event.outcome] = self.counts.get(event.outcome, 0) + 1
        if event.outcome not in _NO_IMAGES_OF_THE_SOURCE:
            self.images += 1
        if event.outcome in PROBLEMS | _NO_IMAGES_OF_THE_SOURCE:
            if len(self.problems) < _MAX_PROBLEMS:
                self.problems.append(event)
        elif event.outcome is not Outcome.SAME:
            self.size += event.size


@dataclass(frozen=True, slots=True)
class Target:
    """Where images are to be, as those who save there see it, and as its operator does."""

    storage: ImageStorage
    inspection: Inspection


class Migration:
    """One pass over a store, which is never changed. Cancel `run` to stop."""

    def __init__(
        self,
        source: Inspection,
        target: Target | None,
        *prefixes: KeyPrefix,
        pace: Pace,
        tally: MigrationStats,
        overwrite: bool = False,
        dry_run: bool = False,
        tell: Callable[[ProgressEvent], None] = lambda _told: None,
    ) -> None:
        """Prepare a pass; both stores stay open.

        Args:
            source: Where the images are.
            target: Where they are to be. None, for a dry run: nothing is there yet.
            prefixes: Only keys that begin with one of them.
            pace: How fast to read the source.
            tally: Is kept up to date.
            overwrite: Replace what differs also where it is newer than the source's.
            dry_run: Say what would be done, and do nothing.
            tell: Told of each image, as soon as it is known what became of it.
        """
        self.tally = tally
        self._source = source
        self._target = target
        self._prefixes = prefixes
        self._pace = pace
        self._overwrite = overwrite
        self._dry_run = dry_run
        self._tell = tell
        self._large = asyncio.Semaphore(_LARGE_AT_ONCE)
        self._absent_in_a_row = 0
        self._not_taken_in_a_row = 0

    async def run(self) -> None:
        """Bring every image.

        Raises:
            BackendUnavailable: one of the stores as a whole is out of reach, or the target answers,
                and takes no image.
            StorageFull: the target takes no more.
        """
        await self._each(self._source, self.bring, self._note_unexpected)

    async def find_extras(self) -> None:
        """Tell of every image that only the target has; nothing is done about it.

        Raises:
            BackendUnavailable: as `run`.
        """
        if self._target is not None:
            await self._each(self._target.inspection, self._look_for_extra, lambda _stray: None)

    async def _each(
        self,
        store: Inspection,
        job: Callable[[StorageKey], Awaitable[object]],
        event_of: Callable[[UnexpectedFile], None],
    ) -> None:
        """Do a job for each image of a store, a few at the same time."""

        async def entries() -> AsyncGenerator[StorageKey | UnexpectedFile, None]:
            for prefix in self._prefixes:
                async for entry in store.walk(prefix, ""):
                    yield entry

        async def do(entry: StorageKey | UnexpectedFile) -> None:
            if isinstance(entry, UnexpectedFile):
                event_of(entry)
            else:
                await job(entry)

        at_once = _PACED_AT_ONCE if self._pace.is_bounded else AT_ONCE
        await for_each_concurrently(do, entries(), limit=at_once)

    def _note_unexpected(self, unexpected: UnexpectedFile) -> None:
        self._note(ProgressEvent(Outcome.STRAY, unexpected.name, detail=unexpected.reason))

    async def _look_for_extra(self, key: StorageKey) -> None:
        try:
            await self._source.stat(key)
        except ImageNotFound:
            self._note(
                ProgressEvent(Outcome.EXTRA, key.text, detail="the source has no such image")
            )

    async def bring(self, key: StorageKey) -> ProgressEvent | None:
        """Bring one image, and count it; None if it is not in the source any more.

        Raises:
            BackendUnavailable, StorageFull: as `run`.
        """
        try:
            event = await self._persist(key)
        except ImageNotFound:
            return None
        self._note(event)
        return event

    def _note(self, event: ProgressEvent) -> None:
        self.tally.note(event)
        self._tell(event)

    async def _persist(self, key: StorageKey) -> ProgressEvent:
        """Try until it is known what becomes of an image."""
        why, taken = "", True
        for _ in range(_ATTEMPTS):
            try:
                return await self._try(key)
            except (ReadOnly, StorageFull):
                raise
            except PreconditionFailed:
                self._absent_in_a_row = 0
                why = "the target's image is changed again and again"
            except (PathConflict, TooLarge) as error:
                return ProgressEvent(Outcome.FAILED, key.text, detail=str(error))
            except _NotTakenError as error:
                await self._target_is_there()
                why, taken = str(error), False
            except (DigestMismatch, BackendUnavailable) as error:
                # If a store as a whole cannot be reached, this image is not to blame.
                await self._source.check()
                await self._target_is_there()
                why, taken = str(error), True
        self._not_taken_in_a_row = 0 if taken else self._not_taken_in_a_row + 1
        if self._not_taken_in_a_row >= _HOPELESS_AFTER:
            raise BackendUnavailable(f"the target answers, but takes no image: {why}")
        return ProgressEvent(Outcome.FAILED, key.text, detail=why)

    async def _target_is_there(self) -> None:
        if self._target is not None:
            await self._target.storage.check()

    async def _try(self, key: StorageKey) -> ProgressEvent:
        there = None
        if self._dry_run or self._absent_in_a_row < _SURE_AFTER:
            there = await self._there(key)
        if there is not None:
            self._absent_in_a_row = 0
            image, sha256 = await self._facts(key)
            if image.size == there.size and sha256 == await self._hash_of(there):
                return ProgressEvent(Outcome.SAME, key.text, image.size, sha256.hex())
            if there.modified_ns >= image.modified_ns and not self._overwrite:
                return ProgressEvent(
                    Outcome.DIFFERS,
                    key.text,
                    detail="the target has another image, and it is not older than the source's",
                )
        outcome = Outcome.COPIED if there is None else Outcome.REPLACED
        if self._dry_run or self._target is None:
            image = await self._source.stat(key)
            return ProgressEvent(outcome, key.text, image.size, (image.sha256 or b"").hex())
        image, sha256 = await self._copy(self._target, key, there)
        self._not_taken_in_a_row = 0
        if there is None:
            self._absent_in_a_row += 1
        return ProgressEvent(outcome, key.text, image.size, sha256.hex())

    async def holds(self, key: StorageKey, sha256: bytes) -> StoredImage | None:
        """The target's image at a key, if it has this hash."""
        there = await self._there(key)
        return there if there is not None and await self._hash_of(there) == sha256 else None

    async def pair(self, key: StorageKey) -> tuple[StoredImage | None, StoredImage | None]:
        """What the source and what the target have at a key."""
        image: StoredImage | None = None
        with contextlib.suppress(ImageNotFound):
            image = await self._source.stat(key)
        return image, await self._there(key)

    async def _there(self, key: StorageKey) -> StoredImage | None:
        if self._target is None:
            return None
        try:
            return await self._target.storage.stat(key)
        except ImageNotFound:
            return None

    async def _facts(self, key: StorageKey) -> tuple[StoredImage, bytes]:
        """What the source says of an image; its hash is computed if none is recorded."""
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
                raise BackendUnavailable("the image was replaced while it was looked at")
            digest = hashlib.sha256()
            async for chunk in opened.chunks(0, opened.image.size):
                if store is self._source:
                    await self._pace.spend(len(chunk))
                digest.update(chunk)
            return digest.digest()
        finally:
            opened.close()

    async def _copy(
        self, target: Target, key: StorageKey, there: StoredImage | None
    ) -> tuple[StoredImage, bytes]:
        """Copy one save, and read it back.

        Raises:
            PreconditionFailed: the target is not what it was taken for.
            DigestMismatch: the bytes are not those of the hash, at the source or where they came.
        """
        opened = (await self._source.open(key)).opened
        image, sha256 = opened.image, opened.image.sha256
        if image.size <= _LARGE_BYTES and sha256 is not None:
            return await self._carry(target, opened, sha256, there)
        opened.close()  # a bucket does not wait with a body for as long as what follows may take
        async with self._large:
            if sha256 is None:  # the target wants to know it before the last byte
                sha256 = await self._read(self._source, image)
            opened = (await self._source.open(key)).opened
            if opened.image.save_id != image.save_id:
                opened.close()
                raise BackendUnavailable("the image was replaced while it was looked at")
            return await self._carry(target, opened, sha256, there)

    async def _carry(
        self, target: Target, opened: OpenedImage, sha256: bytes, there: StoredImage | None
    ) -> tuple[StoredImage, bytes]:
        """Save what is open, and close it."""
        image = opened.image
        condition = Condition(if_none_match=ANY)
        if there is not None:
            condition = Condition(if_match=frozenset((there.etag,)))
        reading = _Reading(self._paced(opened.chunks(0, image.size)))
        try:
            arrival = ImportedImage(image, sha256, reading.chunks())
            saved = await target.storage.save(image.key, arrival, condition)
        except ReadOnly:
            raise
        except BackendUnavailable as error:
            if reading.broke:
                raise
            raise _NotTakenError(str(error)) from error
        finally:
            opened.close()
        await self._check_arrival(target, saved, sha256)
        return image, sha256

    async def _paced(self, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        async for chunk in chunks:
            await self._pace.spend(len(chunk))
            yield chunk

    async def _check_arrival(self, target: Target, saved: StoredImage, sha256: bytes) -> None:
        """Read what was saved from where it lies now; what is not right goes again.

        Raises:
            DigestMismatch: it was not right.
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
            with contextlib.suppress(ImageNotFound, PreconditionFailed):
                await target.storage.delete(saved.key, save_id=saved.save_id)
            raise DigestMismatch(
                f"what arrived has the SHA-256 {found.hexdigest()}, and not {sha256.hex()}: "
                "it was removed again"
            )


class _NotTakenError(Exception):
    """The target did not save an image that the source has read without trouble."""


class _Reading:
    """What is read of the source, and whether that broke off."""

    def __init__(self, source: AsyncIterator[bytes]) -> None:
        self._source = source
        self.broke = False

    async def chunks(self) -> AsyncIterator[bytes]:
        try:
            async for chunk in self._source:
                yield chunk
        except BackendUnavailable:
            self.broke = True
            raise


def is_copy(copy: StoredImage, original: StoredImage) -> bool:
    """Whether an image is the copy of this very save, as far as times can tell.

    The time of a save goes along with it, to the microsecond at least (`ImportedImage`).
    """
    if copy.size != original.size or copy.modified_ns // 1000 != original.modified_ns // 1000:
        return False
    return copy.sha256 == original.sha256 or None in (copy.sha256, original.sha256)
