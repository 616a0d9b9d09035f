"""Bad days of retention: what breaks off, goes away, is set, or comes at once."""

import asyncio
import contextlib
import time
import uuid
from datetime import timedelta
from typing import Any

import pytest

from media.expiring import by_rules
from media.library import GRACE, is_there, key
from media.retaining import (
    DAY,
    LAST_TWO,
    WEEK,
    RetainingLibrary,
    in_small_pages,
    library_in_small_pages,
    named,
    paths,
    retaining,
    runs_of,
)
from pictures import picture
from services.postgres import PostgreSQL
from stillroom.errors import BackendUnavailable
from stillroom.features.database import clock
from stillroom.features.database.clock import now
from stillroom.features.database.config import PostgresConfig
from stillroom.features.library.sweeper import Swept
from stillroom.features.retention.expiry import never_stops
from stillroom.features.retention.lifetimes import Lifetimes
from stillroom.features.retention.rules import Rule
from stillroom.features.runs.database import run_rows
from stillroom.store.port import ImageStorage
from stillroom.store.values import EntryPage, ListQuery

library = library_in_small_pages


@pytest.mark.pairs
async def test_a_listing_that_fails_half_way_is_gone_on_with(
    library: RetainingLibrary, monkeypatch: pytest.MonkeyPatch
) -> None:
    await runs_of(library, "runs/1", "runs/2", "runs/3")
    for number in range(5):
        await library.save(f"tmp/{number}.png", picture())
    library.by(WEEK, LAST_TWO)
    library.later(monkeypatch, 8 * DAY)
    planned = paths(await library.planned())
    for name, calls in (("list", 2), ("entries", 2), ("entries", 4)):
        step, left = getattr(library.meddled.storage, name), calls

        async def fails(query: ListQuery, step: Any = step) -> EntryPage:
            nonlocal left
            left -= 1
            if not left:
                raise BackendUnavailable("the listing broke off")
            found: EntryPage = await step(query)
            return found

        with monkeypatch.context() as patch:
            patch.setattr(library.meddled.storage, name, fails)
            with contextlib.suppress(BackendUnavailable):  # a deletion of a run is gone on with
                await library.round()
        assert left <= 0
        if name == "list":
            assert library.marked() == [], "which runs are the last ones was not known yet"
        assert set(named(library.marked())) <= set(planned)

    await library.sweep()
    await library.round()

    assert named(library.marked()) == planned


@pytest.mark.slow
async def test_while_the_database_is_away_nothing_expires(
    disk: ImageStorage,
    postgres: PostgreSQL,
    postgresql: PostgresConfig,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    in_small_pages(monkeypatch)
    async with retaining(disk, postgresql, monkeypatch) as library:
        for number in range(6):
            await library.save(f"tmp/{number}.png", picture(number))
        library.by(WEEK)
        library.later(monkeypatch, 8 * DAY)
        entries, pages, away = library.meddled.storage.entries, 0, contextlib.ExitStack()

        async def goes_away(query: ListQuery) -> EntryPage:
            nonlocal pages
            pages += 1
            if pages == 2:
                away.enter_context(postgres.away())
            return await entries(query)

        with away, monkeypatch.context() as patch:
            patch.setattr(library.meddled.storage, "entries", goes_away)
            with pytest.raises(BackendUnavailable):
                await library.round()
            library.later(monkeypatch, 8 * DAY + timedelta(minutes=2))
            with pytest.raises(BackendUnavailable):
                await library.sweep()
            for number in range(6):
                assert await is_there(library, key(f"tmp/{number}.png"))

        assert named(library.marked()) == ["tmp/0.png", "tmp/1.png"], "those of the first page"
        assert await library.round() == 4
        assert await library.swept_after_grace(monkeypatch) == Swept(deleted=6)


@pytest.mark.pairs
async def test_a_clock_that_is_set_by_a_day_deletes_nothing_early(
    library: RetainingLibrary, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_by = timedelta(0)
    monkeypatch.setattr(
        clock, "CLOCK", clock.Clock(wall=lambda: time.time() + set_by.total_seconds())
    )
    lifetimes = Lifetimes(library.database)
    await lifetimes.end(await library.save("ends.png", picture(1)), DAY / 2)
    await library.save("tmp/a.png", picture(2))
    library.by(Rule("rule 1", "tmp/", expire_after=DAY / 2))

    set_by = DAY
    assert await library.round() == 0
    assert await library.sweep() == Swept()
    assert await library.planned() == []

    set_by = -DAY
    assert await library.round() == 0
    due_at = await lifetimes.end(await library.save("ends too.png", picture(3)), DAY / 2)
    assert due_at > now() + DAY / 3
    set_by = timedelta(0)
    assert await library.sweep() == Swept()
    for path in ("ends.png", "tmp/a.png", "ends too.png"):
        assert await is_there(library, key(path))


@pytest.mark.pairs
async def test_rounds_sweeps_and_a_deletion_at_once_delete_each_image_once(
    library: RetainingLibrary, monkeypatch: pytest.MonkeyPatch
) -> None:
    await runs_of(library, *(f"runs/{number}" for number in range(6)))
    for number in range(6):
        await library.save(f"tmp/{number}.png", picture(number))
    library.by(WEEK, LAST_TWO)
    library.later(monkeypatch, 8 * DAY)
    planned = paths(await library.planned())
    assert library.expiry is not None
    others = [by_rules(library, *library.rules) for _ in range(2)]

    marked = await asyncio.gather(*(one.mark_expired(never_stops) for one in others))

    assert min(marked) == 0
    assert named(library.marked()) == sorted(planned)
    library.later(monkeypatch, 8 * DAY + timedelta(minutes=2))
    swept = await asyncio.gather(*(library.sweeper().sweep() for _ in range(3)))
    assert sum(one.deleted for one in swept) == len(planned)
    for folder in ("runs/4", "runs/5"):
        assert await library.read(key(f"{folder}/1.png"))


async def test_a_run_that_another_request_deletes_does_not_stop_the_round(
    library: RetainingLibrary, monkeypatch: pytest.MonkeyPatch
) -> None:
    await runs_of(library, "runs/1", "runs/2", "runs/3")
    await library.save("tmp/1.png", picture())
    library.by(WEEK, LAST_TWO)
    library.later(monkeypatch, 8 * DAY)
    rows, claim = await run_rows(library.database), uuid.uuid4()
    await rows.begin("compute/runs/1/", claim, saved_until=now(), lease=GRACE)

    assert await library.round() == 1

    assert named(library.marked()) == ["tmp/1.png"]
    await rows.release(claim)
    assert await library.round() == 2
