"""`ImageStore`: the SDK for code that waits."""

import builtins
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar, Unpack

from stillroom.client.library import LibraryCalls, MediaLibrary
from stillroom.client.lifetime import Lifetime
from stillroom.client.many import FAILED, batches, progress_unless
from stillroom.client.one_image import OneImageCalls
from stillroom.client.operations import (
    DELETED_AT_ONCE,
    ENTRIES_A_PAGE,
    NAMES_A_PAGE,
    list_query,
)
from stillroom.client.run_operations import RunState, Sort, page_of_runs, publish, runs_query
from stillroom.client.runs import Run
from stillroom.client.searching import Query, SearchFilters, page_of_found, search_query
from stillroom.client.sources import Facts, Source, named
from stillroom.client.threads import outcomes_of, run_many
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


class ImageStore(OneImageCalls):
    """A Stillroom server. Safe to share between threads, and to inherit by a fork.

    Every method raises the errors of `stillroom.errors`, as the server names them, and
    `ServerUnreachable` where there is no server. What may succeed later is tried again until
    the deadline; no attempt changes anything twice.
    """

    @property
    def media(self) -> MediaLibrary:
        """The media library."""
        return MediaLibrary(LibraryCalls(self._operations.retries), self._run)

    def ingest(self, path: str, *, relocate: bool = True) -> MediaResource:
        """See `MediaLibrary.ingest`."""
        return self.media.ingest(path, relocate=relocate)

    # Many images -------------------------------------------------------------------------

    def iter(self, prefix: str = "", *, start_after: str = "", fold: bool = False) -> Iterator[str]:
        """All paths that begin with `prefix`; the next page is asked for when it is needed.

        Args:
            prefix: Literal text: `cats/` is a folder, `ca` is what begins so.
            start_after: Only paths behind this one.
            fold: One level only; what is deeper as folders, which end in a slash.
        """
        query: str | None = list_query(
            prefix, start_after=start_after, page_size=NAMES_A_PAGE, fold=fold
        )
        while query is not None:
            names, query = self._run(self._operations.page_of_names(prefix, query))
            yield from names

    list = iter  # noqa: A003  (the method above; `list` is its name in other clients)

    def entries(self, prefix: str = "", *, start_after: str = "") -> Iterator[ImageInfo]:
        """As `iter`, with what `stat` knows of each. In a bucket every entry costs a request."""
        for entry in self._entries(prefix, start_after, fold=False):
            if isinstance(entry, ImageInfo):
                yield entry

    def search(
        self, q: str = "", *, limit: int | None = None, **filters: Unpack[SearchFilters]
    ) -> Iterator[ImageMetadata]:
        """Images that have all these words and facts, the newest first; pages come as needed.

        What is saved is found within a second. Of long texts only the beginning is known to the
        search; `raw` is None, `metadata` has it.

        Args:
            q: Words in the prompt, the path or the model; in double quotes they follow each other.
            limit: Most images; None: all.
            filters: See `SearchFilters`.

        Raises:
            BackendUnavailable: the server's database is away.
        """
        query: Query | None = search_query(q, filters, limit)
        left = limit
        while query is not None and left != 0:
            found, query = self._run(page_of_found(self._operations.retries, query))
            yield from found[:left]
            left = None if left is None else max(left - len(found), 0)

    def level(self, folder: str = "") -> Iterator[ImageInfo | Folder]:
        """What lies in a folder (`cats/`), its folders unopened."""
        yield from self._entries(folder, "", fold=True)

    def _entries(
        self, prefix: str, start_after: str, *, fold: bool
    ) -> Iterator[ImageInfo | Folder]:
        query: str | None = list_query(
            prefix, start_after=start_after, page_size=ENTRIES_A_PAGE, fold=fold
        )
        while query is not None:
            entries, query = self._run(self._operations.page_of_entries(prefix, query))
            yield from entries

    def save_many(
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
        """Save many, several at a time; what failed does not stop the others.

        Args:
            images: Paths and what to save there. Only `concurrency` are taken in advance.
            concurrency: At a time.
            skip_same: Send nothing where the same bytes are: to go on after an interruption.
            generation: See `save`; put into each of them.
            ai_generated: See `save`; of each of them.
            expires_in: See `save`; nothing is skipped then, since each must start anew.
            each: Called with each outcome as it comes, in the caller's thread.
            progress: See `save`; called in several threads.

        Returns:
            In the order given.

        Raises:
            SomeFailed: after all were tried, unless the next ones would have failed alike.
        """
        pairs = images.items() if isinstance(images, Mapping) else images
        stop = threading.Event()
        told = partial(progress_unless, stop, progress)
        save = self.save_unless_same if skip_same else self.save
        if expires_in is not None:
            save = partial(self.save, expires_in=expires_in)
        save = partial(save, generation=generation, ai_generated=ai_generated, progress=told)
        jobs = (partial(outcomes_of, path, partial(save, path, source)) for path, source in pairs)
        return run_many(jobs, concurrency, each, stop)

    def download_many(
        self,
        images: Mapping[str, Path] | Iterable[tuple[str, Path]],
        *,
        concurrency: int = 8,
        within: Path | None = None,
        each: Callable[[Outcome[DownloadedImage]], None] | None = None,
        progress: OnProgress | None = None,
    ) -> builtins.list[DownloadedImage]:
        """Download many to files, but for those that are there with the same bytes.

        Args:
            images: Paths and the file that each becomes.
            concurrency: At a time.
            within: See `download`; for all of them.
            each: See `save_many`.
            progress: See `save_many`.

        Raises:
            SomeFailed: as `save_many`.
        """
        pairs = images.items() if isinstance(images, Mapping) else images
        stop = threading.Event()
        told = partial(progress_unless, stop, progress)
        download = partial(self.download_unless_same, within=within, progress=told)
        jobs = (partial(outcomes_of, path, partial(download, path, file)) for path, file in pairs)
        return run_many(jobs, concurrency, each, stop)

    def delete_many(self, paths: Iterable[str], *, concurrency: int = 4) -> int:
        """Remove many, a hundred in a request; missing ones count as removed before.

        Returns:
            How many were there.

        Raises:
            SomeFailed: as `save_many`; the result of a path is whether it was there.
        """
        jobs = (partial(self._delete_batch, batch) for batch in batches(paths, DELETED_AT_ONCE))
        return sum(run_many(jobs, concurrency, None, threading.Event()))

    def _delete_batch(self, paths: Sequence[str]) -> Sequence[Outcome[bool]]:
        try:
            return self._run(self._operations.delete_batch(paths))
        except FAILED as error:
            return [Outcome(path, error=error) for path in paths]

    # Runs --------------------------------------------------------------------------------

    def run(self, folder: str, *, expected: int | None = None) -> Run:
        """The run in a folder; as a context manager it publishes at its end, if all went well.

        Args:
            folder: Such as `generations/7`.
            expected: How many images it must have to be published; None: as many as are saved by
                the object that is returned.
        """
        return Run(folder, expected, self.save, self._run, self._operations.retries)

    def publish_run(self, folder: str, *, expected: int | None = None) -> PublishedRun:
        """Publish what is in a folder, however many images unless `expected` says; see `Run`."""
        return self._run(publish(self._operations.retries, named(folder), expected))

    def runs(
        self, prefix: str = "", *, state: RunState | None = None, sort: Sort = "folder"
    ) -> Iterator[RunInfo]:
        """All runs whose folder begins with `prefix`; by time, the first 10,000."""
        query: str | None = runs_query(prefix, state, sort)
        while query is not None:
            found, query = self._run(page_of_runs(self._operations.retries, prefix, query))
            yield from found
