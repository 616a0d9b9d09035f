"""`open_store`: direct access to the store, without a server (in a script or Celery worker).

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
from typing import TYPE_CHECKING, Any, Final, TypeVar

from stillroom.assembly import Parts, assemble
from stillroom.client import HealingProgress, ImageStore
from stillroom.client.exchange import Answer, Call, Failure
from stillroom.client.library import MediaLibrary, OnHealing, ResourceId
from stillroom.client.retries import Retries
from stillroom.client.retrying_sender import RetryingSender
from stillroom.in_process import InProcessSender
from stillroom.paths import StorageKey
from stillroom.settings import AllSettings
from stillroom.store.auth.grants import Grant
from stillroom.store.http.parameters import resource_id as parse_id

if TYPE_CHECKING:
    from stillroom.features.library.feature import LibraryFeature
    from stillroom.features.library.resource import (
        Change,
        MediaResource,
        ResourcePage,
        ResourceQuery,
    )
    from stillroom.features.library.service import MediaResourceService

T = TypeVar("T")

log = logging.getLogger("stillroom.local")


def open_store(data_dir: str | Path | None = None, **settings: object) -> "LocalImageStore":
    """Open the store that the environment variables select, as the server does.

    Servers, apps and other processes may use the same data directory or bucket at the same time.
    This process does not execute due deletions: servers and `stillroom media sweep` do. The search
    finds saved images within a second; `close` waits until all are indexed. If a script ends
    without `close`, servers index them within the hour.

    Args:
        data_dir: Replaces `STILLROOM_DATA_DIR`.
        settings: Other settings by name. They have priority over environment variables.

    Raises:
        ConfigurationError: the settings are invalid or do not work together.
    """
    resolved = AllSettings.read(data_dir=data_dir, **settings)
    return LocalImageStore(lambda: assemble(resolved, authorize=lambda _: Grant.everything()))


class LocalImageStore(ImageStore):
    """`ImageStore` that uses the storage directly. Threads and forked processes can share it."""

    def __init__(self, open_parts: Callable[[], Parts]) -> None:
        self._loop = _LoopThread(open_parts)
        parts = self._loop.runtime.parts
        log.info("storage: %s", parts.storage.description)
        self._sender = RetryingSender(parts.store.api_url, Retries(), self._loop)

    @property
    def media(self) -> "LocalMedia":
        """Media library of this store."""
        return LocalMedia(self._sender, self._loop)


class LocalMedia(MediaLibrary):
    """Media library of this store, with the methods of `MediaResourceService` as blocking calls."""

    def __init__(self, sender: RetryingSender, loop: "_LoopThread") -> None:
        super().__init__(sender)
        self._loop = loop

    def ingest_from_storage_key(
        self, storage_key: StorageKey | str, *, relocate: bool = True
    ) -> "MediaResource":
        """Ingest an image; see `MediaResourceService.ingest_from_storage_key`."""
        return self._wait(
            lambda media: media.ingest_from_storage_key(storage_key, relocate=relocate)
        )

    def find(self, resource_id: uuid.UUID) -> "MediaResource":
        """Find a resource; see `MediaResourceService.find`."""
        return self._wait(lambda media: media.find(resource_id))

    def page(self, query: "ResourceQuery") -> "ResourcePage":
        """List one page of resources; see `MediaResourceService.page`."""
        return self._wait(lambda media: media.page(query))

    def change(
        self, resource_id: uuid.UUID, change: "Change", *, only_unset: bool = False
    ) -> "MediaResource":
        """Change a resource; see `MediaResourceService.change`."""
        return self._wait(lambda media: media.change(resource_id, change, only_unset=only_unset))

    def delete(self, resource_id: ResourceId, *, now: bool = False) -> "MediaResource | None":  # type: ignore[override]  # it has always returned what the service returns
        """Delete a resource: see `MediaResourceService.delete`, or `erase` if `now` is True."""
        parsed_id = parse_id(str(resource_id), ("id",))
        if now:
            return self._wait(lambda media: media.erase(parsed_id))
        return self._wait(lambda media: media.delete(parsed_id))

    def heal(
        self, ids: Iterable[ResourceId] | None = None, *, progress: OnHealing | None = None
    ) -> int:
        """Compute missing metadata in this process and await the result; see `MediaLibrary.heal`.

        Servers or later calls retry resources that fail. `progress` is called in another thread.
        """
        parsed_ids = None if ids is None else {parse_id(str(text), ("ids",)) for text in ids}
        report = progress or (lambda _: None)

        async def job(runtime: "_Runtime") -> int:
            healer = _library_of(runtime.parts).healer
            total = await healer.ask(parsed_ids)
            report(HealingProgress(total, total))
            await healer.heal(
                progress=lambda done: report(HealingProgress(total, max(0, total - done.total())))
            )
            report(HealingProgress(total, await healer.waiting()))
            return total

        return self._loop.runtime.run(job)

    def _wait(self, job: "Callable[[MediaResourceService], Coroutine[Any, Any, T]]") -> T:
        return self._loop.runtime.run(lambda runtime: job(_library_of(runtime.parts).service))


def _library_of(parts: Parts) -> "LibraryFeature":
    from stillroom.features.library.feature import LibraryFeature

    return parts.store.need(LibraryFeature)


class _Runtime:
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
            future.cancel()  # in case the caller was interrupted
            raise

    def _loop(self) -> asyncio.AbstractEventLoop:
        with _starting:
            if self._started is None:
                loop = asyncio.new_event_loop()
                # A daemon thread, since not every script closes its store before it ends.
                thread = threading.Thread(target=loop.run_forever, name="stillroom", daemon=True)
                thread.start()
                asyncio.run_coroutine_threadsafe(_index(self), loop).result()
                self._started = loop, thread
                _in_use.add(self)
            return self._started[0]

    @property
    def is_usable(self) -> bool:
        """True in the process that created the object, except in the thread of its event loop."""
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
    await runtime.indexing.enter_async_context(runtime.parts.store.indexing())


def _before_fork() -> None:
    """Stop indexing before a fork, since the child would inherit SQLite's locks."""
    with _starting:
        running = [runtime for runtime in _in_use if runtime.is_usable]
    for runtime in running:
        runtime.run(lambda paused: paused.indexing.aclose())
        _paused.append(runtime)


def _after_fork() -> None:
    while _paused:
        _paused.pop().run(_index)


async def _close(runtime: _Runtime) -> None:
    await runtime.sender.close()
    await runtime.indexing.aclose()
    await runtime.parts.close()


_starting: Final = threading.Lock()
_in_use: Final = weakref.WeakSet[_Runtime]()
_paused: Final = list[_Runtime]()

os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_paused.clear)


class _LoopThread:
    """SDK transport that runs operations in a thread. A forked child opens its own store."""

    def __init__(self, open_parts: Callable[[], Parts]) -> None:
        self._open_parts = open_parts
        self._opening = threading.Lock()
        self._runtime: _Runtime | None = _Runtime(open_parts())
        self._inherited: list[_Runtime] = []  # references, so that the child never closes them

    @property
    def runtime(self) -> _Runtime:
        with self._opening:
            if self._runtime is not None and self._runtime.pid != os.getpid():
                self._inherited.append(self._runtime)
                self._runtime = None
            if self._runtime is None:
                self._runtime = _Runtime(self._open_parts())
            return self._runtime

    def send(self, call: Call) -> Answer | Failure:
        return self.runtime.run(lambda runtime: runtime.sender.send(call))

    def close(self) -> None:
        with self._opening:
            runtime, self._runtime = self._runtime, None
        if runtime is not None and runtime.pid == os.getpid():
            runtime.close()
