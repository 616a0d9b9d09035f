"""Which stored images, and which published runs, have come to their end by the rules.

What is in a published run goes with the run, by the time of its manifest. The round that marks
(`media/expiry.py`), the plan, and the sweeper before it deletes ask the same questions here.
"""

import heapq
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from stillroom.errors import ImageNotFound, InvalidPath
from stillroom.media.database import MediaDatabase
from stillroom.media.retention.rules import End, Rule, Rules
from stillroom.media.runs.listing import RunListing
from stillroom.media.runs.service import Runs
from stillroom.paths import (
    ImagePath,
    ImagePrefix,
    KeyPrefix,
    StorageKey,
    image_entry,
    image_key_bound,
)
from stillroom.storage.port import ImageStorage
from stillroom.storage.values import Entry, ListQuery, StoredImage

_SECOND_NS: Final = 10**9


@dataclass(frozen=True, slots=True)
class PublishedFolder:
    """A published run, and when that was, as far as its manifest's file tells."""

    folder: ImagePath
    published_ns: int


@dataclass(frozen=True, slots=True)
class EndedRun:
    """A published run that has come to its end.

    Attributes:
        folder: Where it is.
        saved_until_ns: What was saved into it later stays, until it is old itself.
        end: When it ended, and by which rule.
    """

    folder: ImagePath
    saved_until_ns: int
    end: End


@dataclass(slots=True)
class Ended:
    """What has come to its end on one page of a listing."""

    images: list[tuple[StoredImage, End]] = field(default_factory=list)
    runs: list[EndedRun] = field(default_factory=list)


@dataclass(slots=True)
class Pass:
    """What one pass through all images remembers.

    Attributes:
        newest: Of each rule that counts runs: the last of those that stay, and their folders.
        ended: The last run that has ended: what is left in it is not looked at in this pass.
    """

    newest: dict[str, tuple[tuple[datetime, str], frozenset[str]]] = field(default_factory=dict)
    ended: str = ""


