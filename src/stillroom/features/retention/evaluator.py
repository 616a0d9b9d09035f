"""Evaluator of the retention rules: finds images and published runs that have expired.

A published run and its images expire together. Their age is counted from the publication.
"""

import heapq
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from stillroom.features.library.database import MediaDatabase
from stillroom.features.retention.database import expiry_rows
from stillroom.features.retention.rules import Expiration, Rule, Rules
from stillroom.features.runs.listing import RunListing
from stillroom.features.runs.service import Runs
from stillroom.paths import (
    ImagePath,
    ImagePrefix,
    KeyPrefix,
    StorageKey,
    folders_of,
    image_entry,
    image_key_bound,
    is_reserved,
)
from stillroom.store.pages import each_page
from stillroom.store.port import ImageStorage
from stillroom.store.values import ListQuery, StoredImage


class PublishedFolder(NamedTuple):
    """Folder of a published run, with the time of the publication in nanoseconds."""

    folder: ImagePath
    published_ns: int


class ExpiredRun(NamedTuple):
    """Published run that has expired. Images saved after `saved_until_ns` expire individually."""

    folder: ImagePath
    saved_until_ns: int
    expiration: Expiration


class ExpiredPage(NamedTuple):
    """Expired images and runs on one page of a listing."""

    images: list[tuple[StoredImage, Expiration]]
    runs: list[ExpiredRun]


@dataclass(slots=True)
class ScanState:
    """State of one retention scan.

    Attributes:
        newest: Runs kept by each rule with `keep_last_runs`, by rule name: the oldest kept run
            (publication time and folder), and the folders of all kept runs.
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
        self.database = database
        self.runs = Runs(storage, database)
        self._listing = RunListing(storage)

    async def pages(
        self, after: str, limit: int
    ) -> AsyncIterator[tuple[Sequence[StoredImage], str | None]]:
        """Yield pages of images that may expire, each with `after` for the next page (or None)."""
        prefixes = [image_key_bound(prefix) for prefix in self.rules.prefixes]
        for prefix in prefixes:
            if after.encode() > prefix.encode() and not after.startswith(prefix):
                continue
            query = ListQuery(KeyPrefix(prefix), after, limit, reserved=True)
            async for page in each_page(self._storage.entries, query):
                # At the end of a prefix, continue with the next prefix.
                after = page.next_after or after
                is_last = page.next_after is None and prefix == prefixes[-1]
                yield page.images, None if is_last else after

    async def begin_scan(self) -> ScanState:
        """Find the newest runs for each rule with `keep_last_runs`."""
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
        alone, runs, seen = list[StoredImage](), list[ExpiredRun](), set[str]()
        folders = dict[str, int | None]()
        for image in images:
            path = image_entry(image.key.text)
            if state.expired_folder and path.startswith(f"{state.expired_folder}/"):
                continue
            if not self.rules.may_expire(path, image.modified_ns, at_ns):
                continue
            run = await self.find_run(image.key, folders)
            if run is None:
                alone += [] if is_reserved(image.key.text) else [image]
            elif run.folder.text not in seen:
                seen.add(run.folder.text)
                if (expired_run := await self._expire_run(run, at_ns, state)) is not None:
                    runs.append(expired_run)
                    state.expired_folder = run.folder.text
        return ExpiredPage(await self._find_expired_images(alone, at_ns), runs)

    async def has_expired(self, image: StoredImage, at_ns: int) -> bool:
        """Return whether an image has expired on its own, not as a part of a published run."""
        if await self.find_run(image.key, {}) is not None:
            return False
        return bool(await self._find_expired_images([image], at_ns))

    async def expected_expiration(self, image: StoredImage) -> datetime | None:
        """Return an image's expiration; None if there is none, or if other runs determine it."""
        rows = await self.database.rows()
        times = [mark.due_at for mark in await rows.deletions.of_saves([image])]
        if self.rules.expire_anything and await (await expiry_rows(self.database)).filter_markable(
            [image]
        ):
            if (run := await self.find_run(image.key, {})) is not None:
                expiration = await self.expected_run_expiration(run.folder.text, run.published_ns)
                times += [] if expiration is None else [expiration]
            else:
                times += [one.at for _, one in await self._find_expirations([image])]
        return min(times, default=None)

    async def find_run(
        self, key: StorageKey, folders: dict[str, int | None]
    ) -> PublishedFolder | None:
        """Return the published run that contains an image. `folders` caches publication times."""
        for folder in folders_of(image_entry(key.text)):
            if folder not in folders:
                folders[folder] = await self.runs.published_ns(ImagePath(folder))
            if (published_ns := folders[folder]) is not None:
                return PublishedFolder(ImagePath(folder), published_ns)
        return None

    async def _find_expired_images(
        self, images: Sequence[StoredImage], at_ns: int
    ) -> list[tuple[StoredImage, Expiration]]:
        expirations = await self._find_expirations(images)
        return [(image, one) for image, one in expirations if one.at_ns <= at_ns]

    async def _find_expirations(
        self, images: Sequence[StoredImage]
    ) -> list[tuple[StoredImage, Expiration]]:
        tags, found = await self._read_tags(images, self.rules.tags), []
        for image in images:
            path, tags_of_image = image_entry(image.key.text), tags.get(image.key, ())
            expiration = self.rules.find_expiration(path, image.modified_ns, tags_of_image)
            found += [] if expiration is None else [(image, expiration)]
        return found

    async def _read_tags(
        self, images: Sequence[StoredImage], tags: frozenset[str]
    ) -> dict[StorageKey, frozenset[str]]:
        if not images or not tags:
            return {}
        return await (await self.database.rows()).tags.of_images(images, tags)

    async def expected_run_expiration(self, folder: str, published_ns: int) -> datetime | None:
        """Return a run's expiration; None if there is none, or if other runs determine it."""
        touching, covering = self.rules.touching(folder), self.rules.covering(folder)
        if any(rule.keep for rule in touching):
            return None
        if any(rule.keep_last_runs is not None for rule in covering):
            return None
        if not covering or await self._has_tagged_resource(folder, touching):
            return None
        rule = min(covering, key=lambda rule: rule.after_ns)
        return Expiration(published_ns + rule.after_ns, rule).at

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
                expires_ns = max(expires_ns, int(since.timestamp()) * 10**9)
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
        """Return the time since which `keep_last_runs` newer runs exist; None if fewer exist."""
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
        if await self._has_tagged_resource(folder, touching):
            return True
        for rule in touching:
            if not rule.unless_tagged:
                continue
            within = image_key_bound(rule.prefix)
            # Identical bytes may have been ingested from another key.
            async for images in self.runs.images(ImagePath(folder)):
                inside = [image for image in images if image.key.text.startswith(within)]
                if await self._read_tags(inside, rule.unless_tagged):
                    return True
        return False

    async def _has_tagged_resource(self, folder: str, touching: Sequence[Rule]) -> bool:
        for rule in touching:
            if rule.unless_tagged:
                within = max(f"{folder}/", rule.prefix, key=len)
                rows = await self.database.rows()
                if await rows.tags.are_below(image_key_bound(within), rule.unless_tagged):
                    return True
        return False
