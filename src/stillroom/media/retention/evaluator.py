"""Evaluator of the retention rules: finds images and published runs that have expired.

An image in a published run expires together with the run, counted from the time of the publication.
The expiry scan (`media/expiry.py`), the retention plan (a dry run) and the sweeper use this module.
"""

import heapq
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from stillroom.media.database import MediaDatabase
from stillroom.media.retention.rules import Expiration, Rule, Rules
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
from stillroom.storage.pages import each_page
from stillroom.storage.port import ImageStorage
from stillroom.storage.values import ListQuery, StoredImage

_SECOND_NS: Final = 10**9


@dataclass(frozen=True, slots=True)
class PublishedFolder:
    """Folder of a published run, with the time of the publication in nanoseconds."""

    folder: ImagePath
    published_ns: int


@dataclass(frozen=True, slots=True)
class ExpiredRun:
    """Published run that has expired.

    Images that were saved after `saved_until_ns` are kept until they expire individually.
    """

    folder: ImagePath
    saved_until_ns: int
    expiration: Expiration


@dataclass(slots=True)
class ExpiredPage:
    """Expired images and runs on one page of a listing."""

    images: list[tuple[StoredImage, Expiration]] = field(default_factory=list)
    runs: list[ExpiredRun] = field(default_factory=list)


@dataclass(slots=True)
class ScanState:
    """State of one retention scan.

    Attributes:
        newest: Runs kept by each rule with `keep_last_runs`, by the rule's name. A value consists
            of the oldest kept run (publication time and folder) and the folders of all kept runs.
        expired_folder: Folder of the last expired run. This scan skips the folder's images.
    """

    newest: dict[str, tuple[tuple[datetime, str], frozenset[str]]] = field(default_factory=dict)
    expired_folder: str = ""


