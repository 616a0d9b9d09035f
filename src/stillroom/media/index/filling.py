"""Background writer of the search index: writes saved, copied and deleted images in batches.

Saving an image only queues the image with the first and last bytes of its file. Soon after, the
metadata is parsed from these bytes, which are then freed. Queued changes are lost if the process
crashes, or if the database is away until the queue is full. Healing finds such changes later.
"""

import asyncio
import contextlib
import dataclasses
import itertools
import logging
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from stillroom.errors import BackendUnavailable, ImageNotFound, StillroomError
from stillroom.file_parts import FileParts, MoreNeeded
from stillroom.generation.ai_mark import AiMark
from stillroom.generation.reading import UNKNOWN, find, find_by_reading, run_parser
from stillroom.media.database import MediaDatabase
from stillroom.media.index.values import IndexedImage, Removed
from stillroom.media.resource import now
from stillroom.paths import StorageKey
from stillroom.storage.port import ImageStorage
from stillroom.storage.upload_checks import PassedBytes
from stillroom.storage.values import OpenedImage, StoredImage
from stillroom.work_budget import TooMuchWork

_GATHER_S: Final = 0.15
"""Seconds to wait after a change, so that following changes share its transaction."""

_GATHER_MORE_S: Final = 0.35
"""Seconds of a second wait if more changes arrived: sharing a transaction halves the cost."""

_PARSE_AFTER_S: Final = 0.1
"""Seconds to wait before parsing, because parsing several files in a row is three times faster."""

_BATCH: Final = 500
_MAX_NOTED: Final = 50_000
_MAX_NOTED_BYTES: Final = 32 * 1024**2
"""Maximum memory for queued bytes and metadata. Further files are read from the storage again."""

_NOTE_BYTES: Final = 2048
"""Estimated size of an image's metadata without the two long texts."""

_FIRST_PAUSE_S: Final = 0.5
_LONGEST_PAUSE_S: Final = 15.0
_MAX_ATTEMPTS: Final = 5
_SLICE: Final = 8
"""Number of files parsed without a break, which delays requests by half a millisecond."""

_REMOVED_AGAIN_S: Final = 2.0
"""Seconds to wait before a deletion is written a second time.

A process may insert an image's row after another process has deleted the image and its row.
"""

if TYPE_CHECKING:  # a normal import would load the database driver at every start
    from stillroom.media.rows.search import SearchRows

log = logging.getLogger("stillroom.media")


async def _nothing() -> None:
    pass


@dataclass(frozen=True, slots=True)
class _Saved:
    image: StoredImage
    passed: PassedBytes | None = None
    copied_from: StoredImage | None = None
    attempts: int = 0
    indexed: IndexedImage | None = None


