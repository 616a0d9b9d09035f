"""`AsyncImageStore`: the same names and the same promises, for code that awaits."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import IO, Self, TypeVar, Unpack

import anyio
import anyio.to_thread
import httpx

from stillroom.client.archives import ARCHIVE_NAME, Sidecars, archive, check_archive
from stillroom.client.async_sender import AsyncSender
from stillroom.client.connection import Connection, Token
from stillroom.client.exchange import AsyncSends, Flow, Wait
from stillroom.client.library import AsyncMediaLibrary, LibraryCalls
from stillroom.client.many import FAILED, Gathered, batches
from stillroom.client.operations import (
    DELETED_AT_ONCE,
    ENTRIES_A_PAGE,
    NAMES_A_PAGE,
    Condition,
    Operations,
    list_query,
)
from stillroom.client.retries import Retries
from stillroom.client.run_operations import RunState, Sort, page_of_runs, publish, runs_query
from stillroom.client.runs import AsyncRun
from stillroom.client.searching import SearchFilters, page_of_found, search_query
from stillroom.client.sinks import Sink, check_target, replacing, spool
from stillroom.client.sources import Facts, ImagePayload, Source, is_same, named, opened
from stillroom.client.values import (
    DownloadedImage,
    Folder,
    ImageInfo,
    ImageMetadata,
    MediaResource,
    OnProgress,
    Outcome,
    PublishedRun,
    RunInfo,
    SavedImage,
)
from stillroom.paths import ImagePath

T = TypeVar("T")


class AsyncImageStore:
    """A Stillroom server, for one event loop; else as `ImageStore`, method by method.

    Files are hashed, read and written in threads, so that others are not held up.
    """

    def __init__(
        self,
        url: str | None = None,
        token: Token | None = None,
        *,
        deadline_s: float = 120,
        timeout_s: float = 60,
        connect_deadline_s: float = 10,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        """As `ImageStore`. `httpx.ASGITransport(app)` speaks to an app in this process."""
        connection = Connection.to(url, token)
        retries = Retries(
            deadline_s=deadline_s, timeout_s=timeout_s, connect_deadline_s=connect_deadline_s
        )
        self._operations = Operations(connection.root, retries)
        self._sender: AsyncSends = AsyncSender(connection, transport)

    @property
    def media(self) -> AsyncMediaLibrary:
        """See `ImageStore.media`."""
        return AsyncMediaLibrary(LibraryCalls(self._operations.retries), self._run)

    # One image ---------------------------------------------------------------------------

    async def save(
        self,
        path: str,
        source: Source,
        *,
        if_match: str | None = None,
        if_none_match: str | None = None,
        generation: Facts | None = None,
        ai_generated: bool = False,
        expires_in: timedelta | None = None,
        progress: OnProgress | None = None,
    ) -> SavedImage:
        """See `ImageStore.save`; `progress` is called on the event loop."""
        name = named(path)
        condition = Condition(if_match, if_none_match)
        async with _opened(source, name, generation, ai_generated=ai_generated) as upload:
            flow = self._operations.save(name, upload, condition, progress, expires_in)
            return await self._run(flow)

    async def save_unless_same(
        self,
        path: str,
        source: Source,
        *,
        generation: Facts | None = None,
        ai_generated: bool = False,
        progress: OnProgress | None = None,
    ) -> SavedImage:
        """See `ImageStore.save_unless_same`."""
        name = named(path)
        async with _opened(source, name, generation, ai_generated=ai_generated) as upload:
            return await self._run(self._operations.save_unless_same(name, upload, progress))

    async def open(self, path: str, *, progress: OnProgress | None = None) -> IO[bytes]:
        """See `ImageStore.open`; the file is a plain one, and all of it is here."""
        file = spool()
        try:
            await self._download(path, file, progress)
        except BaseException:
            file.close()
            raise
        file.seek(0)
        return file

    async def read(self, path: str, *, progress: OnProgress | None = None) -> bytes:
        """See `ImageStore.read`."""
        with await self.open(path, progress=progress) as file:
            return await anyio.to_thread.run_sync(file.read)

    async def download(
        self, path: str, target: Path | IO[bytes], *, progress: OnProgress | None = None
    ) -> None:
        """See `ImageStore.download`."""
        check_target(target)
        if not isinstance(target, Path):
            await self._download(path, target, progress)
            return
        with replacing(target, named(path)) as file:
            await self._download(path, file, progress)

    async def download_unless_same(
        self, path: str, file: Path, *, progress: OnProgress | None = None
    ) -> DownloadedImage:
        """See `ImageStore.download_unless_same`."""
        check_target(file)
        if await anyio.to_thread.run_sync(file.exists):
            found = await self.stat(path)
            same = partial(is_same, file, size=found.size, sha256=found.sha256)
            if await anyio.to_thread.run_sync(same):
                return DownloadedImage(path, file, skipped=True)
        await self.download(path, file, progress=progress)
        return DownloadedImage(path, file)

    async def _download(self, path: str, file: IO[bytes], progress: OnProgress | None) -> None:
        await self._run(self._operations.download(named(path), Sink(file), progress))

    async def archive(
        self,
        images: str | Iterable[str],
        *,
        sidecars: Sidecars | None = None,
        progress: OnProgress | None = None,
    ) -> IO[bytes]:
        """See `ImageStore.archive`."""
        file = spool()
        try:
            await self.download_archive(images, file, sidecars=sidecars, progress=progress)
        except BaseException:
            file.close()
            raise
        file.seek(0)
        return file

    async def download_archive(
        self,
        images: str | Iterable[str],
        target: Path | IO[bytes],
        *,
        sidecars: Sidecars | None = None,
        progress: OnProgress | None = None,
    ) -> None:
        """See `ImageStore.download_archive`."""
        check_target(target)
        if isinstance(target, Path):
            with replacing(target, ARCHIVE_NAME) as file:
                await self.download_archive(images, file, sidecars=sidecars, progress=progress)
            return
        retries = self._operations.retries
        await self._run(archive(retries, images, sidecars, Sink(target), progress))
        await anyio.to_thread.run_sync(check_archive, target)

    async def exists(self, path: str) -> bool:
        """See `ImageStore.exists`."""
        return await self._run(self._operations.exists(named(path)))

    async def stat(self, path: str) -> ImageInfo:
        """See `ImageStore.stat`."""
        return await self._run(self._operations.stat(named(path)))

    async def metadata(self, path: str) -> ImageMetadata:
        """See `ImageStore.metadata`."""
        return await self._run(self._operations.metadata(named(path)))

    async def delete(
        self, path: str, *, if_match: str | None = None, missing_ok: bool = False
    ) -> None:
        """See `ImageStore.delete`."""
        name = named(path)
        condition = Condition(if_match)
        await self._run(self._operations.delete(name, condition, missing_ok=missing_ok))

    async def copy(self, source: str, target: str) -> SavedImage:
        """See `ImageStore.copy`."""
        names = named(source), named(target)
        return await self._run(self._operations.copy(*names))

    async def move(self, source: str, target: str) -> SavedImage:
        """See `ImageStore.move`."""
        names = named(source), named(target)
        return await self._run(self._operations.move(*names))

    async def signed_url(self, path: str, *, expires_in: timedelta = timedelta(hours=1)) -> str:
        """See `ImageStore.signed_url`."""
        valid_for_s = int(expires_in.total_seconds())
        return await self._run(self._operations.signed_url(named(path), valid_for_s))

    async def ingest(self, path: str, *, relocate: bool = True) -> MediaResource:
        """See `ImageStore.ingest`."""
        return await self._run(self._operations.ingest(named(path), relocate=relocate))

    # Many images -------------------------------------------------------------------------

    async def iter(
        self, prefix: str = "", *, start_after: str = "", fold: bool = False
    ) -> AsyncIterator[str]:
        """See `ImageStore.iter`."""
        query: str | None = list_query(
            prefix, start_after=start_after, page_size=NAMES_A_PAGE, fold=fold
        )
        while query is not None:
            names, query = await self._run(self._operations.page_of_names(query))
            for name in names:
                yield name

    async def entries(self, prefix: str = "", *, start_after: str = "") -> AsyncIterator[ImageInfo]:
        """See `ImageStore.entries`."""
        async for entry in self._entries(prefix, start_after, fold=False):
            if isinstance(entry, ImageInfo):
                yield entry

    async def search(
        self, q: str = "", *, limit: int | None = None, **filters: Unpack[SearchFilters]
    ) -> AsyncIterator[ImageMetadata]:
        """See `ImageStore.search`."""
        query: Mapping[str, str] | None = search_query(q, filters, limit)
        left = limit
        while query is not None and left != 0:
            found, query = await self._run(page_of_found(self._operations.retries, query))
            for image in found[:left]:
                yield image
            left = None if left is None else max(left - len(found), 0)

    async def level(self, folder: str = "") -> AsyncIterator[ImageInfo | Folder]:
        """See `ImageStore.level`."""
        async for entry in self._entries(folder, "", fold=True):
            yield entry

    async def _entries(
        self, prefix: str, start_after: str, *, fold: bool
    ) -> AsyncIterator[ImageInfo | Folder]:
        query: str | None = list_query(
            prefix, start_after=start_after, page_size=ENTRIES_A_PAGE, fold=fold
        )
        while query is not None:
            entries, query = await self._run(self._operations.page_of_entries(query))
            for entry in entries:
                yield entry

    async def save_many(
        self,
        images: Mapping[str, Source] | Iterable[tuple[str, Source]],
        *,
        concurrency: int = 8,
        skip_same: bool = False,
        ai_generated: bool = False,
        expires_in: timedelta | None = None,
        each: Callable[[Outcome[SavedImage]], None] | None = None,
        progress: OnProgress | None = None,
    ) -> list[SavedImage]:
        """See `ImageStore.save_many`; `each` and `progress` are called on the event loop."""
        pairs = images.items() if isinstance(images, Mapping) else images
        save = self.save_unless_same if skip_same else self.save
        if expires_in is not None:
            save = partial(self.save, expires_in=expires_in)
        save = partial(save, ai_generated=ai_generated, progress=progress)
        jobs = (partial(_done, path, partial(save, path, source)) for path, source in pairs)
        return await self._many(jobs, concurrency, each)

    async def download_many(
        self,
        images: Mapping[str, Path] | Iterable[tuple[str, Path]],
        *,
        concurrency: int = 8,
        each: Callable[[Outcome[DownloadedImage]], None] | None = None,
        progress: OnProgress | None = None,
    ) -> list[DownloadedImage]:
        """See `ImageStore.download_many`."""
        pairs = images.items() if isinstance(images, Mapping) else images
        jobs = (
            partial(_done, path, partial(self.download_unless_same, path, file, progress=progress))
            for path, file in pairs
        )
        return await self._many(jobs, concurrency, each)

    async def delete_many(self, paths: Iterable[str], *, concurrency: int = 4) -> int:
        """See `ImageStore.delete_many`."""
        jobs = (partial(self._delete_batch, batch) for batch in batches(paths, DELETED_AT_ONCE))
        return sum(await self._many(jobs, concurrency, None))

    async def _delete_batch(self, paths: Sequence[str]) -> Sequence[Outcome[bool]]:
        try:
            return await self._run(self._operations.delete_batch(paths))
        except FAILED as error:
            return [Outcome(path, error=error) for path in paths]

    async def _many(
        self,
        jobs: Iterable[Callable[[], Awaitable[Sequence[Outcome[T]]]]],
        concurrency: int,
        each: Callable[[Outcome[T]], None] | None,
    ) -> list[T]:
        gathered: Gathered[T] = Gathered(each)
        numbered = enumerate(jobs)

        async def work() -> None:
            for number, job in numbered:
                gathered.add(number, await job())
                if gathered.stopped:
                    return

        async with anyio.create_task_group() as group:
            for _ in range(concurrency):
                group.start_soon(work)
        return gathered.results()

    # Runs --------------------------------------------------------------------------------

    def run(self, folder: str, *, expected: int | None = None) -> AsyncRun:
        """See `ImageStore.run`; for `async with`."""
        return AsyncRun(folder, expected, self.save, self._run, self._operations.retries)

    async def publish_run(self, folder: str, *, expected: int | None = None) -> PublishedRun:
        """See `ImageStore.publish_run`."""
        return await self._run(publish(self._operations.retries, named(folder), expected))

    async def runs(
        self, prefix: str = "", *, state: RunState | None = None, sort: Sort = "folder"
    ) -> AsyncIterator[RunInfo]:
        """See `ImageStore.runs`."""
        query: str | None = runs_query(prefix, state, sort)
        while query is not None:
            found, query = await self._run(page_of_runs(self._operations.retries, query))
            for run in found:
                yield run

    # Sending -----------------------------------------------------------------------------

    async def close(self) -> None:
        """See `ImageStore.close`."""
        await self._sender.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def _run(self, flow: Flow[T]) -> T:
        try:
            step = next(flow)
            while True:
                if isinstance(step, Wait):
                    await anyio.sleep(step.seconds)
                    step = flow.send(None)
                else:
                    step = flow.send(await self._sender.send(step))
        except StopIteration as end:
            result: T = end.value
            return result


@asynccontextmanager
async def _opened(
    source: Source, name: ImagePath, generation: Facts | None, *, ai_generated: bool
) -> AsyncIterator[ImagePayload]:
    """`opened`, its hashing and encoding in a thread."""
    async with AsyncExitStack() as stack:
        opening = opened(source, name, generation, ai_generated=ai_generated)
        upload = await anyio.to_thread.run_sync(opening.__enter__)
        stack.push(opening.__exit__)
        yield upload


async def _done(path: str, run: Callable[[], Awaitable[T]]) -> Sequence[Outcome[T]]:
    try:
        return [Outcome(path, await run())]
    except FAILED as error:
        return [Outcome(path, error=error)]
