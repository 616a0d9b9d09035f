"""Background writer of the search index: writes saved, copied and deleted images in batches.

A save only queues the image with the first and last bytes of its file. A second task parses these
bytes, and the next batch contains the resulting metadata. Queued changes are lost if the process
crashes, or if the queue becomes full while the database is unreachable. The comparison in
`catching_up.py` finds such changes later.
"""

import asyncio
import contextlib
import dataclasses
import functools
import itertools
import logging
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

from stillroom.errors import BackendUnavailable, ImageNotFound, StillroomError
from stillroom.features.database.clock import now
from stillroom.features.database.database import Database
from stillroom.features.search.database import search_rows
from stillroom.features.search.file_ends import UploadEnds
from stillroom.features.search.values import INDEX_SCAN, NEVER_NS, Indexed, IndexedImage, Removed
from stillroom.formats.file_parts import FileParts, MoreNeeded
from stillroom.formats.work_budget import TooMuchWork, WorkBudget
from stillroom.generation.reading import UNKNOWN, Found, find, find_by_reading, run_parser
from stillroom.paths import IMAGE_PREFIXES, StorageKey, is_reserved
from stillroom.store.background import Stopping
from stillroom.store.causes import REQUEST, Cause
from stillroom.store.port import ImageStorage
from stillroom.store.values import OpenedImage, StoredImage

_GATHER_S: Final = 0.15  # seconds after a change, so that later changes share its transaction
_GATHER_MORE_S: Final = 0.35  # more seconds if several changes are queued, which halves the cost
_PARSE_AFTER_S: Final = 0.1  # parsing several files in a row is three times faster
_BATCH: Final = 500
_MAX_NOTED: Final = 50_000
_MAX_NOTED_BYTES: Final = 32 * 1024**2  # parts of files in the queue; other files are read again
_NOTE_BYTES: Final = 2048  # estimated size of an image's metadata without the prompts
_FIRST_PAUSE_S: Final = 0.5
_LONGEST_PAUSE_S: Final = 15.0
_MAX_ATTEMPTS: Final = 5
_READ_AGAIN_S: Final = 15.0  # seconds before unreadable metadata is read again
_SLICE: Final = 8  # files to parse before pending requests run (half a millisecond)
# Seconds after which a deletion is written again. Meanwhile, another process may have inserted the
# row of an image that it had saved before the deletion.
_REMOVED_AGAIN_S: Final = 2.0

log = logging.getLogger("stillroom.media")


@dataclass(slots=True)
class _Saved:
    image: StoredImage
    passed: FileParts | None = None
    copied_from: StoredImage | None = None
    actor: str | None = None
    attempts: int = 0
    indexed: IndexedImage | None = None
    is_parsed: bool = False

    @property
    def key(self) -> StorageKey:
        return self.image.key


