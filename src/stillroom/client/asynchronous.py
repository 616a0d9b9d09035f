"""`AsyncImageStore`: asynchronous version of `ImageStore`."""

import builtins
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar, Unpack

import anyio
import anyio.to_thread

from stillroom.client.async_one_image import AsyncOneImageCalls
from stillroom.client.library import AsyncMediaLibrary, LibraryCalls
from stillroom.client.lifetime import Lifetime
from stillroom.client.many import FAILED, Gathered, batches
from stillroom.client.operations import (
    DELETED_AT_ONCE,
    ENTRIES_A_PAGE,
    NAMES_A_PAGE,
    list_query,
)
from stillroom.client.run_operations import RunState, Sort, page_of_runs, publish, runs_query
from stillroom.client.runs import AsyncRun
from stillroom.client.searching import Query, SearchFilters, page_of_found, search_query
from stillroom.client.sources import Facts, Source, named
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

T = TypeVar("T")


class AsyncImageStore(AsyncOneImageCalls):
    """Client of a Stillroom server for one event loop, with the methods of `ImageStore`.

    Files are hashed, read and written in threads, so that the event loop is not blocked.
    """

    @property
    def media(self) -> AsyncMediaLibrary:
        """See `ImageStore.media`."""
        return AsyncMediaLibrary(LibraryCalls(self._operations.retries), self._run)

    async def ingest(self, path: str, *, relocate: bool = True) -> MediaResource:
        """See `MediaLibrary.ingest`."""
        return await self.media.ingest(path, relocate=relocate)

    # Many images -------------------------------------------------------------------------

    async def iter(
        self, prefix: str = "", *, start_after: str = "", fold: bool = False
    ) -> AsyncIterator[str]:
        """See `ImageStore.iter`."""
        query: str | None = list_query(
            prefix, start_after=start_after, page_size=NAMES_A_PAGE, fold=fold
        )
        while query is not None:
            names, query = await self._run(self._operations.page_of_names(prefix, query))
            for name in names:
                yield name

    list = iter  # noqa: A003  (the method above)

    async def entries(self, prefix: str = "", *, start_after: str = "") -> AsyncIterator[ImageInfo]:
        """See `ImageStore.entries`."""
        async for entry in self._entries(prefix, start_after, fold=False):
            if isinstance(entry, ImageInfo):
                yield entry

    async def search(
        self, q: str = "", *, limit: int | None = None, **filters: Unpack[SearchFilters]
    ) -> AsyncIterator[ImageMetadata]:
        """See `ImageStore.search`."""
        query: Query | None = search_query(q, filters, limit)
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
            entries, query = await self._run(self._operations.page_of_entries(prefix, query))
            for entry in entries:
                yield entry

    async def save_many(
        self,
        images: Mapping[str, Source] | Iterable[tuple[str, Source]],
        *,
        concurrency: int = 8,
        skip_same: bool = False,
        generation: Facts | None = None,
        ai_generated: bool = False,
        expires_in: Lifetime | None = None,
        each: Callable[[Outcome[SavedImage]], None] | None = None,
        progress: OnProgress | None = None,
    ) -> builtins.list[SavedImage]:
        """See `ImageStore.save_many`; `each` and `progress` are called on the event loop."""
        pairs = images.items() if isinstance(images, Mapping) else images
        save = self.save_unless_same if skip_same else self.save
        if expires_in is not None:
            save = partial(self.save, expires_in=expires_in)
        save = partial(save, generation=generation, ai_generated=ai_generated, progress=progress)
        jobs = (partial(_done, path, partial(save, path, source)) for path, source in pairs)
        return await self._many(jobs, concurrency, each)

    async def download_many(
        self,
        images: Mapping[str, Path] | Iterable[tuple[str, Path]],
        *,
        concurrency: int = 8,
        within: Path | None = None,
        each: Callable[[Outcome[DownloadedImage]], None] | None = None,
        progress: OnProgress | None = None,
    ) -> builtins.list[DownloadedImage]:
        """See `ImageStore.download_many`."""
        pairs = images.items() if isinstance(images, Mapping) else images
        download = partial(self.download_unless_same, within=within, progress=progress)
        jobs = (partial(_done, path, partial(download, path, file)) for path, file in pairs)
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
    ) -> builtins.list[T]:
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
        """See `ImageStore.run`; use the result with `async with`."""
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
            found, query = await self._run(page_of_runs(self._operations.retries, prefix, query))
            for run in found:
                yield run


async def _done(path: str, run: Callable[[], Awaitable[T]]) -> Sequence[Outcome[T]]:
    try:
        return [Outcome(path, await run())]
    except FAILED as error:
        return [Outcome(path, error=error)]
