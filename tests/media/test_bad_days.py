"""What a sweeper meets on a bad day: refusals without end, a database that is away or slow."""

import asyncio
import contextlib
import logging
import sqlite3
from collections.abc import AsyncIterator

import psycopg
import pytest

from contract.images import RULES
from media.library import Library, is_missing, is_there, key, make_due
from pictures import picture
from services.postgres import PostgreSQL
from services.stub_faults import answers
from services.stub_r2 import Fault, StubR2, served
from services.stub_wire import BUCKET, KEY_ID, SECRET
from stillroom.errors import BackendUnavailable
from stillroom.features.database import engine
from stillroom.features.database.config import PostgresConfig, SqliteConfig
from stillroom.features.library.rows.tables import deletions, failed_deletions
from stillroom.features.library.sweeper import MAX_ATTEMPTS, Swept
from stillroom.paths import StorageKey
from stillroom.store.choose import R2Config, open_storage
from stillroom.store.port import ImageStorage
from waiting import eventually


@pytest.fixture
async def stub() -> AsyncIterator[StubR2]:
    async with served(StubR2()) as stub:
        yield stub


@pytest.fixture
async def bucket_of_ours(stub: StubR2) -> AsyncIterator[ImageStorage]:
    storage = open_storage(R2Config(stub.endpoint_url, KEY_ID, SECRET, BUCKET), RULES)
    yield storage
    await storage.close()


async def test_a_bucket_that_refuses_for_ever_fills_the_dead_letters_and_loses_nothing(
    bucket_of_ours: ImageStorage, stub: StubR2, sqlite: SqliteConfig
) -> None:
    library = Library(bucket_of_ours, sqlite)
    await library.save("a.png", picture())
    resource = await library.ingest("a.png")
    await library.service.delete(resource.id)
    refused: Fault = answers(403, "AccessDenied")
    for attempt in range(MAX_ATTEMPTS):
        make_due(library)
        stub.faults.extend([refused] * 2)
        swept = await library.sweep()
        assert swept == (Swept(failed=2) if attempt < MAX_ATTEMPTS - 1 else Swept(dead_lettered=2))

    assert library.table(deletions) == []
    given_up = library.table(failed_deletions)
    assert {row.storage_key for row in given_up} == {key("a.png"), resource.storage_key}
    assert {row.reason for row in given_up} == {"deleted"}  # with its resource, the source goes too
    assert all("403" in row.last_error for row in given_up)
    for row in given_up:
        assert await is_there(library, row.storage_key)

    rows = await library.database.rows()
    for row in given_up:
        await rows.dead_letters.retry(row.id)
    assert await library.sweep() == Swept(deleted=2)
    await library.database.close()


async def test_a_pass_that_only_fails_ends_and_does_not_ask_the_bucket_a_thousand_times(
    disk: ImageStorage, sqlite: SqliteConfig
) -> None:
    library = Library(disk, sqlite)
    asked = 0

    async def refuse(_: StorageKey) -> None:
        nonlocal asked
        asked += 1
        raise BackendUnavailable("403")

    for number in range(100):
        await library.save(f"{number}.png", picture())
        await library.ingest(f"{number}.png")
    make_due(library)
    library.meddled.before_delete = refuse

    assert await library.sweep() == Swept(failed=32)
    assert asked == 32
    await library.database.close()


@pytest.mark.slow
async def test_while_the_database_is_away_nothing_is_deleted_and_afterwards_all_is(
    disk: ImageStorage,
    postgres: PostgreSQL,
    postgresql: PostgresConfig,
    caplog: pytest.LogCaptureFixture,
) -> None:
    library = Library(disk, postgresql)
    await library.save("a.png", picture())
    await library.ingest("a.png")
    make_due(library)

    with caplog.at_level(logging.INFO, "stillroom.media"):
        stopping = asyncio.Event()
        with postgres.away():
            running = asyncio.create_task(_run(library, stopping))
            await eventually(
                lambda: "cannot run a background job of the media library yet" in caplog.text
            )
            assert await is_there(library, key("a.png"))
        await eventually(lambda: is_missing(library, key("a.png")))
        stopping.set()
        await running

    assert caplog.text.count("cannot run a background job of the media library yet") == 1
    await library.database.close()


async def _run(library: Library, stopping: asyncio.Event) -> None:
    async with library.background(every_s=0.05, stop_within_s=5):
        await stopping.wait()


@pytest.mark.slow
async def test_a_database_that_goes_away_between_claim_and_settlement_forgets_nothing(
    disk: ImageStorage, postgres: PostgreSQL, postgresql: PostgresConfig
) -> None:
    library = Library(disk, postgresql)
    await library.save("a.png", picture())
    await library.ingest("a.png")
    make_due(library)
    away = contextlib.ExitStack()

    async def go_away(_: StorageKey) -> None:
        away.enter_context(postgres.away())

    library.meddled.before_delete = go_away
    with away, pytest.raises(BackendUnavailable):
        await library.sweep()
    library.meddled.before_delete = None
    assert not await is_there(library, key("a.png"))
    assert len(library.table(deletions)) == 1

    make_due(library)
    assert await library.sweep() == Swept(gone=1)
    await library.database.close()


@pytest.mark.slow
async def test_a_slow_postgresql_is_given_up_until_the_next_sweep(
    disk: ImageStorage, postgresql: PostgresConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = Library(disk, postgresql)
    await library.save("a.png", picture())
    await library.ingest("a.png")
    make_due(library)

    async with await psycopg.AsyncConnection.connect(postgresql.url) as other:
        await other.execute("LOCK TABLE media_deletions IN ACCESS EXCLUSIVE MODE")
        with monkeypatch.context() as hurried:
            hurried.setattr(engine, "_TIMEOUT_S", 0.5)
            with pytest.raises(BackendUnavailable):
                await library.sweep()
        assert await is_there(library, key("a.png"))

    assert await library.sweep() == Swept(deleted=1)
    await library.database.close()


async def test_a_sqlite_that_others_hold_is_given_up_until_the_next_sweep(
    disk: ImageStorage, sqlite: SqliteConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "_BUSY_S", 0.2)
    library = Library(disk, sqlite)
    await library.save("a.png", picture())
    await library.ingest("a.png")
    make_due(library)

    with contextlib.closing(sqlite3.connect(sqlite.file, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(BackendUnavailable):
            await library.sweep()
        other.execute("ROLLBACK")

    assert await library.sweep() == Swept(deleted=1)
    await library.database.close()
