"""Sweeper: background job that executes the pending deletions that are due.

Every process may run a sweeper (docs/adr/0015). A sweep has four steps:

1. Claim pending deletions for a limited time, the lease. Delete the rows of deleted resources.
2. If a file is the source of an ingest, check that the library's copy is intact.
3. Delete the file.
4. Delete the row of the pending deletion. After a failure, postpone the deletion instead, or after
   the last attempt, replace it with a dead letter.

If the process crashes, the claim expires, and another sweeper repeats the steps. It is no error if
the file no longer exists.

A pending deletion is cancelled if a resource uses the key, if the image was saved again, or if the
retention rules now keep an image that had expired. If the library's copy of a source is missing,
the source is kept, and its pending deletion becomes a dead letter.
"""

import asyncio
import logging
import random
import time
import uuid
from collections.abc import Awaitable, Callable, Collection
from dataclasses import KW_ONLY, asdict, dataclass
from datetime import timedelta
from enum import Enum
from typing import TYPE_CHECKING, Final

from stillroom.concurrently import for_each_concurrently
from stillroom.errors import BackendUnavailable, ImageNotFound, PreconditionFailed, StillroomError
from stillroom.features.database.clock import now
from stillroom.features.library.database import MediaDatabase
from stillroom.features.library.recorded_bytes import has_its_bytes, hash_of
from stillroom.features.library.resource import (
    DELETED,
    ERASED,
    RELOCATED,
    RULE,
    TRASH,
    DueMark,
    MediaResource,
    Settlement,
)
from stillroom.paths import StorageKey
from stillroom.store.capabilities import RemovesEmptyFolders
from stillroom.store.causes import caused_by
from stillroom.store.port import ImageStorage

if TYPE_CHECKING:  # a normal import would load the database driver at every start
    from stillroom.features.library.rows.repository import MediaRepository

LEASE: Final = timedelta(minutes=5)  # duration of a claim; in a slow bucket, a batch takes 80 s
_MARGIN: Final = timedelta(minutes=1)  # no deletion so late in a lease, as clocks may differ
_BATCH: Final = 32
_AT_ONCE: Final = 8  # concurrent deletions, so that other requests are not slowed down
MAX_ATTEMPTS: Final = 12  # which extend over 20 hours, with these pauses:
_FIRST_PAUSE: Final = timedelta(minutes=1)
_LONGEST_PAUSE: Final = timedelta(hours=6)
_EXECUTE_S: Final = 20.0
_POLL_S: Final = 0.1
EMPTY_FOR: Final = timedelta(hours=1)  # age of empty folders to remove; uploads may use newer ones
_RANDOM: Final = random.SystemRandom()
_MAX_ERROR_LETTERS: Final = 500
_NO_RESULT: Final = "no result from the previous attempts; their worker may have crashed"

log = logging.getLogger("stillroom.media")


@dataclass(slots=True)
class Swept:
    """Counts of what happened in a sweep, the execution of all due deletions."""

    deleted: int = 0
    gone: int = 0  # the image no longer existed
    kept: int = 0  # a resource uses the image, it was saved again, or the retention rules keep it
    failed: int = 0  # will be retried
    dead_lettered: int = 0  # failed for good
    copies: int = 0  # deleted copies of failed ingests
    folders: int = 0  # removed empty folders

    @property
    def outcomes(self) -> dict[str, int]:
        """Numbers of deletions. The keys are the names that outcomes have in the metrics."""
        names = {"failed": "retried", "copies": "copy_cleared", "folders": "folder_removed"}
        return {names.get(name, name): count for name, count in asdict(self).items()}


class _CopyMissing(Exception):
    """Error: the library's copy is missing, so the source of the ingest must not be deleted."""


class _Outcome(Enum):
    DELETED = "deleted", "deleted %(key)r (%(reason)s, due %(due_at)s)"
    GONE = "gone", "nothing to delete at %(key)r (%(reason)s)"
    OTHER_SAVE = "kept", "kept %(key)r (%(reason)s): it has been saved again since"
    KEPT_BY_RULES = "kept", "kept %(key)r (%(reason)s): the retention rules now keep it"


