"""Events in the database: their order, which no reader can miss, and their end."""

import asyncio
import random
import time
from collections.abc import Sequence
from datetime import timedelta

import pytest
import sqlalchemy as sa

from stillroom.features.database import clock
from stillroom.features.database.changes import Change
from stillroom.features.database.config import RowsConfig, SqliteConfig
from stillroom.features.database.engine import RowsEngine
from stillroom.features.events import rows as rows_module
from stillroom.features.events.database import event_rows, record_events
from stillroom.features.events.rows import EventRows
from stillroom.features.events.tables import event_feed, events
from stillroom.features.events.types import IMAGE_SAVED, MEDIA_CHANGED, RUN_PUBLISHED
from stillroom.features.library.database import MediaDatabase
from waiting import eventually

WRITERS = 8


def saved(path: str) -> Change:
    return Change(IMAGE_SAVED, path, data={"size": 1})


async def add(engine: RowsEngine, *changes: Change) -> None:
    async with engine.writing() as connection:
        await engine.note_written(connection, *changes)


async def paths(rows: EventRows, after: int = 0, **how: object) -> list[str | None]:
    return [event.path for event in (await rows.read(after, 100, **how)).events]  # type: ignore[arg-type]


async def test_events_are_read_in_the_order_in_which_they_were_written(
    database: MediaDatabase,
) -> None:
    rows, engine = await event_rows(database), await database.engine()

    await add(engine, saved("a"), saved("b"))
    await add(engine, saved("c"))

    found = (await rows.read(0, 2)).events
    assert [event.path for event in found] == ["a", "b"]
    assert await paths(rows, found[-1].position) == ["c"]
    assert len({event.id for event in (await rows.read(0, 10)).events}) == 3
    assert {event.id.version for event in found} == {8}


async def test_a_transaction_that_is_rolled_back_leaves_no_event(database: MediaDatabase) -> None:
    rows, engine = await event_rows(database), await database.engine()

    with pytest.raises(ZeroDivisionError):
        await _fail_after(engine, saved("a"))
    await add(engine, saved("b"))

    assert await paths(rows) == ["b"]


async def _fail_after(engine: RowsEngine, change: Change) -> None:
    async with engine.writing() as connection:
        await engine.note_written(connection, change)
        raise ZeroDivisionError


async def test_a_page_has_the_types_and_the_prefix_that_were_asked_for(
    database: MediaDatabase,
) -> None:
    rows, engine = await event_rows(database), await database.engine()
    await add(
        engine,
        saved("a/1.png"),
        saved("ab/1.png"),
        saved("a"),
        Change(RUN_PUBLISHED, "a"),
        Change(MEDIA_CHANGED, "a/1.png"),
        Change(MEDIA_CHANGED, None),
    )

    every = (await rows.read(0, 100)).events
    of_folder = (await rows.read(0, 100, prefix="a/")).events
    assert [event.path for event in every] == ["a/1.png", "ab/1.png", "a", "a", "a/1.png", None]
    assert [event.type for event in of_folder] == [IMAGE_SAVED, RUN_PUBLISHED, MEDIA_CHANGED]
    assert await paths(rows, types=[MEDIA_CHANGED]) == ["a/1.png", None]
    assert await paths(rows, types=[IMAGE_SAVED], prefix="ab") == ["ab/1.png"]


async def test_rare_events_are_found_page_by_page(
    database: MediaDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows_module, "_SCANNED", 10)
    rows, engine = await event_rows(database), await database.engine()
    await add(engine, *(saved(f"{number}") for number in range(25)), saved("rare"))

    after, pages = 0, 0
    while not (page := await rows.read(after, 5, prefix="rare")).events:
        assert not page.is_last
        after, pages = page.through, pages + 1

    assert [event.path for event in page.events] == ["rare"]
    assert page.is_last
    assert pages == 2


