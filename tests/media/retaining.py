"""What tests of retention share: a library, rules, and a clock that is moved."""

import contextlib
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from media.expiring import by_rules, let_it_be_time
from media.library import Library
from pictures import picture
from stillroom.features.database import clock
from stillroom.features.database.config import RowsConfig
from stillroom.features.library.sweeper import Sweeper, Swept
from stillroom.features.retention import expiry, plan
from stillroom.features.retention.evaluator import RetentionEvaluator
from stillroom.features.retention.expiry import never_stops
from stillroom.features.retention.plan import PlannedImage, planned_images
from stillroom.features.retention.rules import Rule, Rules
from stillroom.features.runs.deletion import RunDeletions
from stillroom.features.runs.service import Runs
from stillroom.paths import ImagePath, StorageKey, image_entry
from stillroom.store.port import ImageStorage

DAY = timedelta(days=1)
WEEK = Rule("rule 1", "tmp/", expire_after=7 * DAY)
LAST_TWO = Rule("rule 2", "runs/", keep_last_runs=2)


class RetainingLibrary(Library):
    """A library whose clock can be moved, and in which there are rules."""

    rules: tuple[Rule, ...] = ()
    moved = timedelta(0)

    def by(self, *rules: Rule) -> None:
        self.rules = rules
        by_rules(self, *rules)

    def later(self, patch: pytest.MonkeyPatch, moved: timedelta) -> None:
        self.moved = moved
        seconds = moved.total_seconds()
        patch.setattr(clock, "CLOCK", clock.Clock(wall=lambda: time.time() + seconds))

    def sweeper(self) -> Sweeper:
        return Sweeper(
            self.seen,
            self.database,
            still_holds=self.expiry.still_holds if self.expiry else None,
            resume=RunDeletions(self.seen, self.database, grace=timedelta(0)).resume,
        )

    @property
    def retention(self) -> RetentionEvaluator:
        return RetentionEvaluator(self.seen, self.database, Rules(self.rules))

    async def planned(self) -> list[PlannedImage]:
        at = datetime.now(UTC) + self.moved
        planned = planned_images(self.retention, at)
        return [image async for image in planned]

    async def round(self) -> int:
        """Mark what has ended, whether it is time or not."""
        let_it_be_time(self)
        assert self.expiry is not None
        return await self.expiry.mark_expired(never_stops)

    async def marked_by(self, *rules: Rule) -> int:
        """Start with these rules, and mark what has ended if it is time."""
        self.by(*rules)
        assert self.expiry is not None
        return await self.expiry.mark_expired(never_stops)

    async def swept_after_grace(self, patch: pytest.MonkeyPatch) -> Swept:
        self.later(patch, self.moved + timedelta(minutes=2))
        return await self.sweep()

    async def publish(self, folder: str) -> None:
        runs = Runs(self.seen, self.database)
        (await runs.publish(ImagePath.parse(folder), None)).close()

    async def has_manifest(self, folder: str) -> bool:
        runs = Runs(self.seen, self.database)
        return await runs.is_published(ImagePath.parse(folder))


def paths(planned: list[PlannedImage]) -> list[str]:
    return sorted(image_entry(one.image.key.text) for one in planned)


def named(keys: list[tuple[str, str]]) -> list[str]:
    return [image_entry(StorageKey(name).text) for name, _ in keys]


@contextlib.asynccontextmanager
async def retaining(
    storage: ImageStorage, config: RowsConfig, patch: pytest.MonkeyPatch
) -> AsyncIterator[RetainingLibrary]:
    """A library with its tables, whose rounds do not pause; it is checked at the end."""
    patch.setattr(expiry, "_PAUSE_S", 0)
    patch.setattr(clock, "CLOCK", clock.Clock())
    library = RetainingLibrary(storage, config)
    await library.database.rows()
    yield library
    await library.check()
    await library.database.close()


def in_small_pages(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(expiry, "_PAGE", 2)
    patch.setattr(plan, "_PAGE", 3)


@pytest.fixture
async def library_in_small_pages(
    storage: ImageStorage, config: RowsConfig, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[RetainingLibrary]:
    in_small_pages(monkeypatch)
    async with retaining(storage, config, monkeypatch) as library:
        yield library


async def runs_of(library: RetainingLibrary, *folders: str) -> None:
    """Publish runs of two images, one after the other."""
    for number, folder in enumerate(folders):
        for name in ("1.png", "2.png"):
            await library.save(f"{folder}/{name}", picture(number))
        await library.publish(folder)