class IndexFilling:
    """Queue of changes in a storage, and their writer. Belongs to one event loop at a time.

    Attributes:
        database: Database with the search index.
        lost: Number of changes that were dropped because the queue was full.
    """

    def __init__(
        self,
        database: MediaDatabase,
        *,
        report_mark: Callable[[AiMark | None], None] = lambda _: None,
    ) -> None:
        """Write to `database`, which is opened by the first write.

        Args:
            database: Database with the search index.
            report_mark: Called with the AI label of each saved image, or None.
        """
        self.database = database
        self._report_mark = report_mark
        self._noted: dict[StorageKey, _Saved | Removed] = {}
        self._noted_bytes = 0
        self._unparsed: deque[StorageKey] = deque()
        self._arrived = asyncio.Event()
        self._again: list[Removed] = []
        self._changed = asyncio.Event()
        self._stopping = asyncio.Event()
        self._is_running = False
        self._before_writing: Callable[[], Awaitable[object]] = _nothing
        self.lost = 0

    # Methods of `ChangeObserver` ---------------------------------------------------------

    def saved(self, image: StoredImage, passed: PassedBytes | None) -> None:
        """Queue an image that was just saved, to be indexed."""
        self._note(image.key, self._bounded(_Saved(image, passed)))

    def copied(self, image: StoredImage, source: StoredImage) -> None:
        """Queue a copied image, to be indexed with its source's metadata if that is also queued."""
        noted = self._noted.get(source.key)
        if isinstance(noted, _Saved) and noted.image.save_id == source.save_id:
            known = noted.indexed and dataclasses.replace(noted.indexed, image=image)
            copy = _Saved(image, noted.passed, noted.copied_from, indexed=known)
            self._note(image.key, self._bounded(copy))
        else:
            self._note(image.key, _Saved(image, copied_from=source))

    def removed(self, key: StorageKey, at_ns: int) -> None:
        """Queue the deletion of an image from the index."""
        self._note(key, Removed(key, at_ns))

    def _note(self, key: StorageKey, change: _Saved | Removed) -> None:
        if not self._is_running or key.is_manifest:
            return
        if len(self._noted) >= _MAX_NOTED and key not in self._noted:
            self.lost += 1
            return
        self._noted_bytes += _bytes_of(change) - _bytes_of(self._noted.get(key))
        self._noted[key] = change
        self._changed.set()
        if isinstance(change, _Saved) and change.passed is not None:
            self._unparsed.append(key)
            self._arrived.set()

    def _bounded(self, change: _Saved) -> _Saved:
        """Return `change`. If the queue contains too many bytes, drop its bytes and metadata."""
        if self._noted_bytes + _bytes_of(change) > _MAX_NOTED_BYTES:
            return dataclasses.replace(change, passed=None, indexed=None)
        return change

    # Writing -----------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def running(
        self,
        storage: ImageStorage,
        *,
        stop_within_s: float,
        before_writing: Callable[[], Awaitable[object]] = _nothing,
    ) -> AsyncIterator[None]:
        """Write queued changes in the background until the block ends.

        Args:
            storage: Storage to index.
            stop_within_s: Seconds at the end of the block to write the remaining changes.
            before_writing: Called before each batch.
        """
        self._before_writing = before_writing
        self._changed, self._stopping = asyncio.Event(), asyncio.Event()
        self._arrived = asyncio.Event()
        self._is_running = True
        writing = asyncio.create_task(self._write_on(storage))
        parsing = asyncio.create_task(self._parse_on())
        try:
            yield
        finally:
            self._is_running = False
            self._stopping.set()
            self._changed.set()
            # Do not cancel at once: a connection that is being opened would leak.
            await asyncio.wait([writing], timeout=stop_within_s)
            writing.cancel()
            parsing.cancel()
            await asyncio.wait([writing, parsing])
            self._noted.clear()
            self._unparsed.clear()
            self._noted_bytes = 0

    async def _parse_on(self) -> None:
        """Parse metadata from the queued bytes, and free the bytes unless they are insufficient."""
        for number in itertools.count(1):
            if not self._unparsed:
                self._arrived.clear()
                await self._arrived.wait()
                await asyncio.sleep(_PARSE_AFTER_S)
            key = self._unparsed.popleft()
            change = self._noted.get(key)
            if isinstance(change, _Saved) and change.passed is not None:
                indexed = None
                try:
                    indexed = await _found_in(change.image, change.passed)
                except Exception:  # a parser failed: logged when the batch is written
                    log.debug("parsing failed", exc_info=True)
                if indexed is not None and self._noted.get(key) is change:
                    parsed = dataclasses.replace(change, passed=None, indexed=indexed)
                    self._note(key, self._bounded(parsed))
            if not number % _SLICE:
                await asyncio.sleep(0)  # requests go first

    async def _write_on(self, storage: ImageStorage) -> None:
        pause = _FIRST_PAUSE_S
        while self._noted or not self._stopping.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(
                    self._changed.wait(), _REMOVED_AGAIN_S if self._again else None
                )
            await self._stops_within(_GATHER_S)
            if 1 < len(self._noted) < _BATCH:
                await self._stops_within(_GATHER_MORE_S)
            self._changed.clear()
            if self._stopping.is_set() and not self._noted:
                return
            try:
                await self._write_batch(storage)
                pause = _FIRST_PAUSE_S
            except BackendUnavailable as error:
                if pause == _FIRST_PAUSE_S:  # otherwise a long outage would fill the log
                    log.warning(
                        "cannot update the search index yet: %s (%r)", error, error.__cause__
                    )
                if await self._stops_within(pause):
                    return
                pause = min(2 * pause, _LONGEST_PAUSE_S)
            except Exception:  # the next batch may succeed
                log.exception("a batch of the search index failed; a later comparison will add it")
            if self._noted:
                self._changed.set()

    async def _stops_within(self, seconds: float) -> bool:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), seconds)
        return self._stopping.is_set()

    async def _write_batch(self, storage: ImageStorage) -> None:
        await self._before_writing()
        rows = (await self.database.rows()).search
        batch = {key: self._noted[key] for key in list(self._noted)[:_BATCH]}
        for key, change in batch.items():
            del self._noted[key]
            self._noted_bytes -= _bytes_of(change)
        due = time.time_ns() - int(_REMOVED_AGAIN_S * 1e9)
        removed = [one for one in batch.values() if isinstance(one, Removed)]
        again = [one for one in self._again if one.at_ns <= due]
        try:
            images = await self._described(storage, rows, batch.values())
            if images or removed or again:
                await rows.write(images, [*again, *removed])
        except BackendUnavailable:
            for change in batch.values():
                self._put_back(change)
            raise
        self._again = [one for one in self._again if one.at_ns > due] + removed
        if self.lost:
            self.lost = 0
            await self._ask_for_healing()

    async def _described(
        self, storage: ImageStorage, rows: "SearchRows", changes: Iterable[_Saved | Removed]
    ) -> Sequence[IndexedImage]:
        """Return the index entries of saved images. Queue unreadable images again, a few times."""
        found: dict[StorageKey, IndexedImage] = {}
        for number, change in enumerate(changes, 1):
            if not number % _SLICE:
                await asyncio.sleep(0)  # requests go first
            if isinstance(change, Removed):
                continue
            indexed = change.indexed
            if indexed is None and change.copied_from is not None:
                key, save_id = change.copied_from.key, change.copied_from.save_id
                source = found.get(key) or await rows.find(key)
                if source is not None and source.image.save_id == save_id:
                    indexed = dataclasses.replace(source, image=change.image)
            try:
                if indexed is None:
                    indexed = await read_facts(storage, change.image, change.passed)
                if change.copied_from is None:
                    self._report_mark(indexed.ai_mark)
            except BackendUnavailable:
                if change.attempts < _MAX_ATTEMPTS:
                    self._put_back(dataclasses.replace(change, attempts=change.attempts + 1))
                else:
                    self.lost += 1
                continue
            found[change.image.key] = indexed
        return [*found.values()]

    def _put_back(self, change: _Saved | Removed) -> None:
        """Queue a failed change again without its bytes, unless the queue has a newer change."""
        if isinstance(change, _Saved):
            key, change = change.image.key, dataclasses.replace(change, passed=None)
        else:
            key = change.key
        if key not in self._noted:
            self._note(key, change)

    async def _ask_for_healing(self) -> None:
        from stillroom.media.rows.scans import INDEX

        await (await self.database.rows()).scans.restart(INDEX, at=now())


