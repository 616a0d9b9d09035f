"""The queue of purges: what transactions add, and what happens to a row."""

import uuid
from collections.abc import AsyncIterator
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from stillroom.features.database.clock import now
from stillroom.features.database.config import PostgresConfig, RowsConfig, SqliteConfig
from stillroom.features.database.engine import migrating
from stillroom.features.library.database import MediaDatabase
from stillroom.features.library.rows.tables import dead_letters
from stillroom.features.purge.feature import _queue_purges, purge_rows
from stillroom.features.purge.rows import MAX_ATTEMPTS, Purge, PurgeRows
from stillroom.features.purge.settings import PurgeConfig
from stillroom.features.purge.tables import purges
from stillroom.paths import StorageKey

MEDIA = StorageKey("media/1/file.png")
IMAGE = StorageKey("compute/a b/ü.png")
BASES = ("https://one.example", "https://two.example/images")


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def config(request: pytest.FixtureRequest, tmp_path: Path) -> RowsConfig:
    if request.param == "sqlite":
        return SqliteConfig(tmp_path / "library.db", durable=False)
    return PostgresConfig(request.getfixturevalue("database_url"))


class Queue:
    def __init__(self, config: RowsConfig, *, covers_compute: bool) -> None:
        self.config = config
        self.database = MediaDatabase(config)
        asked = PurgeConfig("https://api.example", "token", BASES, covers_compute=covers_compute)
        self.database.on_connect.append(partial(_queue_purges, asked))
        self.claim_id = uuid.uuid4()

    async def rows(self) -> PurgeRows:
        return await purge_rows(self.database)

    async def happen(self, *keys: StorageKey, by_library: bool = True) -> None:
        engine = await self.database.engine()
        async with engine.writing() as connection:
            await connection.run_sync(engine.note_stale, keys, by_library=by_library)

    async def claim(self, claim: uuid.UUID | None = None, limit: int = 100) -> list[Purge]:
        return [*await (await self.rows()).claim(claim or self.claim_id, limit=limit)]

    def table(self, table: sa.Table) -> list[Any]:
        with migrating(self.config) as connection:
            return [*connection.execute(sa.select(table)).all()]

    def hurry(self) -> None:
        with migrating(self.config) as connection:
            connection.execute(sa.update(purges).values(due_at=now(), lease_until=None))


@pytest.fixture
async def queue(config: RowsConfig) -> AsyncIterator[Queue]:
    queue = Queue(config, covers_compute=False)
    yield queue
    await queue.database.close()


async def test_a_deletion_of_the_library_queues_each_url(queue: Queue) -> None:
    await queue.happen(MEDIA, IMAGE)

    assert sorted(purge.url for purge in await queue.claim()) == [
        "https://one.example/compute/a%20b/%C3%BC.png",
        "https://one.example/media/1/file.png",
        "https://two.example/images/compute/a%20b/%C3%BC.png",
        "https://two.example/images/media/1/file.png",
    ]


async def test_other_changes_are_queued_only_if_the_operator_wants_it(
    queue: Queue, config: RowsConfig
) -> None:
    await queue.happen(MEDIA, IMAGE, by_library=False)
    assert queue.table(purges) == []

    other = Queue(config, covers_compute=True)
    await other.happen(MEDIA, IMAGE, by_library=False)
    await other.database.close()
    assert {row.url.rpartition("/")[2] for row in queue.table(purges)} == {"%C3%BC.png"}


async def test_a_purge_is_repeated_after_a_minute_and_then_gone(queue: Queue) -> None:
    await queue.happen(MEDIA)
    rows = await queue.rows()

    await rows.settle(queue.claim_id, await queue.claim())
    assert await queue.claim() == []
    left = [row.due_at - now() for row in queue.table(purges)]
    assert len(left) == 2
    assert all(timedelta(0) < pause <= timedelta(seconds=60) for pause in left)
    queue.hurry()
    again = await queue.claim()
    assert [purge.is_repeat for purge in again] == [True, True]
    await rows.settle(queue.claim_id, again)
    assert queue.table(purges) == []


async def test_a_purge_that_is_claimed_is_left_to_its_process_until_the_lease_ends(
    queue: Queue,
) -> None:
    await queue.happen(MEDIA)
    first, other = await queue.claim(limit=1), uuid.uuid4()
    assert len(await queue.claim(other)) == 1
    assert await queue.claim(other) == []

    queue.hurry()  # as if the minute of the lease had passed
    taken = await queue.claim(other)
    rows = await queue.rows()
    await rows.settle(queue.claim_id, first)  # too late: another process has it
    assert await rows.postpone(queue.claim_id, first, "too late", None) == 0

    assert sum(row.claimed_by == other for row in queue.table(purges)) == len(taken) == 2


async def test_pauses_double_up_to_twelve_attempts_and_a_dead_letter_has_the_url(
    queue: Queue,
) -> None:
    await queue.happen(MEDIA)
    rows = await queue.rows()
    for number in range(1, MAX_ATTEMPTS):
        claimed, began = await queue.claim(), now()
        assert await rows.postpone(queue.claim_id, claimed, "the status 500", None) == 0
        failed_at = queue.table(purges)[0].due_at - timedelta(seconds=2**number)
        assert began <= failed_at <= now()
        queue.hurry()

    assert await rows.postpone(queue.claim_id, await queue.claim(), "the status 500", None) == 2

    assert queue.table(purges) == []
    letters = queue.table(dead_letters)
    assert {letter.payload["url"] for letter in letters} == {
        "https://one.example/media/1/file.png",
        "https://two.example/images/media/1/file.png",
    }
    assert {(one.kind, one.attempts, one.last_error) for one in letters} == {
        ("purge", 12, "the status 500")
    }


async def test_a_pause_that_the_api_asks_for_is_no_failed_attempt(queue: Queue) -> None:
    await queue.happen(MEDIA)
    rows = await queue.rows()
    for _ in range(2 * MAX_ATTEMPTS):
        claimed, began, pause = await queue.claim(), now(), timedelta(seconds=7)
        assert await rows.postpone(queue.claim_id, claimed, "429", pause) == 0
        assert began + pause <= queue.table(purges)[0].due_at <= now() + pause
        queue.hurry()
    assert {row.attempts for row in queue.table(purges)} == {0}


async def test_dead_letters_are_listed_retried_and_dropped(queue: Queue) -> None:
    await queue.happen(MEDIA)
    rows, letters = await queue.rows(), (await queue.database.rows()).dead_letters
    for _ in range(MAX_ATTEMPTS):
        await rows.postpone(queue.claim_id, await queue.claim(), "refused", None)
        queue.hurry()

    first, second = await letters.page(after=None, limit=9)
    await letters.retry(first.id)
    await letters.drop(second.id)

    assert await letters.page(after=None, limit=9) == []
    (retried,) = await queue.claim()
    assert (retried.url, retried.attempts) == (first.payload["url"], 0)


async def test_the_metrics_count_what_was_not_purged_once(queue: Queue) -> None:
    rows = await queue.rows()
    assert await rows.waiting() == (0, timedelta(0))
    await queue.happen(MEDIA)
    number, age = await rows.waiting()
    assert number == 2
    assert timedelta(0) <= age < timedelta(minutes=5)
    await rows.settle(queue.claim_id, await queue.claim(limit=1))
    assert (await rows.waiting())[0] == 1
