"""On PostgreSQL, locks are taken in one order (docs/adr/0012), so that nothing deadlocks."""

import asyncio
import functools
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from media.library import Library, key, make_due
from pictures import picture
from stillroom.errors import BackendUnavailable, ImageNotFound, ResourceNotFound
from stillroom.features.database.clock import now
from stillroom.features.database.config import PostgresConfig
from stillroom.features.database.engine import RowsEngine
from stillroom.features.library.resource import DELETED, EXPIRED, ResourceQuery
from stillroom.features.library.rows import deletions as rows_deletions
from stillroom.features.library.rows.marks import write_mark
from stillroom.features.library.rows.resources import ResourceRows
from stillroom.features.library.rows.tables import deletions, resources
from stillroom.features.library.rows.transfer import RowTransfer
from stillroom.features.library.service import MediaResourceService
from stillroom.features.library.sweeper import Swept
from stillroom.store.port import ImageStorage

pytestmark = pytest.mark.slow

ENOUGH = 15
BLOCKED = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"


@pytest.fixture
async def library(disk: ImageStorage, postgresql: PostgresConfig) -> AsyncIterator[Library]:
    library = Library(disk, postgresql)
    await library.database.rows()
    yield library
    await library.check()
    await library.database.close()


async def test_two_sweepers_claim_no_mark_together_and_do_not_wait_for_each_other(
    library: Library, postgresql: PostgresConfig
) -> None:
    for number in range(3):
        await library.save(f"{number}.png", picture(number))
        await library.ingest(f"{number}.png")
    make_due(library)
    rows = await library.database.rows()

    async with another_process(postgresql).begin() as other:  # in the middle of a claim
        first = sa.select(deletions.c.id).order_by(deletions.c.due_at).limit(1)
        taken = (await other.execute(first.with_for_update())).scalar_one()
        claimed, _ = await rows.deletions.claim(uuid.uuid4(), limit=10, lease=timedelta(minutes=5))

    assert len(claimed) == 2
    assert taken not in [mark.id for mark in claimed]
    make_due(library)
    assert (await library.sweep()).deleted == 3


def another_process(config: PostgresConfig) -> AsyncEngine:
    url = sa.make_url(config.url).set(drivername="postgresql+psycopg")
    return create_async_engine(url, poolclass=sa.NullPool)


async def is_over_or_blocked(config: PostgresConfig, job: asyncio.Task[Any]) -> None:
    engine = another_process(config)
    while not job.done():
        async with engine.connect() as connection:
            if (await connection.execute(sa.text(BLOCKED))).scalar_one():
                break
        await asyncio.sleep(0.02)  # no event tells that a session waits for a lock
    await engine.dispose()