async def test_positions_grow_although_the_clock_is_set_back(
    database: MediaDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, engine, now = await event_rows(database), await database.engine(), clock.now
    await add(engine, saved("a"), saved("b"))
    monkeypatch.setattr(rows_module, "now", lambda: now() - timedelta(days=1))
    await add(engine, saved("c"))
    monkeypatch.undo()
    await add(engine, saved("d"))

    assert await paths(rows) == ["a", "b", "c", "d"]


async def test_positions_are_not_used_again_after_the_newest_rows_were_lost(
    database: MediaDatabase,
) -> None:
    """As by a power cut with SQLite, or by a restored backup."""
    rows, engine = await event_rows(database), await database.engine()
    await add(engine, saved("a"))
    before = await rows.state()
    await add(engine, *(saved(f"{number}") for number in range(100)))
    cursor = (await rows.state()).last_position
    async with engine.writing() as connection:
        await connection.execute(sa.delete(events).where(events.c.position > before.last_position))
        await connection.execute(sa.update(event_feed).values(last_position=before.last_position))

    await eventually(lambda: time.time_ns() // 1000 > cursor)
    await add(engine, saved("b"))

    assert await paths(rows, cursor) == ["b"]


async def test_old_events_are_deleted_and_the_others_stay(
    database: MediaDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows_module, "_DROPPED_AT_ONCE", 2)
    rows, engine, now = await event_rows(database), await database.engine(), clock.now
    monkeypatch.setattr(rows_module, "now", lambda: now() - timedelta(days=8))
    await add(engine, saved("a"), saved("b"), saved("c"))
    old = (await rows.read(0, 10)).events[-1].position
    monkeypatch.undo()
    monkeypatch.setattr(rows_module, "_DROPPED_AT_ONCE", 2)
    await add(engine, saved("d"))

    counts = [await rows.drop(timedelta(days=7)) for _ in range(3)]

    assert counts == [2, 1, 0]
    assert await paths(rows) == ["d"]
    assert (await rows.read(None, 10)).state.dropped_position == old


async def _read_all(
    rows: EventRows, count: int, writing: "asyncio.Future[list[None]]"
) -> list[str]:
    """Read as a client does: after the last position that it has seen."""
    found: list[str] = []
    after = 0
    while len(found) < count:
        is_over = writing.done()
        page = await rows.read(after, 1000)
        found += [str(event.path) for event in page.events]
        after = page.through
        if not page.events:
            assert not is_over, f"{count - len(found)} of {count} events are missing"
            await asyncio.sleep(0.002)
    return found


async def _write(config: RowsConfig, writer: int, sizes: Sequence[int]) -> None:
    """Write in a process of its own, as far as the database can tell."""
    database = MediaDatabase(config)
    database.on_connect.append(record_events)
    engine = await database.engine()
    number = 0
    try:
        for size in sizes:
            changes = [saved(f"{writer}/{number + more}") for more in range(size)]
            async with engine.writing() as connection:
                await engine.note_written(connection, *changes)
                await asyncio.sleep(0)
            number += size
    finally:
        await database.close()


@pytest.mark.whole
@pytest.mark.slow
async def test_a_reader_misses_no_event_of_eight_writers(
    config: RowsConfig, database: MediaDatabase
) -> None:
    count = 8_000 if isinstance(config, SqliteConfig) else 100_000
    chosen, rows = random.Random(7), await event_rows(database)
    sizes: list[list[int]] = []
    for _ in range(WRITERS):
        left, own = count // WRITERS, list[int]()
        while left:
            own.append(min(left, chosen.randint(1, 60)))
            left -= own[-1]
        sizes.append(own)

    writing = asyncio.gather(*(_write(config, *each) for each in enumerate(sizes)))
    found = await _read_all(rows, count, writing)
    await writing

    assert len(set(found)) == len(found) == count
    for writer in range(WRITERS):
        of_writer = [path for path in found if path.startswith(f"{writer}/")]
        assert of_writer == [f"{writer}/{number}" for number in range(count // WRITERS)]