@dataclass(eq=False)
class Sweeper:
    """Executor of the library's pending deletions. Several sweepers may run concurrently.

    Attributes:
        leaves: Reasons of pending deletions that other processes execute, and not this one.
        still_holds: Function that returns whether a retention rule still applies to an image with
            a pending deletion. Without this function, images that expired under a rule are kept.
        resume: Called before each sweep to resume interrupted work that creates pending deletions.
    """

    storage: ImageStorage
    database: MediaDatabase
    _: KW_ONLY
    leaves: Collection[str] = ()
    still_holds: Callable[[DueMark], Awaitable[bool]] | None = None
    resume: Callable[[Callable[[], bool]], Awaitable[object]] | None = None

    async def sweep(
        self,
        progress: Callable[[Swept], None] = lambda _: None,
        *,
        is_stopping: Callable[[], bool] = lambda: False,
    ) -> Swept:
        """Execute all pending deletions that are due now.

        `progress` is called after each batch and at the end, even if the sweep fails. When
        `is_stopping` returns True, running deletions are finished, and no new ones begin. If the
        database fails (`BackendUnavailable`), deletions remain claimed until their lease ends.
        """
        swept = Swept()
        try:
            rows = await self.database.rows()
            if self.resume is not None:
                await self.resume(is_stopping)
            for batch in (self._clear_copies, self._delete_marked):
                while not is_stopping() and await batch(rows, swept, is_stopping):
                    progress(swept)
            if isinstance(self.storage, RemovesEmptyFolders) and not is_stopping():
                swept.folders = await self.storage.remove_empty_folders(EMPTY_FOR)
                if swept.folders:
                    log.info("removed %d folders that were empty", swept.folders)
        finally:
            progress(swept)
        return swept

    async def execute(self, ids: Collection[uuid.UUID]) -> bool:
        """Execute these pending deletions, which must be the first ones due.

        Wait for deletions that another sweeper has claimed. Return True if all succeed within 20 s.
        """
        rows, swept, ends = await self.database.rows(), Swept(), _clock() + _EXECUTE_S
        while await rows.deletions.has_any(ids):
            if swept.failed or _clock() > ends:
                return False
            await self._delete_marked(rows, swept, lambda: False)
            await asyncio.sleep(_POLL_S * (swept.outcomes == Swept().outcomes))
        return not swept.dead_lettered

    async def _clear_copies(
        self, rows: "MediaRepository", swept: Swept, is_stopping: Callable[[], bool]
    ) -> bool:
        """Delete a batch of copies that failed ingests have left. Return False if none remain."""
        ends = _clock() + (LEASE - _MARGIN).total_seconds()
        until = now() + LEASE
        media_keys, keys_in_use = await rows.intents.claim(until, limit=_BATCH)
        for key in keys_in_use:
            log.info("removed the record of an ingest: a resource now uses the copy %r", key.text)
        cleared: list[StorageKey] = []

        async def clear(key: StorageKey) -> None:
            if not is_stopping() and await self._clear_copy(key, ends):
                cleared.append(key)

        await for_each_concurrently(clear, media_keys, limit=_AT_ONCE)
        if cleared:
            await rows.intents.end(cleared, until=until)
        swept.copies += len(cleared)
        return bool(cleared or keys_in_use)

    async def _clear_copy(self, key: StorageKey, ends: float) -> bool:
        try:
            async with asyncio.timeout_at(ends):
                # During the lease, the image at this key can only be a failed ingest's copy. An
                # ingest that begins after the lease creates another version.
                image = await self.storage.stat(key)
            if _clock() >= ends:
                return False
            await self.storage.delete(key, save_id=image.save_id)
        except ImageNotFound:
            log.info("removed the record of an ingest: the ingest left no copy at %r", key.text)
        except PreconditionFailed:
            return False
        except (StillroomError, TimeoutError) as error:
            message = "cannot delete %r (a copy that no resource uses), will retry: %s"
            log.warning(message, key.text, _error_text(error))
            return False
        else:
            log.info("deleted %r: an interrupted ingest had left this copy", key.text)
        return True

    async def _delete_marked(
        self, rows: "MediaRepository", swept: Swept, is_stopping: Callable[[], bool]
    ) -> bool:
        """Delete a batch of due images. Return False if none remain, or if all have failed."""
        claim = uuid.uuid4()
        ends = _clock() + (LEASE - _MARGIN).total_seconds()
        claimed, skipped = await rows.deletions.claim(
            claim, limit=_BATCH, lease=LEASE, leaving=self.leaves
        )
        for mark in skipped:
            message = "kept %r, which was to be deleted (reason: %s): a resource uses it"
            log.info(message, mark.storage_key.text, mark.reason)
        swept.kept += len(skipped)
        settlement = Settlement()

        async def delete(mark: DueMark) -> None:
            if is_stopping() or _clock() >= ends:
                settlement.left.append(mark)
            else:
                await self._delete_one(mark, ends, settlement, swept)

        await for_each_concurrently(delete, claimed, limit=_AT_ONCE)
        if claimed:
            await rows.deletions.settle(claim, settlement)
        return bool(settlement.done or skipped)

    async def _delete_one(
        self, mark: DueMark, ends: float, settlement: Settlement, swept: Swept
    ) -> None:
        key, reason = mark.storage_key.text, mark.reason
        began_ns = time.time_ns()
        try:
            if mark.attempts > MAX_ATTEMPTS:
                raise BackendUnavailable(_NO_RESULT)  # noqa: TRY301  (counts as a failure)
            outcome = await self._try(mark, ends)
        except Exception as error:  # noqa: BLE001  (one failure must not stop other deletions)
            text = _error_text(error)
            if mark.attempts >= MAX_ATTEMPTS or isinstance(error, _CopyMissing):
                swept.dead_lettered += 1
                settlement.dead_lettered.append((mark, text))
                log.critical(
                    "gave up deleting %r (reason: %s) after %d attempts: %s; see "
                    "`stillroom media dead-letters`",
                    key, reason, mark.attempts, text,
                )  # fmt: skip
            else:
                swept.failed += 1
                again_at = now() + _pause(mark.attempts)
                settlement.retried.append((mark, text, again_at))
                due_at = again_at.isoformat(timespec="seconds")
                log.warning(
                    "cannot delete %r (reason: %s), will retry at %s: %s",
                    key, reason, due_at, text,
                )  # fmt: skip
            return
        settlement.done.append(mark.id)
        if outcome in (_Outcome.DELETED, _Outcome.GONE):
            settlement.deleted.append((mark, began_ns))
        count, message = outcome.value
        setattr(swept, count, getattr(swept, count) + 1)
        due_at = mark.due_at.isoformat(timespec="seconds")
        log.info(message, {"key": key, "reason": reason, "due_at": due_at})

    async def _try(self, mark: DueMark, ends: float) -> _Outcome:
        # All versions at a media key belong to one resource, whose row the claim has deleted. A
        # place in the trash is never reused, and an interrupted restoration changes the save id.
        any_save = mark.reason == TRASH or (mark.reason == DELETED and mark.storage_key.is_media)
        save_id = None if any_save else mark.save_id
        try:
            async with asyncio.timeout_at(ends):
                if mark.reason == ERASED:
                    image = await self.storage.stat(mark.storage_key)
                    save_id = image.save_id if image.sha256 == mark.content_hash else save_id
                if mark.reason == RELOCATED:
                    await self._require_copy(mark)
                elif mark.reason == RULE and not (
                    self.still_holds is not None and await self.still_holds(mark)
                ):
                    return _Outcome.KEPT_BY_RULES
                with caused_by(mark.cause):
                    await self.storage.delete(mark.storage_key, save_id=save_id)
        except ImageNotFound:
            return _Outcome.GONE
        except PreconditionFailed:
            return _Outcome.OTHER_SAVE
        return _Outcome.DELETED

    async def _require_copy(self, mark: DueMark) -> None:
        copy = mark.copy
        if copy is None or not await self._is_source_needless(copy):
            # Another resource may now have these bytes, and older versions stored no hash.
            image = await self.storage.stat(mark.storage_key)
            if image.save_id != mark.save_id:
                raise PreconditionFailed
            sha256 = mark.content_hash or await hash_of(self.storage, mark.storage_key)
            copy = await (await self.database.rows()).resources.find_by_hash(sha256)
            if copy is None:
                raise _CopyMissing("the source is kept: no resource of the library has these bytes")
            if not await self._is_source_needless(copy):
                raise _CopyMissing(
                    f"the source is kept, because {copy.storage_key.text!r} of resource {copy.id} "
                    "is missing: restore it or ingest the source again, then retry"
                )

    async def _is_source_needless(self, copy: MediaResource) -> bool:
        return copy.deleted_at is not None or await has_its_bytes(self.storage, copy)


def _pause(attempts: int) -> timedelta:
    longest: timedelta = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2.0 ** (attempts - 1))
    return longest * _RANDOM.uniform(0.75, 1)


def _clock() -> float:
    return asyncio.get_running_loop().time()


def _error_text(error: Exception) -> str:
    cause = error.__cause__  # messages from backends contain no signatures or passwords
    text = str(error) or type(error).__name__
    return (f"{text} ({cause})" if cause is not None else text)[:_MAX_ERROR_LETTERS]