async def test_ingests_of_one_source_with_and_without_relocation_do_not_deadlock(
    library: Library, postgresql: PostgresConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    await library.save("a.png", picture())
    await library.ingest("a.png")
    mark, marking, go_on = write_mark, asyncio.Event(), asyncio.Event()

    async def mark_later(*given: Any, **options: Any) -> None:
        if given[1] is not None:
            marking.set()
            await go_on.wait()
        await mark(*given, **options)

    monkeypatch.setattr("stillroom.features.library.rows.resources.write_mark", mark_later)
    relocating = asyncio.create_task(library.ingest("a.png"))
    await marking.wait()
    monkeypatch.undo()
    recording = asyncio.create_task(library.ingest("a.png", relocate=False))
    await is_over_or_blocked(postgresql, recording)
    go_on.set()

    one, other = await asyncio.gather(relocating, recording)

    assert one.id == other.id


async def test_a_deletion_and_an_ingest_of_the_same_bytes_do_not_deadlock(
    library: Library, postgresql: PostgresConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    await library.save("a.png", picture())
    resource = await library.ingest("a.png")
    # A mark of the same save that an ingest is about to take back.
    await library.service.delete(resource.id)
    library.change(sa.update(resources).values(deleted_at=None))
    mark, marking, go_on = write_mark, asyncio.Event(), asyncio.Event()

    async def mark_later(*given: Any, **options: Any) -> None:
        marking.set()
        await go_on.wait()
        await mark(*given, **options)

    monkeypatch.setattr("stillroom.features.library.rows.resources.write_mark", mark_later)
    deleting = asyncio.create_task(library.service.delete(resource.id))
    await marking.wait()
    monkeypatch.undo()
    keeping = asyncio.create_task(library.ingest("a.png"))
    await is_over_or_blocked(postgresql, keeping)
    go_on.set()

    await asyncio.gather(deleting, keeping)


@pytest.mark.parametrize(
    ("step", "is_first"),
    [("_find_ingested", False), ("keys_with_resource", True)],
    ids=["before it looks at the intents", "after it has looked at the intents"],
)
async def test_an_ingest_in_place_waits_for_a_claim_that_is_not_committed(
    library: Library,
    postgresql: PostgresConfig,
    monkeypatch: pytest.MonkeyPatch,
    step: str,
    *,
    is_first: bool,
) -> None:
    """The claim is held open with the mark locked; of the two, the first look decides."""
    rows = await library.database.rows()
    saved = await library.save("a.png", picture())
    await rows.deletions.mark_save(saved, EXPIRED, now() - timedelta(days=1))
    method, locked, go_on = getattr(rows_deletions, step), asyncio.Event(), asyncio.Event()

    async def look_later(*given: Any) -> Any:
        locked.set()
        await go_on.wait()
        return await method(*given)

    add = ResourceRows.add

    async def add_after_the_sweep(*given: Any, **named: Any) -> bool:
        go_on.set()
        await asyncio.wait([sweeping])
        return await add(*given, **named)

    monkeypatch.setattr(rows_deletions, step, look_later)
    monkeypatch.setattr(ResourceRows, "add", add_after_the_sweep)
    sweeping = asyncio.create_task(library.sweep())
    await locked.wait()
    ingesting = asyncio.create_task(library.ingest("a.png", relocate=False))
    await is_over_or_blocked(postgresql, ingesting)
    go_on.set()

    swept, ingested = await asyncio.gather(sweeping, ingesting, return_exceptions=True)

    if is_first:
        assert swept == Swept(deleted=1)
        assert isinstance(ingested, ImageNotFound)
        assert library.table(resources) == []
    else:
        assert swept == Swept()
        assert await library.read(key("a.png")) == picture()
        assert len(library.table(resources)) == 1


async def test_rows_that_follow_lock_marks_before_resources(
    library: Library, postgresql: PostgresConfig
) -> None:
    await library.save("a.png", picture(1))
    await library.save("b.png", picture(2))
    found = [await library.ingest(path) for path in ("a.png", "b.png")]
    given = [
        {
            "storage_key": one.storage_key, "save_id": one.save_id, "reason": DELETED,
            "created_at": now(), "due_at": now() + timedelta(hours=1), "attempts": 0,
        }
        for one in found
    ]  # fmt: skip
    engine = RowsEngine(postgresql)
    said: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        said.append(" ".join(statement.split()[:3]))

    sa.event.listen(engine._engine.sync_engine, "before_cursor_execute", note)

    assert await RowTransfer(engine).remember(deletions, given) == 2

    changes = [one for one in said if not one.startswith("SELECT")]
    assert changes == ["INSERT INTO media_deletions"] * 2 + ["UPDATE media_resources SET"] * 2
    assert all(row.deleted_at is not None for row in library.table(resources))
    await engine.close()


async def count_unless_beaten(job: Callable[[], Awaitable[int]]) -> int:
    """How much `job` has done: nothing where others were first. A deadlock is raised."""
    try:
        return await job()
    except (ImageNotFound, ResourceNotFound):
        return 0
    except BackendUnavailable as error:
        if "deadlock" in str(error.__cause__):
            raise
        return 0


async def test_many_ingests_deletions_and_sweeps_at_once_do_not_deadlock(
    library: Library, disk: ImageStorage
) -> None:
    service = MediaResourceService(disk, library.database, grace=timedelta(0))  # due at once
    done = Counter[str]()

    async def ingest(number: int) -> int:
        path = f"{number}.png"
        await library.save(path, picture(number % 2))  # the one before may have been swept
        await service.ingest_from_storage_key(key(path), relocate=number < 3)
        return 1

    async def delete() -> int:
        found = (await service.page(ResourceQuery())).resources
        for resource in found:
            await service.delete(resource.id)
        return len(found)

    async def sweep() -> int:
        return (await library.sweep()).deleted

    async def until_all_have_done_enough(kind: str, job: Callable[[], Awaitable[int]]) -> None:
        while any(done[each] < ENOUGH for each in ("ingested", "deleted", "swept")):
            count = await count_unless_beaten(job)
            done[kind] += count  # in one step: others of this kind count, too

    async with asyncio.TaskGroup() as group:
        for number in range(6):
            job = functools.partial(ingest, number % 4)
            group.create_task(until_all_have_done_enough("ingested", job))
        group.create_task(until_all_have_done_enough("deleted", delete))
        for _ in range(2):
            group.create_task(until_all_have_done_enough("swept", sweep))