async def read_facts(
    storage: ImageStorage, image: StoredImage, passed: PassedBytes | None = None
) -> IndexedImage:
    """Parse an image's index entry from `passed`, or from the storage if more bytes are needed.

    Raises:
        BackendUnavailable: the storage failed.
    """
    try:
        return await _read_facts(storage, image, passed)
    except StillroomError:
        raise
    except Exception:  # one broken file must not prevent the indexing of others
        log.exception(
            "cannot parse the metadata of %s: searches by it do not find the image", image.key.text
        )
        return IndexedImage(image, None)


async def _read_facts(
    storage: ImageStorage, image: StoredImage, passed: PassedBytes | None
) -> IndexedImage:
    indexed = None if passed is None else await _found_in(image, passed)
    if indexed is not None:
        return indexed
    opened: OpenedImage | None = None

    async def read(start: int, length: int) -> bytes:
        nonlocal opened
        found = passed.at(start, length) if passed is not None else None
        if found is not None:
            return found
        if opened is None:
            opened = await storage.open(image.key)
            if opened.image.save_id != image.save_id:
                raise ImageNotFound
        return b"".join([chunk async for chunk in opened.chunks(start, length)])

    try:
        found = await find_by_reading(image.size, read)
    except ImageNotFound:  # deleted or replaced: the queue contains that change, too
        return IndexedImage(image, None)
    finally:
        if opened is not None:
            opened.close()
    return IndexedImage.of(image, found.generation, found.ai_mark)


def _bytes_of(change: _Saved | Removed | None) -> int:
    if not isinstance(change, _Saved):
        return 0
    size = 0 if change.passed is None else change.passed.kept_bytes
    if change.indexed is not None and (facts := change.indexed.generation) is not None:
        size += _NOTE_BYTES + len(facts.prompt or "") + len(facts.negative_prompt or "")
    return size


async def _found_in(image: StoredImage, passed: PassedBytes) -> IndexedImage | None:
    """Parse the index entry from the first and last bytes; None if more bytes are needed."""
    parts = FileParts(passed.size, passed.kept_bytes)
    parts.add(0, passed.head)
    if not passed.is_whole:
        parts.add(passed.size - len(passed.tail), passed.tail)
    try:
        found = await run_parser(parts, find)
    except MoreNeeded:
        return None
    except TooMuchWork:
        found = UNKNOWN
    return IndexedImage.of(image, found.generation, found.ai_mark)
