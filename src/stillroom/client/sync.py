"""`ImageStore`: the SDK for code that waits."""

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import IO, Self, TypeVar, Unpack

import httpx

from stillroom.client.archives import ARCHIVE_NAME, Sidecars, archive, check_archive
from stillroom.client.connection import Connection, Token
from stillroom.client.exchange import Flow, Sends, Wait
from stillroom.client.library import LibraryCalls, MediaLibrary
from stillroom.client.many import FAILED, batches, progress_unless
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
from stillroom.client.runs import Run
from stillroom.client.searching import SearchFilters, page_of_found, search_query
from stillroom.client.sender import Sender
from stillroom.client.sinks import Sink, check_target, replacing, spool
from stillroom.client.sources import Facts, Source, is_same, named, opened
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


class ImageStore:
    """A Stillroom server. Safe to share between threads, and to inherit by a fork.

    Every method raises the errors of `stillroom.errors`, as the server names them, and
    `ServerUnreachable` where there is no server. What may succeed later is tried again until
    the deadline; no attempt changes anything twice.
    """

    def __init__(
        self,
        url: str | None = None,
        token: Token | None = None,
        *,
        deadline_s: float = 120,
        timeout_s: float = 60,
        connect_deadline_s: float = 10,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        """Nothing is sent yet.

        Args:
            url: The server's root, such as `http://127.0.0.1:8000`; else `STILLROOM_URL`.
            token: A token, or a function that gives the current one; else `STILLROOM_TOKEN`.
            deadline_s: No attempt begins later than this after the first, or after the last
                byte of a download.
            timeout_s: No single read or write of the socket takes longer.
            connect_deadline_s: The deadline where waiting is unlikely to help: an unknown host, a
                TLS error, or no connection to a server that has not answered before.
            transport: Instead of the network; for tests and odd proxies.

        Raises:
            ConfigurationError: the URL is none.
        """
        connection = Connection.to(url, token)
        retries = Retries(
            deadline_s=deadline_s, timeout_s=timeout_s, connect_deadline_s=connect_deadline_s
        )
        self._operations = Operations(connection.root, retries)
        self._sender: Sends = Sender(connection, transport)

    @property
    def media(self) -> MediaLibrary:
        """The media library."""
        return MediaLibrary(LibraryCalls(self._operations.retries), self._run)

    # One image ---------------------------------------------------------------------------

    def save(
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
        """Save bytes, a binary file, a `Path`, a Pillow image or an array under `path`.

        They are hashed first and the hash is announced, so that what arrives damaged is refused.
        An image or array is encoded as the suffix of `path` says, as PNG without one.

        Args:
            path: Such as `generations/1/cat.png`.
            source: See `stillroom.client.sources.opened` for what is done to each kind.
            if_match: Replace only the image that has this etag.
            if_none_match: `*` to save only where nothing is.
            generation: How it was made, such as `{"prompt": "a fox", "seed": 7}`, put into the
                image itself without encoding it again: docs/generation.md.
            ai_generated: Put the mark into the image that says that AI made it, without encoding
                it again, unless it has one: docs/ai-mark.md.
            expires_in: How long it stays, in whole seconds; None: for good. Saved again, it
                starts anew.
            progress: Called after each piece, in the thread that sends.
        """
        name = named(path)
        condition = Condition(if_match, if_none_match)
        with opened(source, name, generation, ai_generated=ai_generated) as upload:
            flow = self._operations.save(name, upload, condition, progress, expires_in)
            return self._run(flow)

    def save_unless_same(
        self,
        path: str,
        source: Source,
        *,
        generation: Facts | None = None,
        ai_generated: bool = False,
        progress: OnProgress | None = None,
    ) -> SavedImage:
        """Save, but send nothing if the same bytes are there; the result says so (`skipped`)."""
        name = named(path)
        with opened(source, name, generation, ai_generated=ai_generated) as upload:
            return self._run(self._operations.save_unless_same(name, upload, progress))

    def open(self, path: str, *, progress: OnProgress | None = None) -> IO[bytes]:
        """The whole image as a file to read and seek in; close it.

        It is in memory up to 16 MiB, and in an unnamed temporary file beyond.
        """
        file = spool()
        try:
            self._download(path, file, progress)
        except BaseException:
            file.close()
            raise
        file.seek(0)
        return file

    def read(self, path: str, *, progress: OnProgress | None = None) -> bytes:
        """The whole image as bytes."""
        with self.open(path, progress=progress) as file:
            return file.read()

    def download(
        self, path: str, target: Path | IO[bytes], *, progress: OnProgress | None = None
    ) -> None:
        """Write the image to a file, a folder (under its own name) or an open binary file.

        A file is there whole or not at all, and folders above it are made. Where a connection
        breaks off, the download goes on from there. A hash that the server knows is checked.
        """
        check_target(target)
        if not isinstance(target, Path):
            self._download(path, target, progress)
            return
        with replacing(target, named(path)) as file:
            self._download(path, file, progress)

    def download_unless_same(
        self, path: str, file: Path, *, progress: OnProgress | None = None
    ) -> DownloadedImage:
        """Download, but fetch nothing if `file` has the same bytes; the result says so."""
        check_target(file)
        if file.exists():
            found = self.stat(path)
            if is_same(file, size=found.size, sha256=found.sha256):
                return DownloadedImage(path, file, skipped=True)
        self.download(path, file, progress=progress)
        return DownloadedImage(path, file)

    def _download(self, path: str, file: IO[bytes], progress: OnProgress | None) -> None:
        self._run(self._operations.download(named(path), Sink(file), progress))

    def archive(
        self,
        images: str | Iterable[str],
        *,
        sidecars: Sidecars | None = None,
        progress: OnProgress | None = None,
    ) -> IO[bytes]:
        """A ZIP of many images, as a file to read and seek in; close it. See `open`.

        Args:
            images: What paths begin with, such as `cats/`; or up to 1,000 paths.
            sidecars: `captions`: beside `cat.png` with a prompt `cat.txt` with that prompt.
            progress: Called after each piece; the total is not known.
        """
        file = spool()
        try:
            self.download_archive(images, file, sidecars=sidecars, progress=progress)
        except BaseException:
            file.close()
            raise
        file.seek(0)
        return file

    def download_archive(
        self,
        images: str | Iterable[str],
        target: Path | IO[bytes],
        *,
        sidecars: Sidecars | None = None,
        progress: OnProgress | None = None,
    ) -> None:
        """As `archive`, into a file that is there whole or not at all, or an open binary file."""
        check_target(target)
        if isinstance(target, Path):
            with replacing(target, ARCHIVE_NAME) as file:
                self.download_archive(images, file, sidecars=sidecars, progress=progress)
            return
        retries = self._operations.retries
        self._run(archive(retries, images, sidecars, Sink(target), progress))
        check_archive(target)

    def exists(self, path: str) -> bool:
        """Whether there is such an image."""
        return self._run(self._operations.exists(named(path)))

    def stat(self, path: str) -> ImageInfo:
        """Size, time, type, etag and hash, without the bytes."""
        return self._run(self._operations.stat(named(path)))

    def metadata(self, path: str) -> ImageMetadata:
        """As `stat`, with the prompt, seed and model that the image itself tells."""
        return self._run(self._operations.metadata(named(path)))

    def delete(self, path: str, *, if_match: str | None = None, missing_ok: bool = False) -> None:
        """Remove the image.

        Raises:
            ImageNotFound: there is none, unless `missing_ok`, or unless an earlier attempt of
                this call may have removed it.
        """
        name = named(path)
        condition = Condition(if_match)
        self._run(self._operations.delete(name, condition, missing_ok=missing_ok))

    def copy(self, source: str, target: str) -> SavedImage:
        """Save the image at `source` under `target` as well; its bytes stay on the server."""
        names = named(source), named(target)
        return self._run(self._operations.copy(*names))

    def move(self, source: str, target: str) -> SavedImage:
        """Copy, then remove the source.

        Raises:
            PreconditionFailed: the source was replaced meanwhile, so it is kept; the copy is of
                the old image or of the new one.
        """
        names = named(source), named(target)
        return self._run(self._operations.move(*names))

    def signed_url(self, path: str, *, expires_in: timedelta = timedelta(hours=1)) -> str:
        """A URL that reads this image without a token; whole seconds, at most seven days."""
        valid_for_s = int(expires_in.total_seconds())
        return self._run(self._operations.signed_url(named(path), valid_for_s))

    def ingest(self, path: str, *, relocate: bool = True) -> MediaResource:
        """Take the image into the media library; equal bytes give the resource that exists.

        Args:
            path: Of the image, as `save` takes it.
            relocate: Keep the bytes in the library and remove the image later; else it is
                recorded where it lies.
        """
        return self._run(self._operations.ingest(named(path), relocate=relocate))

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
            names, query = self._run(self._operations.page_of_names(query))
            yield from names

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
        query: Mapping[str, str] | None = search_query(q, filters, limit)
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
            entries, query = self._run(self._operations.page_of_entries(query))
            yield from entries

    def save_many(
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
        """Save many, several at a time; what failed does not stop the others.

        Args:
            images: Paths and what to save there. Only `concurrency` are taken in advance.
            concurrency: At a time.
            skip_same: Send nothing where the same bytes are: to go on after an interruption.
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
        save = partial(save, ai_generated=ai_generated, progress=told)
        jobs = (partial(outcomes_of, path, partial(save, path, source)) for path, source in pairs)
        return run_many(jobs, concurrency, each, stop)

    def download_many(
        self,
        images: Mapping[str, Path] | Iterable[tuple[str, Path]],
        *,
        concurrency: int = 8,
        each: Callable[[Outcome[DownloadedImage]], None] | None = None,
        progress: OnProgress | None = None,
    ) -> list[DownloadedImage]:
        """Download many to files, but for those that are there with the same bytes.

        Raises:
            SomeFailed: as `save_many`.
        """
        pairs = images.items() if isinstance(images, Mapping) else images
        stop = threading.Event()
        told = partial(progress_unless, stop, progress)
        jobs = (
            partial(
                outcomes_of, path, partial(self.download_unless_same, path, file, progress=told)
            )
            for path, file in pairs
        )
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
            found, query = self._run(page_of_runs(self._operations.retries, query))
            yield from found

    # Sending -----------------------------------------------------------------------------

    def close(self) -> None:
        """Close all connections; the store may be used again."""
        self._sender.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _run(self, flow: Flow[T]) -> T:
        try:
            step = next(flow)
            while True:
                if isinstance(step, Wait):
                    time.sleep(step.seconds)
                    step = flow.send(None)
                else:
                    step = flow.send(self._sender.send(step))
        except StopIteration as end:
            result: T = end.value
            return result
