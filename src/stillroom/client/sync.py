"""`ImageStore`: the synchronous client."""

import builtins
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Unpack
from urllib.parse import quote

from stillroom.client import answers, requests
from stillroom.client.downloading import DownloadCalls
from stillroom.client.errors import FAILED
from stillroom.client.events import events_target, pause_after, wait_of
from stillroom.client.exchange import Call
from stillroom.client.library import MediaLibrary
from stillroom.client.runs import Run
from stillroom.client.saving import SaveCalls
from stillroom.client.sources import Facts, Source, named
from stillroom.client.threads import Workers, outcomes_of
from stillroom.client.values import (
    DownloadedImage,
    Lifetime,
    OnProgress,
    Outcome,
    RunSort,
    RunState,
    SearchFilters,
)
from stillroom.errors import ImageNotFound, TrashNotFound
from stillroom.wire.events import Event
from stillroom.wire.facets import Facets
from stillroom.wire.images import Folder, FoundImage, ImageInfo, SavedImage
from stillroom.wire.media import MediaResource
from stillroom.wire.runs import PublishedRun, RunInfo
from stillroom.wire.trash import TrashedImage


class ImageStore(SaveCalls, DownloadCalls):
    """Client of a Stillroom server. Can be shared between threads and used after a fork.

    An error response raises an exception of `stillroom.errors`, a missing one `ServerUnreachable`.
    Temporary failures are retried until the deadline. Retries never apply a change twice.
    """

    @property
    def media(self) -> MediaLibrary:
        """Media library of the server."""
        return MediaLibrary(self._sender)

    def ingest(self, path: str, *, relocate: bool = True) -> MediaResource:
        """See `MediaLibrary.ingest`."""
        return self.media.ingest(path, relocate=relocate)

    def iter(self, prefix: str = "", *, start_after: str = "", fold: bool = False) -> Iterator[str]:
        """Iterate over all paths that begin with `prefix` and sort after `start_after`.

        The prefix of a folder is `cats/`; `ca` also matches `cars/fiat.png` and `cat.png`. With
        `fold`, return a single level, in which a subfolder is one path that ends with a slash.
        """
        target = requests.list_target(prefix, start_after, fold=fold)
        yield from self._sender.items(target, partial(answers.listed_path, prefix=prefix), "path")

    list = iter  # noqa: A003  (alias, as in other clients)

    def entries(self, prefix: str = "", *, start_after: str = "") -> Iterator[ImageInfo]:
        """Iterate over images with their properties; see `iter` for the arguments.

        A server with a bucket sends the bucket one request for each image.
        """
        for entry in self._entries(prefix, start_after, fold=False):
            if isinstance(entry, ImageInfo):
                yield entry

    def search(
        self, q: str = "", *, limit: int | None = None, **filters: Unpack[SearchFilters]
    ) -> Iterator[FoundImage]:
        """Iterate over at most `limit` images that match all words and filters, newest first.

        `q` has words in the prompt, path or model. Words in double quotes form a phrase. The
        results have neither `generation.raw` nor `expires_at`: use `metadata` to read them.
        """
        query = requests.search_query(q, filters, limit)
        parse = partial(answers.decode_listed, FoundImage, prefix=filters.get("prefix", ""))
        yield from self._sender.cursor_items("/storage/search", query, parse, "search", limit)

    def facets(self, q: str = "", **filters: Unpack[SearchFilters]) -> Facets:
        """Count all images, or those that match, by model, LoRA, sampler, tool, day and tag.

        With words or filters, only the newest 10,000 matches are counted.
        """
        query = requests.search_query(q, filters, None)
        target = requests.target_of("/storage/search/facets", {**query, "limit": None})
        return answers.parsed(self._sender.request("GET", target), "facets", Facets)

    def events(
        self, after: str = "", *, types: Iterable[str] = (), prefix: str = "", follow: bool = True
    ) -> Iterator[Event]:
        """Iterate over events, oldest first, and wait for new events. See docs/events.md.

        An event can be delivered twice, with the same id. To resume after an error or a restart,
        store the `cursor` of each event that was handled.

        Args:
            after: Cursor after which to begin, or `latest` for new events only. By default, begin
                with the oldest event that the server has.
            types: Types of events, such as `image.saved`. By default, all that the token permits.
            prefix: Text with which paths begin. If it is set, events without a path are left out.
            follow: If False, the iteration ends when there are no more events.

        Raises:
            CursorExpired: The server no longer has the events after the cursor.
        """
        retries = self._sender.retries
        wait_s, type_names = wait_of(retries) if follow else 0, tuple(types)
        is_last = False
        while follow or not is_last:
            began = retries.clock()
            target = events_target(after, type_names, prefix, wait_s)
            page, after, is_last = answers.events(self._sender.request("GET", target))
            yield from page
            if follow and is_last and not page:
                time.sleep(pause_after(began, retries))

    def level(self, folder: str = "") -> Iterator[ImageInfo | Folder]:
        """Iterate over the images and subfolders directly in a folder such as `cats/`."""
        yield from self._entries(folder, "", fold=True)

    def _entries(
        self, prefix: str, start_after: str, *, fold: bool
    ) -> Iterator[ImageInfo | Folder]:
        target = requests.list_target(prefix, start_after, fold=fold, with_properties=True)
        parse = partial(answers.info_of_entry, prefix=prefix)
        yield from self._sender.items(target, parse, "entry")

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
        """Save many images concurrently, and return them in input order.

        If an image fails, the others are still saved.

        Args:
            images: Paths with their sources. At most `concurrency` are read in advance.
            concurrency: Number of images to save at the same time.
            skip_same: Skip images that are already stored with identical bytes, to resume after an
                interruption.
            generation: See `save`.
            ai_generated: See `save`.
            expires_in: See `save`. If it is set, no image is skipped: all lifetimes restart.
            each: Function that is called with each outcome as it arrives, in the caller's thread.
            progress: See `save`; called from several threads.

        Raises:
            SomeFailed: Some images failed. Raised after all images were tried, or earlier if the
                same error was expected for the remaining images.
        """
        pairs = images.items() if isinstance(images, Mapping) else images
        workers = Workers(concurrency, progress)
        save = self.save_unless_same if skip_same else self.save
        if expires_in is not None:
            save = partial(self.save, expires_in=expires_in)
        save = partial(
            save, generation=generation, ai_generated=ai_generated, progress=workers.progress
        )
        jobs = (partial(outcomes_of, path, partial(save, path, source)) for path, source in pairs)
        return workers.run(jobs, each)

    def download_many(
        self,
        images: Mapping[str, Path] | Iterable[tuple[str, Path]],
        *,
        concurrency: int = 8,
        within: Path | None = None,
        each: Callable[[Outcome[DownloadedImage]], None] | None = None,
        progress: OnProgress | None = None,
    ) -> builtins.list[DownloadedImage]:
        """Download many images concurrently. Files that already have identical bytes are skipped.

        Returns the downloaded and skipped images in input order. See `download` for `within`, and
        `save_many` for `concurrency`, `each`, `progress` and `SomeFailed`.
        """
        pairs = images.items() if isinstance(images, Mapping) else images
        workers = Workers(concurrency, progress)
        download = partial(self.download_unless_same, within=within, progress=workers.progress)
        jobs = (partial(outcomes_of, path, partial(download, path, file)) for path, file in pairs)
        return workers.run(jobs, each)

    def delete_many(self, paths: Iterable[str], *, concurrency: int = 4) -> int:
        """Delete many images, and return how many existed. Missing images are not an error.

        Up to `concurrency` requests are sent at the same time, each for a hundred images. Raises
        `SomeFailed` as `save_many` does. In each outcome, `result` is True if the image existed.
        """
        parts = requests.batches(paths, requests.DELETED_AT_ONCE)
        jobs = (partial(self._delete_batch, part) for part in parts)
        return sum(Workers(concurrency).run(jobs))

    def _delete_batch(self, paths: Sequence[str]) -> Sequence[Outcome[bool]]:
        try:
            answer = self._sender.request("POST", "/storage/delete", {"paths": list(paths)})
            subject = paths[0] if len(paths) == 1 else f"{paths[0]} and others"
            results = answers.field(answer, "results", subject)
        except FAILED as error:
            return [Outcome(path, error=error) for path in paths]
        outcomes: builtins.list[Outcome[bool]] = []
        for path, result in zip(paths, results, strict=True):
            if result.get("code") in (None, ImageNotFound.code):
                outcomes.append(Outcome(path, result="code" not in result))
            else:
                outcomes.append(Outcome(path, error=answers.error_of_result(result, path)))
        return outcomes

    def trash(self, prefix: str = "") -> Iterator[TrashedImage]:
        """Iterate over deleted images and runs whose paths begin with `prefix`, newest first."""
        parse = partial(answers.decode, TrashedImage)
        yield from self._sender.cursor_items(requests.TRASH, {"prefix": prefix}, parse, "trash")

    def undelete(self, path: str | TrashedImage) -> None:
        """Restore an item of the trash, or what was last deleted under a path.

        Raise `PathConflict` if the path is in use, or `TrashNotFound` if it is not in the trash.
        """
        if isinstance(path, TrashedImage):
            return self._end(path, "POST", "/restore")
        for deleted in self.trash(named(path).text):
            if deleted.path == path:
                return self._end(deleted, "POST", "/restore")
        raise TrashNotFound(f"{path}: nothing in the trash has this path")

    def purge(self, deleted: TrashedImage) -> None:
        """Permanently delete an image or run that is in the trash."""
        self._end(deleted, "DELETE", "")

    def _end(self, deleted: TrashedImage, method: str, suffix: str) -> None:
        target = f"{requests.TRASH}/" + quote(deleted.id, safe="") + suffix
        self._sender.remove(Call(method, target), deleted.path, TrashNotFound)

    def run(self, folder: str, *, expected: int | None = None) -> Run:
        """Return a run for a folder such as `generations/7`, whose images are published together.

        `expected` is the number of images required for publishing. Default: the number of images
        saved by the returned object.
        """
        return Run(folder, expected, self.save, self._sender)

    def publish_run(self, folder: str, *, expected: int | None = None) -> PublishedRun:
        """Publish a folder as a run. If `expected` is set, it must equal the number of images."""
        path = named(folder)
        target = f"{requests.RUNS}/{path.quoted()}/publish"
        return answers.run_of(self._sender.request("POST", target, {"expected": expected}), path)

    def runs(
        self, prefix: str = "", *, state: RunState | None = None, sort: RunSort = "folder"
    ) -> Iterator[RunInfo]:
        """Iterate over runs whose folders begin with `prefix`; at most 10,000 if sorted by time."""
        parse = partial(answers.listed_run, prefix=prefix)
        target = requests.runs_target(prefix, state, sort)
        yield from self._sender.items(target, parse, "run", "listing runs")