class IndexFilling:
    """Queue of changes to stored images, with a background task that writes them to the index.

    The storage reports the changes to the queue, which belongs to one event loop at a time.
    `report_mark` is called with the AI mark of each saved image.
    """

    def __init__(self, database: Database) -> None:
        self.database = database
        self.report_mark: Callable[[str | None], None] = lambda _: None
        self._noted: dict[StorageKey, _Saved | Removed] = {}
        self._noted_bytes = 0
        self._unparsed: deque[StorageKey] = deque()
        self._again: list[Removed] = []
        self._is_running = False
        self._lost_ns = NEVER_NS

    def saving(self, _: StorageKey, cause: Cause = REQUEST) -> UploadEnds:
        """Return an observer of an upload, which queues the image with the ends of its file."""
        return UploadEnds(functools.partial(self.saved, cause=cause))

    def saved(self, image: StoredImage, passed: FileParts | None, cause: Cause = REQUEST) -> None:
        """Queue a saved image, so that it is indexed. `passed` has parts of its file (if any)."""
        self._note(_Saved(image, passed, actor=cause.actor))

    def copied(self, image: StoredImage, source: StoredImage, cause: Cause = REQUEST) -> None:
        """Queue a copied image. If its source is also queued, the source's metadata is used."""
        noted = self._noted.get(source.key)
        if isinstance(noted, _Saved) and noted.image.save_id == source.save_id:
            indexed = noted.indexed and dataclasses.replace(noted.indexed, image=image)
            copy = dataclasses.replace(noted, image=image, attempts=0, indexed=indexed)
            copy.actor = cause.actor
        else:
            copied_from = source if source.key.text.startswith(IMAGE_PREFIXES) else None
            copy = _Saved(image, copied_from=copied_from, actor=cause.actor)
        self._note(copy)

    def removed(self, key: StorageKey, at_ns: int, cause: Cause = REQUEST) -> None:
        """Queue the deletion of an image, so that its row is removed from the index."""
        self._note(Removed(key, at_ns, cause))

    def _note(self, change: _Saved | Removed) -> None:
        key, text = change.key, change.key.text
        if not self._is_running or is_reserved(text) or not text.startswith(IMAGE_PREFIXES):
            return
        if len(self._noted) >= _MAX_NOTED and key not in self._noted:
            self._lose(change)
            return
        self._noted_bytes -= _bytes_of(self._noted.get(key))
        if isinstance(change, _Saved) and self._noted_bytes + _bytes_of(change) > _MAX_NOTED_BYTES:
            change.passed = change.indexed = None  # the file is read again
        self._noted_bytes += _bytes_of(change)
        self._noted[key] = change
        self._changed.set()
        if isinstance(change, _Saved) and change.passed is not None and not change.is_parsed:
            self._unparsed.append(key)
            self._arrived.set()

    def _lose(self, change: _Saved | Removed) -> None:
        # A later comparison of storage and index finds the change.
        at_ns = change.image.modified_ns if isinstance(change, _Saved) else change.at_ns
        self._lost_ns = min(self._lost_ns, at_ns)

    @contextlib.asynccontextmanager
    async def running(
        self,
        storage: ImageStorage,
        *,
        stop_within_s: float,
        before_writing: Callable[[int], Awaitable[object]] = lambda _: asyncio.sleep(0),
    ) -> AsyncIterator[None]:
        """Context manager: write queued changes in the background until the block ends.

        The remaining changes are then written, but for at most `stop_within_s` seconds.
        `before_writing` is called before each batch, with the time (nanoseconds) of the earliest
        change that was lost since the previous batch. If none was lost, it gets `NEVER_NS`.
        """
        self._before_writing = before_writing
        self._changed, self._stopping = asyncio.Event(), Stopping()
        self._arrived, self._unread = asyncio.Event(), asyncio.Queue[StoredImage]()
        self._is_running = True
        writing = asyncio.create_task(self._write_on(storage))
        others = [*map(asyncio.create_task, (self._parse_on(), self._read_on(storage)))]
        try:
            yield
        finally:
            self._is_running = False
            self._stopping.set()
            self._changed.set()
            # Do not cancel at once: a connection that is being opened would leak.
            await asyncio.wait([writing], timeout=stop_within_s)
            for task in (writing, *others):
                task.cancel()
            await asyncio.wait([writing, *others])
            self._noted.clear()
            self._unparsed.clear()
            self._noted_bytes = 0

    async def _parse_on(self) -> None:
        # A separate task, to free memory even while a slow batch is written.
        for number in itertools.count(1):
            if not self._unparsed:
                self._arrived.clear()
                await self._arrived.wait()
                await asyncio.sleep(_PARSE_AFTER_S)
            change = self._noted.get(self._unparsed.popleft())
            if isinstance(change, _Saved) and change.passed is not None:
                change.is_parsed, found = True, None
                try:
                    change.passed.budget = WorkBudget()  # copies share the bytes of their source
                    found = await run_parser(change.passed, find)
                except TooMuchWork:
                    found = UNKNOWN
                except MoreNeeded:
                    pass  # the file is read when the batch is written
                except Exception:  # a parser failed: logged when the batch is written
                    log.debug("parsing failed", exc_info=True)
                if found is not None and self._noted.get(change.key) is change:
                    indexed = IndexedImage.of(change.image, found)
                    self._note(dataclasses.replace(change, passed=None, indexed=indexed))
            if not number % _SLICE:
                await asyncio.sleep(0)  # requests go first

    async def _write_on(self, storage: ImageStorage) -> None:
        pause = _FIRST_PAUSE_S
        while self._noted or not self._stopping.is_set():
            timeout_s = _REMOVED_AGAIN_S if self._again else None
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), timeout_s)
            await self._stopping.within(_GATHER_S)
            if 1 < len(self._noted) < _BATCH:
                await self._stopping.within(_GATHER_MORE_S)
            self._changed.clear()
            if self._stopping.is_set() and not self._noted:
                return
            try:
                await self._write_batch(storage)
                pause = _FIRST_PAUSE_S
            except BackendUnavailable as error:
                if pause == _FIRST_PAUSE_S:  # otherwise a long outage would fill the log
                    message = "cannot update the search index yet, will retry: %s (%r)"
                    log.warning(message, error, error.__cause__)
                if await self._stopping.within(pause):
                    return
                pause = min(2 * pause, _LONGEST_PAUSE_S)
            except Exception:  # the next batch may succeed
                log.exception(
                    "cannot add changes to the search index: searches do not find some images "
                    "until the index is next compared with the storage"
                )
            if self._noted:
                self._changed.set()

    async def _write_batch(self, storage: ImageStorage) -> None:
        batch = [self._noted.pop(key) for key in list(self._noted)[:_BATCH]]
        self._noted_bytes -= sum(map(_bytes_of, batch))
        due = time.time_ns() - int(_REMOVED_AGAIN_S * 1e9)
        saved = [change for change in batch if isinstance(change, _Saved)]
        removed = [change for change in batch if isinstance(change, Removed)]
        again = [change for change in self._again if change.at_ns <= due]
        lost_ns, self._lost_ns = self._lost_ns, NEVER_NS
        try:
            images = await self._described(storage, saved)
            await self._before_writing(lost_ns)
            if images or removed or again:
                rows = await search_rows(self.database)
                actors = {change.key: change.actor for change in saved}
                await rows.write(images, [*again, *removed], actors=actors)
        except Exception as error:
            self._lost_ns = min(self._lost_ns, lost_ns)
            for change in batch:
                if isinstance(error, BackendUnavailable):
                    self._put_back(change)
                else:
                    self._lose(change)
            raise
        self._again = [change for change in self._again if change.at_ns > due] + removed
        for change in saved:
            if change.attempts > _MAX_ATTEMPTS and self._unread.qsize() < _MAX_NOTED:
                self._unread.put_nowait(change.image)
        if lost_ns != NEVER_NS:
            await (await self.database.scans()).restart(INDEX_SCAN, at=now())

    async def _described(
        self, storage: ImageStorage, changes: Sequence[_Saved]
    ) -> Sequence[IndexedImage]:
        found: dict[StorageKey, IndexedImage] = {}
        for number, change in enumerate(changes, 1):
            if not number % _SLICE:
                await asyncio.sleep(0)  # requests go first
            if change.indexed is None and (origin := change.copied_from) is not None:
                rows = await search_rows(self.database)
                source = found.get(origin.key) or await rows.find(origin.key)
                if source is not None and source.image.save_id == origin.save_id:
                    change.indexed = dataclasses.replace(source, image=change.image)
            try:
                if change.indexed is None:
                    change.indexed = await read_facts(storage, change.image, change.passed)
            except BackendUnavailable:
                change.attempts, change.passed = change.attempts + 1, None  # more parts are needed
                if change.attempts <= _MAX_ATTEMPTS:
                    self._put_back(change)
                    continue
                change.indexed = IndexedImage.of(change.image, UNKNOWN)  # to report the save
            change.passed = None
            if change.copied_from is None:
                self.report_mark(change.indexed.metadata.ai_mark)
            found[change.key] = change.indexed
        return [*found.values()]

    async def _read_on(self, storage: ImageStorage) -> None:
        # Adds metadata to rows that were written without it, because it could not be read.
        while True:
            image = await self._unread.get()
            row = {image.key.text: Indexed(image.save_id, image.etag)}
            try:
                indexed = await read_facts(storage, image)
                await (await search_rows(self.database)).write([indexed], compared_with=row)
            except BackendUnavailable:
                self._unread.put_nowait(image)
                await asyncio.sleep(_READ_AGAIN_S)
            except Exception:
                log.exception("cannot add metadata of %s to the search index", image.key.text)

    def _put_back(self, change: _Saved | Removed) -> None:
        # A newer change in the queue is kept.
        if change.key not in self._noted:
            self._note(change)


