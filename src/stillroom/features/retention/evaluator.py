"""Evaluator of the retention rules: finds images and published runs that have expired.

A published run and its images expire together. Their age is counted from the publication.
"""

import heapq
import math
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

from stillroom.features.database.database import RowsOf, rows_of
from stillroom.features.library.database import MediaDatabase
from stillroom.features.library.resource import RULE
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

if TYPE_CHECKING:  # a normal import would load the database driver at every start
    from stillroom.features.retention.rows import ExpiryRows

expiry_rows: "RowsOf[ExpiryRows]" = rows_of("stillroom.features.retention.rows.ExpiryRows")


class PublishedRun(NamedTuple):
    """Published run: its folder, and the time of its publication in nanoseconds."""

    folder: ImagePath
    published_ns: int


class ExpiredRun(NamedTuple):
    """Published run that has expired. Images saved after `saved_until_ns` expire individually."""

    folder: ImagePath
    saved_until_ns: int
    expiration: Expiration


@dataclass(slots=True)
class ScanState:
    """State of one retention scan.

    Attributes:
        newest: Runs that each rule with `keep_last_runs` keeps, by the rule's name. A value has the
            publication time and folder of the oldest run, and the folders of all runs.
        expired_folder: Folder of the last expired run, whose images the scan skips.
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
        """Yield pages of images that may expire, each with the next page's `after` (or None)."""
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
        """Begin a scan: find the newest runs for each rule with `keep_last_runs`."""
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
    ) -> tuple[list[tuple[StoredImage, Expiration]], list[ExpiredRun]]:
        """Return the images and runs on a page that have expired at `at_ns` (nanoseconds)."""
        alone, runs, seen = list[StoredImage](), list[ExpiredRun](), set[str]()
        times = dict[str, int | None]()
        for image in images:
            path = image_entry(image.key.text)
            if state.expired_folder and path.startswith(f"{state.expired_folder}/"):
                continue
            if not self.rules.may_expire(path, image.modified_ns, at_ns):
                continue
            run = await self.find_run(image.key, times)
            if run is None:
                alone += [] if is_reserved(image.key.text) else [image]
            elif run.folder.text not in seen:
                seen.add(run.folder.text)
                if (expired_run := await self._expire_run(run, at_ns, state)) is not None:
                    runs.append(expired_run)
                    state.expired_folder = run.folder.text
        return await self._find_expirations(alone, at_ns), runs

    async def has_expired(self, image: StoredImage, at_ns: int) -> bool:
        """Return whether an image has expired on its own. False if it is in a published run."""
        if await self.find_run(image.key, {}) is not None:
            return False
        return bool(await self._find_expirations([image], at_ns))

    async def expected_expiration(self, image: StoredImage) -> datetime | None:
        """Return when an image will expire. None if never, or if this depends on other runs."""
        marks = await (await self.database.rows()).deletions.of_saves([image])
        # Before a deletion by a rule, the rules are checked again. They may have changed.
        times = [mark.due_at for mark in marks if mark.reason != RULE]
        rows = await expiry_rows(self.database)
        if self.rules.expire_anything and await rows.filter_markable([image]):
            if (run := await self.find_run(image.key, {})) is not None:
                expiration = await self.expected_run_expiration(run.folder.text, run.published_ns)
                times += [] if expiration is None else [expiration]
            else:
                times += [expiration.at for _, expiration in await self._find_expirations([image])]
        return min(times, default=None)

    async def find_run(self, key: StorageKey, times: dict[str, int | None]) -> PublishedRun | None:
        """Return the published run that contains an image. `times` caches publication times."""
        for folder in folders_of(image_entry(key.text)):
            if folder not in times:
                times[folder] = await self.runs.published_ns(ImagePath(folder))
            if (published_ns := times[folder]) is not None:
                return PublishedRun(ImagePath(folder), published_ns)
        return None

    async def _find_expirations(
        self, images: Sequence[StoredImage], until_ns: float = math.inf
    ) -> list[tuple[StoredImage, Expiration]]:
        tags, expirations = await self._read_tags(images, self.rules.tags), []
        for image in images:
            path, tags_of_image = image_entry(image.key.text), tags.get(image.key, ())
            expiration = self.rules.find_expiration(path, image.modified_ns, tags_of_image)
            if expiration is not None and expiration.at_ns <= until_ns:
                expirations.append((image, expiration))
        return expirations

    async def _read_tags(
        self, images: Sequence[StoredImage], tags: frozenset[str]
    ) -> dict[StorageKey, frozenset[str]]:
        if not images or not tags:
            return {}
        return await (await self.database.rows()).tags.of_images(images, tags)

    async def expected_run_expiration(self, folder: str, published_ns: int) -> datetime | None:
        """Return when a run will expire. None if never, or if this depends on other runs."""
        touching, covering = self.rules.touching(folder), self.rules.covering(folder)
        counts_runs = any(rule.keep_last_runs is not None for rule in covering)
        if not covering or counts_runs or any(rule.keep for rule in touching):
            return None
        if await self._has_tagged_resource(folder, touching):
            return None
        rule = min(covering, key=lambda rule: rule.after_ns)
        return Expiration(published_ns + rule.after_ns, rule).at

    async def _expire_run(
        self, run: PublishedRun, at_ns: int, state: ScanState
    ) -> ExpiredRun | None:
        folder = run.folder.text
        touching, expirations = self.rules.touching(folder), list[Expiration]()
        if any(rule.keep for rule in touching):
            return None
        saved_until_ns = run.published_ns
        for rule in self.rules.covering(folder):
            expires_ns = run.published_ns + rule.after_ns
            if rule.keep_last_runs is not None:
                since = await self._surplus_since(rule, folder, state)
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

    async def _surplus_since(self, rule: Rule, folder: str, state: ScanState) -> datetime | None:
        """Return since when there are `keep_last_runs` newer runs, or None if there are fewer."""
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
