"""`open_store`: the store in a plain process (a Celery worker, a script), without a server.

from stillroom.local import open_store
store = open_store()
store.save("generations/1/cat.png", image)
store.media.ingest_from_storage_key("compute/generations/1/cat.png", relocate=True)
"""

import asyncio
import contextlib
import logging
import os
import threading
import uuid
import weakref
from collections.abc import Callable, Coroutine, Iterable
from pathlib import Path
from typing import Any, Final, TypeVar

from stillroom.assembly import Parts, assemble
from stillroom.auth.grants import Grant
from stillroom.client import HealingProgress, ImageStore
from stillroom.client.exchange import Answer, Call, Failure
from stillroom.client.library import LibraryCalls, MediaLibrary, OnHealing, ResourceId, Runs
from stillroom.http.parameters import resource_id as parsed_id
from stillroom.in_process import InProcessSender, operations_of
from stillroom.media.resource import Change, MediaResource, ResourcePage, ResourceQuery
from stillroom.media.service import MediaResourceService
from stillroom.paths import StorageKey
from stillroom.settings import Settings

T = TypeVar("T")

_INDEXED_WITHIN_S: Final = 10.0
"""At the end; the database may have to be opened first, which takes a second."""

log = logging.getLogger("stillroom.local")


def open_store(data_dir: str | Path | None = None, **settings: object) -> "LocalImageStore":
    """The store that the variables of docs/reference/settings.md select, as for the server.

    Servers, apps and plain processes may use one data directory or bucket at the same time. What is
    due is deleted by those that serve, or by `stillroom media sweep`; not by this process. What is
    saved here is searched within a second; `close` waits for what was saved last. A script that
    ends without it leaves that to the servers, which find it within the hour.

    Args:
        data_dir: Instead of `STILLROOM_DATA_DIR`.
        settings: Any other setting by the name of its field; it wins over its variable.

    Raises:
        ConfigurationError: the settings cannot work.
    """
    read = Settings.read_with({"data_dir": data_dir, **settings})
    return LocalImageStore(lambda: assemble(read, authorize=lambda _: Grant.everything()))


class LocalImageStore(ImageStore):
    """`ImageStore` on the storage itself. Threads may share it, and forked processes inherit it."""

    def __init__(self, open_parts: Callable[[], Parts]) -> None:
        """Open the parts, and again in each process that is forked off and uses them."""
        self._loop = _LoopThread(open_parts)
        parts = self._loop.opened.parts
        log.info("storage: %s", parts.storage.description)
        self._operations = operations_of(parts)
        self._sender = self._loop

    @property
    def media(self) -> "LocalMedia":
        """The media library."""
        return LocalMedia(LibraryCalls(self._operations.retries), self._run, self._loop)


class LocalMedia(MediaLibrary):
    """The SDK's `MediaLibrary`, and the methods of `MediaResourceService` for code that waits."""

    def __init__(self, calls: LibraryCalls, run: Runs, loop: "_LoopThread") -> None:
        super().__init__(calls, run)
        self._loop = loop

    def ingest_from_storage_key(
        self, storage_key: StorageKey | str, *, relocate: bool = True
    ) -> MediaResource:
        """See `MediaResourceService.ingest_from_storage_key`."""
        return self._wait(
            lambda media: media.ingest_from_storage_key(storage_key, relocate=relocate)
        )

    def find(self, resource_id: uuid.UUID) -> MediaResource:
        """See `MediaResourceService.find`."""
        return self._wait(lambda media: media.find(resource_id))

    def page(self, query: ResourceQuery) -> ResourcePage:
        """See `MediaResourceService.page`."""
        return self._wait(lambda media: media.page(query))

    def change(
        self, resource_id: uuid.UUID, change: Change, *, only_unset: bool = False
    ) -> MediaResource:
        """See `MediaResourceService.change`."""
        return self._wait(lambda media: media.change(resource_id, change, only_unset=only_unset))

    def delete(self, resource_id: ResourceId) -> MediaResource:  # type: ignore[override]  # it has always returned what the service returns
        """See `MediaResourceService.delete`."""
        wanted = parsed_id(str(resource_id), ("id",))
        return self._wait(lambda media: media.delete(wanted))

    def heal(
        self, ids: Iterable[ResourceId] | None = None, *, progress: OnHealing | None = None
    ) -> int:
        """See `MediaLibrary.heal`; this process computes it, and that is waited for in any case.

        What fails is left to servers, or to another call. `progress` is called in another thread.
        """
        wanted = None if ids is None else {parsed_id(str(one), ("ids",)) for one in ids}
        report = progress or (lambda _: None)

        async def job(opened: "_Opened") -> int:
            healer = opened.parts.library.healer
            total = await healer.ask(wanted)
            report(HealingProgress(total, total))
            await healer.heal(
                progress=lambda done: report(HealingProgress(total, max(0, total - done.total())))
            )
            report(HealingProgress(total, await healer.waiting()))
            return total

        return self._loop.run(job)

    def _wait(self, job: Callable[[MediaResourceService], Coroutine[Any, Any, T]]) -> T:
        return self._loop.run(lambda opened: job(opened.parts.library.service))