async def read_facts(
    storage: ImageStorage, image: StoredImage, passed: FileParts | None = None
) -> IndexedImage:
    """Return the entry of an image for the search index, with its metadata.

    `passed` contains parts of the file. Other parts are read from the storage if they are needed.
    """
    try:
        found = await _find(storage, image, passed)
    except ImageNotFound:  # the image was deleted or replaced: that is queued, too
        found = UNKNOWN
    except StillroomError:
        raise
    except Exception:  # one broken file must not prevent the indexing of others
        log.exception(
            "cannot parse the metadata of %s: searches by it do not find the image", image.key.text
        )
        found = UNKNOWN
    return IndexedImage.of(image, found)


async def _find(storage: ImageStorage, image: StoredImage, passed: FileParts | None) -> Found:
    opened: OpenedImage | None = None

    async def read(start: int, length: int) -> bytes:
        nonlocal opened
        if passed is not None:
            with contextlib.suppress(MoreNeeded, TooMuchWork):
                return passed.bytes_at(start, length)
        if opened is None:
            opened = await storage.open(image.key)
            if opened.image.save_id != image.save_id:
                raise ImageNotFound
        return b"".join([chunk async for chunk in opened.chunks(start, length)])

    try:
        return await find_by_reading(image.size, read)
    finally:
        if opened is not None:
            opened.close()


def _bytes_of(change: _Saved | Removed | None) -> int:
    if not isinstance(change, _Saved):
        return 0
    size = 0 if change.passed is None else change.passed.held
    if change.indexed is not None and (facts := change.indexed.metadata.generation) is not None:
        size += _NOTE_BYTES + len(facts.prompt or "") + len(facts.negative_prompt or "")
    return size