class RetentionEvaluator:
    """Evaluator of the retention rules for the images and runs in one storage.

    All methods raise `BackendUnavailable` if the storage or the database fails.
    """

    def __init__(self, storage: ImageStorage, database: MediaDatabase, rules: Rules) -> None:
        self.rules = rules
        self._storage = storage
        self._database = database
        self._runs = Runs(storage, database)
        self._listing = RunListing(storage)

    # A scan of all images ----------------------------------------------------------------

    async def pages(
        self, after: str, limit: int
    ) -> AsyncIterator[tuple[Sequence[StoredImage], str | None]]:
        """Yield pages of images that may expire, each with the next page's `after` or None."""
        prefixes = [image_key_bound(prefix) for prefix in self.rules.prefixes]
        for number, prefix in enumerate(prefixes):
            if after.encode() > prefix.encode() and not after.startswith(prefix):
                continue
            is_last = number == len(prefixes) - 1
            query = ListQuery(KeyPrefix(prefix), after, limit, manifests=True)
            async for page in each_page(self._storage.entries, query):
                # At the end of a prefix, continue with the next prefix.
                after = page.next_after or after
                yield page.images, None if page.next_after is None and is_last else after

    async def begin_scan(self) -> ScanState:
        """Find the newest runs for each rule with `keep_last_runs`.

        Raises:
            ListingUnsupported: the storage cannot list.
        """
        state = ScanState()
        for rule in self.rules:
            if rule.keep_last_runs is not None:
                newest: list[tuple[datetime, str]] = []
                async for run in self._listing.runs(ImagePrefix(rule.prefix), ""):
                    if run.published_at is not None:
                        heapq.heappush(newest, (run.published_at, run.folder))
                    if len(newest) > rule.keep_last_runs:
                        heapq.heappop(newest)
                if len(newest) == rule.keep_last_runs:
                    state.newest[rule.name] = newest[0], frozenset(name for _, name in newest)
        return state

    async def find_expired(
        self, images: Sequence[StoredImage], at_ns: int, state: ScanState
    ) -> ExpiredPage:
        """Find the images and runs on a page that have expired at `at_ns` (nanoseconds)."""
        expired, folders = ExpiredPage(), dict[str, int | None]()
        alone, seen = list[StoredImage](), set[str]()
        for image in images:
            path = image_entry(image.key.text)
            if state.expired_folder and path.startswith(f"{state.expired_folder}/"):
                continue
            if not self.rules.may_expire(path, image.modified_ns, at_ns):
                continue
            run = await self.find_run(image.key, folders)
            if run is None:
                alone += [] if image.key.is_manifest else [image]
            elif run.folder.text not in seen:
                seen.add(run.folder.text)
                if (expired_run := await self._expire_run(run, at_ns, state)) is not None:
                    expired.runs.append(expired_run)
                    state.expired_folder = run.folder.text
        expired.images = await self._find_expired_images(alone, at_ns)
        return expired

    # One image ---------------------------------------------------------------------------

    async def has_expired(self, image: StoredImage, at_ns: int) -> bool:
        """Return whether an image outside published runs has expired at `at_ns` (nanoseconds).

        For an image in a published run, the result is False, because only the whole run expires.
        """
        if await self.find_run(image.key, {}) is not None:
            return False
        return bool(await self._find_expired_images([image], at_ns))

    async def expected_expiration(self, image: StoredImage) -> datetime | None:
        """Return an image's expiration time.

        The result is None if the image is kept, or if its expiration depends on other runs.
        """
        rows = await self._database.rows()
        times = [mark.due_at for mark in await rows.deletions.of_saves([image])]
        if self.rules.expire_anything and await rows.scans.filter_markable([image]):
            expiration = None
            if (run := await self.find_run(image.key, {})) is not None:
                expiration = await self.expected_run_expiration(run.folder.text, run.published_ns)
            else:
                tags = (await self._read_tags([image], self.rules.tags)).get(image.key, ())
                path = image_entry(image.key.text)
                expiration = self.rules.find_expiration(path, image.modified_ns, tags)
            times += [] if expiration is None else [expiration.at]
        return min(times, default=None)

    async def find_run(
        self, key: StorageKey, folders: dict[str, int | None]
    ) -> PublishedFolder | None:
        """Return the published run that contains an image, or None.

        `folders` caches the publication times of folders between calls.
        """
        folder = image_entry(key.text)
        while "/" in folder:
            folder = folder.rpartition("/")[0]
            if folder not in folders:
                folders[folder] = await self._runs.published_ns(ImagePath(folder))
            published_ns = folders[folder]
            if published_ns is not None:
                return PublishedFolder(ImagePath(folder), published_ns)
        return None

    async def _find_expired_images(
        self, images: Sequence[StoredImage], at_ns: int
    ) -> list[tuple[StoredImage, Expiration]]:
        tags = await self._read_tags(images, self.rules.tags)
        expired = []
        for image in images:
            path = image_entry(image.key.text)
            tags_of_image = tags.get(image.key, ())
            expiration = self.rules.find_expiration(path, image.modified_ns, tags_of_image)
            if expiration is not None and expiration.at_ns <= at_ns:
                expired.append((image, expiration))
        return expired

    async def _read_tags(
        self, images: Sequence[StoredImage], tags: frozenset[str]
    ) -> dict[StorageKey, frozenset[str]]:
        if not images or not tags:
            return {}
        return await (await self._database.rows()).tags.of_images(images, tags)

    # A run -------------------------------------------------------------------------------

    async def expected_run_expiration(self, folder: str, published_ns: int) -> Expiration | None:
        """Return a published run's expiration.

        The result is None if the run is kept, or if its expiration depends on other runs.
        """
        touching, covering = self.rules.touching(folder), self.rules.covering(folder)
        if any(rule.keep for rule in touching):
            return None
        if any(rule.keep_last_runs is not None for rule in covering):
            return None
        expirations = [Expiration(published_ns + rule.after_ns, rule) for rule in covering]
        if not expirations or await self._has_tagged_resource(folder, touching):
            return None
        return min(expirations, key=lambda expiration: expiration.at_ns)

    async def _expire_run(
        self, run: PublishedFolder, at_ns: int, state: ScanState
    ) -> ExpiredRun | None:
        folder = run.folder.text
        touching, expirations = self.rules.touching(folder), list[Expiration]()
        if any(rule.keep for rule in touching):
            return None
        saved_until_ns = run.published_ns
        for rule in self.rules.covering(folder):
            expires_ns = run.published_ns + rule.after_ns
            if rule.keep_last_runs is not None:
                since = await self._outnumbered_since(rule, folder, state)
                if since is None:
                    return None
                expires_ns = max(expires_ns, int(since.timestamp()) * _SECOND_NS)
            if expires_ns <= at_ns:
                expirations.append(Expiration(expires_ns, rule))
                if rule.expire_after is not None:
                    saved_until_ns = max(saved_until_ns, at_ns - rule.after_ns)
        if not expirations or await self._is_tagged(folder, touching):
            return None
        earliest = min(expirations, key=lambda expiration: expiration.at_ns)
        return ExpiredRun(run.folder, saved_until_ns, earliest)

    async def _outnumbered_since(
        self, rule: Rule, folder: str, state: ScanState
    ) -> datetime | None:
        """Return the time since which `keep_last_runs` newer runs exist; None if a run is kept."""
        if rule.name not in state.newest:
            return None
        last, newest = state.newest[rule.name]
        if folder in newest:
            return None
        run = await self._listing.find_published(f"{folder}/")
        if run is None or run.published_at is None or (run.published_at, folder) > last:
            return None  # published, or published again, after the scan began
        return last[0]

    async def _is_tagged(self, folder: str, touching: Sequence[Rule]) -> bool:
        """Return whether a run is kept because one of its images has a tag from `touching`."""
        if await self._has_tagged_resource(folder, touching):
            return True
        for rule in touching:
            if not rule.unless_tagged:
                continue
            # Identical bytes may have been ingested from another key.
            async for images in self._runs.images(ImagePath(folder)):
                inside = [
                    image for image in images if image_entry(image.key.text).startswith(rule.prefix)
                ]
                if await self._read_tags(inside, rule.unless_tagged):
                    return True
        return False

    async def _has_tagged_resource(self, folder: str, touching: Sequence[Rule]) -> bool:
        for rule in touching:
            if rule.unless_tagged:
                within = max(f"{folder}/", rule.prefix, key=len)
                rows = await self._database.rows()
                if await rows.tags.are_below(image_key_bound(within), rule.unless_tagged):
                    return True
        return False


def to_nanoseconds(moment: datetime) -> int:
    """Convert a datetime with a time zone to nanoseconds since the epoch, without rounding."""
    since = moment - datetime.fromtimestamp(0, moment.tzinfo)
    return since // timedelta(microseconds=1) * 1000
