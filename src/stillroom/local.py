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
from stillroom.http.parameters import resource_id as parse_id
from stillroom.in_process import InProcessSender, operations_of
from stillroom.media.resource import Change, MediaResource, ResourcePage, ResourceQuery
from stillroom.media.service import MediaResourceService
from stillroom.paths import StorageKey
from stillroom.settings import Settings

T = TypeVar("T")

_INDEXED_WITHIN_S: Final = 10.0
"""Seconds at the end for the search index; opening the database first takes about a second."""

log = logging.getLogger("stillroom.local")


def open_store(data_dir: str | Path | None = None, **settings: object) -> "LocalImageStore":
    """Open the store that the variables of docs/reference/settings.md select, like the server.

    Servers, apps and plain processes may use one data directory or bucket at the same time. Due
    deletions are carried out by servers, or by `stillroom media sweep`, not by this process. Images
    saved here can be found by search within a second, and `close` waits for the last ones. If a
    script ends without `close`, servers index them within the hour.

    Args:
        data_dir: Replaces `STILLROOM_DATA_DIR`.
        settings: Any other setting by the name of its field, with priority over its variable.

    Raises:
        ConfigurationError: the settings cannot work.
    """
    resolved = Settings.read_with({"data_dir": data_dir, **settings})
    return LocalImageStore(lambda: assemble(resolved, authorize=lambda _: Grant.everything()))


class LocalImageStore(ImageStore):
    """`ImageStore` on the storage itself. Threads may share it, and forked processes inherit it."""

    def __init__(self, open_parts: Callable[[], Parts]) -> None:
        """Open the parts, and again in each forked process that uses them."""
        self._loop = _LoopThread(open_parts)
        parts = self._loop.runtime.parts
        log.info("storage: %s", parts.storage.description)
        self._operations = operations_of(parts)
        self._sender = self._loop

    @property
    def media(self) -> "LocalMedia":
        """The media library."""
        return LocalMedia(LibraryCalls(self._operations.retries), self._run, self._loop)


class LocalMedia(MediaLibrary):
    """The SDK's `MediaLibrary`, with the methods of `MediaResourceService` as blocking calls."""

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
        parsed_id = parse_id(str(resource_id), ("id",))
        return self._wait(lambda media: media.delete(parsed_id))

    def heal(
        self, ids: Iterable[ResourceId] | None = None, *, progress: OnHealing | None = None
    ) -> int:
        """See `MediaLibrary.heal`. This process computes the facts, and the call waits for them.

        Resources that fail are left to servers, or to another call. `progress` is called in another
        thread.
        """
        parsed_ids = None if ids is None else {parse_id(str(text), ("ids",)) for text in ids}
        report = progress or (lambda _: None)

        async def job(runtime: "_Runtime") -> int:
            healer = runtime.parts.library.healer
            total = await healer.ask(parsed_ids)
            report(HealingProgress(total, total))
            await healer.heal(
                progress=lambda done: report(HealingProgress(total, max(0, total - done.total())))
            )
            report(HealingProgress(total, await healer.waiting()))
            return total

        return self._loop.run(job)

    def _wait(self, job: Callable[[MediaResourceService], Coroutine[Any, Any, T]]) -> T:
        return self._loop.run(lambda runtime: job(runtime.parts.library.service))


class _Runtime:
    """The parts in one process, with the event loop and thread that use them."""

    def __init__(self, parts: Parts) -> None:
        self.pid = os.getpid()
        self.parts = parts
        self.sender = InProcessSender(parts)
        self.indexing = contextlib.AsyncExitStack()
        self._started: tuple[asyncio.AbstractEventLoop, threading.Thread] | None = None

    def run(self, job: Callable[["_Runtime"], Coroutine[Any, Any, T]]) -> T:
        future = asyncio.run_coroutine_threadsafe(job(self), self._loop())
        try:
            return future.result()
        except BaseException:
            future.cancel()  # if the caller was interrupted
            raise

    def _loop(self) -> asyncio.AbstractEventLoop:
        with _starting:
            if self._started is None:
                loop = asyncio.new_event_loop()
                # A daemon, since not every script closes its store before it ends.
                thread = threading.Thread(target=loop.run_forever, name="stillroom", daemon=True)
                thread.start()
                asyncio.run_coroutine_threadsafe(_index(self), loop).result()
                self._started = loop, thread
                _in_use.add(self)
            return self._started[0]

    @property
    def is_usable(self) -> bool:
        """Return whether it belongs to this process, and the caller may wait for its loop."""
        is_in_loop = self._started is not None and self._started[1] is threading.current_thread()
        return self.pid == os.getpid() and not is_in_loop

    def close(self) -> None:
        with _starting:
            _in_use.discard(self)
        self.run(_close)
        assert self._started is not None  # noqa: S101  (set by `run`)
        loop, thread = self._started
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _index(runtime: _Runtime) -> None:
    indexing = runtime.parts.indexing(stop_within_s=_INDEXED_WITHIN_S)
    await runtime.indexing.enter_async_context(indexing)


async def _end_indexing(runtime: _Runtime) -> None:
    await runtime.indexing.aclose()


def _before_fork() -> None:
    """Stop indexing: the child inherits SQLite's locks, so no transaction may hold any."""
    with _starting:
        running = [runtime for runtime in _in_use if runtime.is_usable]
    for runtime in running:
        runtime.run(_end_indexing)
        _paused.append(runtime)


def _after_fork() -> None:
    while _paused:
        _paused.pop().run(_index)


async def _close(runtime: _Runtime) -> None:
    await runtime.sender.close()
    await _end_indexing(runtime)
    await runtime.parts.close()


_starting: Final = threading.Lock()
_in_use: Final = weakref.WeakSet[_Runtime]()
_paused: Final = list[_Runtime]()

os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_paused.clear)


class _LoopThread:
    """A `Sends` to the parts of this process; after a fork, to new parts of the child."""

    def __init__(self, open_parts: Callable[[], Parts]) -> None:
        self._open_parts = open_parts
        self._opening = threading.Lock()
        self._runtime: _Runtime | None = _Runtime(open_parts())
        self._inherited: list[_Runtime] = []  # referenced, so that the child never closes them

    @property
    def runtime(self) -> _Runtime:
        with self._opening:
            if self._runtime is not None and self._runtime.pid != os.getpid():
                self._inherited.append(self._runtime)
                self._runtime = None
            if self._runtime is None:
                self._runtime = _Runtime(self._open_parts())
            return self._runtime

    def run(self, job: Callable[[_Runtime], Coroutine[Any, Any, T]]) -> T:
        return self.runtime.run(job)

    def send(self, call: Call) -> Answer | Failure:
        return self.run(lambda runtime: runtime.sender.send(call))

    def close(self) -> None:
        with self._opening:
            runtime, self._runtime = self._runtime, None
        if runtime is not None and runtime.pid == os.getpid():
            runtime.close()