class _Opened:
    """The parts of one process, and the event loop in which they are used, once they are used."""

    def __init__(self, parts: Parts) -> None:
        self.pid = os.getpid()
        self.parts = parts
        self.sender = InProcessSender(parts)
        self.indexing = contextlib.AsyncExitStack()
        self._started: tuple[asyncio.AbstractEventLoop, threading.Thread] | None = None

    def run(self, job: Callable[["_Opened"], Coroutine[Any, Any, T]]) -> T:
        """Run a job in the loop, and wait for it."""
        future = asyncio.run_coroutine_threadsafe(job(self), self._loop())
        try:
            return future.result()
        except BaseException:
            future.cancel()  # the caller may have been interrupted
            raise

    def _loop(self) -> asyncio.AbstractEventLoop:
        with _starting:
            if self._started is None:
                loop = asyncio.new_event_loop()
                # It must not keep its process from ending: not every script closes its store.
                thread = threading.Thread(target=loop.run_forever, name="stillroom", daemon=True)
                thread.start()
                asyncio.run_coroutine_threadsafe(_index(self), loop).result()
                self._started = loop, thread
                _in_use.add(self)
            return self._started[0]

    @property
    def is_ours(self) -> bool:
        """Whether it belongs to this process, and the caller can wait for its loop."""
        is_in_loop = self._started is not None and self._started[1] is threading.current_thread()
        return self.pid == os.getpid() and not is_in_loop

    def close(self) -> None:
        """Close the parts, and end the loop."""
        with _starting:
            _in_use.discard(self)
        self.run(_close)
        assert self._started is not None  # noqa: S101  (by `run`)
        loop, thread = self._started
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _index(opened: _Opened) -> None:
    indexing = opened.parts.indexing(stop_within_s=_INDEXED_WITHIN_S)
    await opened.indexing.enter_async_context(indexing)


async def _end_indexing(opened: _Opened) -> None:
    await opened.indexing.aclose()


def _before_fork() -> None:
    """A child inherits locks of SQLite, which no transaction may hold then."""
    with _starting:
        found = [opened for opened in _in_use if opened.is_ours]
    for opened in found:
        opened.run(_end_indexing)
        _paused.append(opened)


def _after_fork() -> None:
    while _paused:
        _paused.pop().run(_index)


async def _close(opened: _Opened) -> None:
    await opened.sender.close()
    await _end_indexing(opened)
    await opened.parts.close()


_starting: Final = threading.Lock()
_in_use: Final = weakref.WeakSet[_Opened]()
_paused: Final = list[_Opened]()

os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_paused.clear)


class _LoopThread:
    """A `Sends` over parts of this process; after a fork, over parts of the child's own."""

    def __init__(self, open_parts: Callable[[], Parts]) -> None:
        self._open_parts = open_parts
        self._opening = threading.Lock()
        self._opened: _Opened | None = _Opened(open_parts())
        self._inherited: list[_Opened] = []  # kept: the parent's are not the child's to end

    @property
    def opened(self) -> _Opened:
        """What this process uses, opened now where it is not open."""
        with self._opening:
            if self._opened is not None and self._opened.pid != os.getpid():
                self._inherited.append(self._opened)
                self._opened = None
            if self._opened is None:
                self._opened = _Opened(self._open_parts())
            return self._opened

    def run(self, job: Callable[[_Opened], Coroutine[Any, Any, T]]) -> T:
        """Run a job in the loop, and wait for it."""
        return self.opened.run(job)

    def send(self, call: Call) -> Answer | Failure:
        """See `Sends.send`."""
        return self.run(lambda opened: opened.sender.send(call))

    def close(self) -> None:
        """See `Sends.close`."""
        with self._opening:
            opened, self._opened = self._opened, None
        if opened is not None and opened.pid == os.getpid():
            opened.close()