class Ends:
    """Asks the rules about what is in one storage."""

    def __init__(self, storage: ImageStorage, database: MediaDatabase, rules: Rules) -> None:
        """Apply `rules` to `storage`; which images are tagged is in `database`."""
        self.rules = rules
        self._storage = storage
        self._database = database
        self._runs = Runs(storage, database)
        self._listing = RunListing(storage)

    # A pass through all images -----------------------------------------------------------

    async def pages(
        self, after: str, limit: int
    ) -> AsyncIterator[tuple[Sequence[Entry], str | None]]:
        """All that a rule may end, page by page, with where to go on; None behind the last one."""
        prefixes = [image_key_bound(prefix) for prefix in self.rules.prefixes]
        for number, prefix in enumerate(prefixes):
            if after.encode() > prefix.encode() and not after.startswith(prefix):
                continue
            is_last = number == len(prefixes) - 1
            position: str | None = after
            while position is not None:
                query = ListQuery(KeyPrefix(prefix), position, limit, manifests=True)
                page = await self._storage.entries(query)
                position = page.next_after
                # At the end of a prefix the next one begins, whatever was its last key.
                after = position or after
                yield page.entries, None if position is None and is_last else after

    async def begin(self) -> Pass:
        """Find the newest runs of each rule that counts them.

        Raises:
            ListingUnsupported, BackendUnavailable: as their names say.
        """
        begun = Pass()
        for rule in self.rules:
            if rule.keep_last_runs is not None:
                newest: list[tuple[datetime, str]] = []
                async for run in self._listing.runs(ImagePrefix(rule.prefix), ""):
                    if run.published_at is not None:
                        heapq.heappush(newest, (run.published_at, run.folder))
                    if len(newest) > rule.keep_last_runs:
                        heapq.heappop(newest)
                if len(newest) == rule.keep_last_runs:
                    begun.newest[rule.name] = newest[0], frozenset(name for _, name in newest)
        return begun

    async def of_page(self, entries: Sequence[Entry], at_ns: int, begun: Pass) -> Ended:
        """What of a page has come to its end at a time, in nanoseconds.

        Raises:
            BackendUnavailable: the storage or the database failed.
        """
        ended, known = Ended(), dict[str, int | None]()
        alone, seen = list[StoredImage](), set[str]()
        for entry in entries:
            if not isinstance(entry, StoredImage):
                continue
            path = image_entry(entry.key.text)
            if begun.ended and path.startswith(f"{begun.ended}/"):
                continue
            if not self.rules.may_end(path, entry.modified_ns, at_ns):
                continue
            run = await self.run_of(entry.key, known)
            if run is None:
                alone += [] if entry.key.is_manifest else [entry]
            elif run.folder.text not in seen:
                seen.add(run.folder.text)
                if (end := await self._end_of_run(run, at_ns, begun)) is not None:
                    ended.runs.append(end)
                    begun.ended = run.folder.text
        ended.images = await self._ended_images(alone, at_ns)
        return ended

    # One image ---------------------------------------------------------------------------

    async def has_ended(self, image: StoredImage, at_ns: int) -> bool:
        """Whether an image has come to its end by itself: not where it is in a published run.

        Raises:
            BackendUnavailable: the storage or the database failed.
        """
        if await self.run_of(image.key, {}) is not None:
            return False
        return bool(await self._ended_images([image], at_ns))

    async def expected(self, image: StoredImage) -> datetime | None:
        """When an image is expected to go; None: it stays, or that depends on other runs.

        Raises:
            BackendUnavailable: the storage or the database failed.
        """
        rows = await self._database.rows()
        times = [mark.due_at for mark in await rows.deletions.of_saves([image])]
        if self.rules.end_anything and await rows.scans.not_left_alone([image]):
            end = None
            if (run := await self.run_of(image.key, {})) is not None:
                end = await self.expected_of_run(run.folder.text, run.published_ns)
            else:
                tags = await self._tags_of([image], self.rules.tags)
                path = image_entry(image.key.text)
                end = self.rules.end_of_image(path, image.modified_ns, tags.get(image.key, ()))
            times += [] if end is None else [end.at]
        return min(times, default=None)

    async def run_of(self, key: StorageKey, known: dict[str, int | None]) -> PublishedFolder | None:
        """The published run that an image is in; `known` are folders that were looked at."""
        folder = image_entry(key.text)
        while "/" in folder:
            folder = folder.rpartition("/")[0]
            if folder not in known:
                known[folder] = await self._published_ns(ImagePath(folder))
            published_ns = known[folder]
            if published_ns is not None:
                return PublishedFolder(ImagePath(folder), published_ns)
        return None

    async def _published_ns(self, folder: ImagePath) -> int | None:
        try:
            return (await self._storage.stat(StorageKey.of_manifest(folder))).modified_ns
        except (ImageNotFound, InvalidPath):  # no manifest can have so long a name
            return None

    async def _ended_images(
        self, images: Sequence[StoredImage], at_ns: int
    ) -> list[tuple[StoredImage, End]]:
        tags = await self._tags_of(images, self.rules.tags)
        found = []
        for image in images:
            path = image_entry(image.key.text)
            end = self.rules.end_of_image(path, image.modified_ns, tags.get(image.key, ()))
            if end is not None and end.at_ns <= at_ns:
                found.append((image, end))
        return found

    async def _tags_of(
        self, images: Sequence[StoredImage], tags: frozenset[str]
    ) -> dict[StorageKey, frozenset[str]]:
        if not images or not tags:
            return {}
        return await (await self._database.rows()).tags.of_images(images, tags)

    # A run -------------------------------------------------------------------------------

    async def expected_of_run(self, folder: str, published_ns: int) -> End | None:
        """When a published run is expected to end; None: it stays, or that depends on others.

        Raises:
            BackendUnavailable: the database failed.
        """
        touching, covering = self.rules.touching(folder), self.rules.covering(folder)
        if any(rule.keep for rule in touching):
            return None
        if any(rule.keep_last_runs is not None for rule in covering):
            return None
        ends = [End(published_ns + rule.after_ns, rule) for rule in covering]
        if not ends or await self._has_tagged(folder, touching):
            return None
        return min(ends, key=lambda end: end.at_ns)

    async def _end_of_run(self, run: PublishedFolder, at_ns: int, begun: Pass) -> EndedRun | None:
        folder = run.folder.text
        touching, ends = self.rules.touching(folder), list[End]()
        if any(rule.keep for rule in touching):
            return None
        saved_until_ns = run.published_ns
        for rule in self.rules.covering(folder):
            end_ns = run.published_ns + rule.after_ns
            if rule.keep_last_runs is not None:
                since = await self._outnumbered_since(rule, folder, begun)
                if since is None:
                    return None
                end_ns = max(end_ns, int(since.timestamp()) * _SECOND_NS)
            if end_ns <= at_ns:
                ends.append(End(end_ns, rule))
                if rule.expire_after is not None:
                    saved_until_ns = max(saved_until_ns, at_ns - rule.after_ns)
        if not ends or await self._is_tagged(folder, touching):
            return None
        return EndedRun(run.folder, saved_until_ns, min(ends, key=lambda end: end.at_ns))

    async def _outnumbered_since(self, rule: Rule, folder: str, begun: Pass) -> datetime | None:
        """Since when there are enough newer runs; None: it is one of those that stay."""
        if rule.name not in begun.newest:
            return None
        last, newest = begun.newest[rule.name]
        if folder in newest:
            return None
        run = await self._listing.look(f"{folder}/")
        if run is None or run.published_at is None or (run.published_at, folder) > last:
            return None  # published, or published again, since the pass began
        return last[0]

    async def _is_tagged(self, folder: str, touching: Sequence[Rule]) -> bool:
        """Whether the library has a tag, for anything in a run, that keeps it."""
        if await self._has_tagged(folder, touching):
            return True
        for rule in touching:
            if not rule.unless_tagged:
                continue
            # Equal bytes may have come into the library from elsewhere.
            async for images in self._runs.images(ImagePath(folder)):
                inside = [
                    image for image in images if image_entry(image.key.text).startswith(rule.prefix)
                ]
                if await self._tags_of(inside, rule.unless_tagged):
                    return True
        return False

    async def _has_tagged(self, folder: str, touching: Sequence[Rule]) -> bool:
        """Whether anything that was ingested from a run has a tag that keeps it."""
        for rule in touching:
            if rule.unless_tagged:
                within = max(f"{folder}/", rule.prefix, key=len)
                rows = await self._database.rows()
                if await rows.tags.are_below(image_key_bound(within), rule.unless_tagged):
                    return True
        return False


def nanoseconds(moment: datetime) -> int:
    """Since the epoch."""
    since = moment - datetime.fromtimestamp(0, moment.tzinfo)
    return since // timedelta(microseconds=1) * 1000
