"""The rows' database: its rules, its tables, and what happens while it is away."""

import asyncio
import contextlib
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa

from media.library import Library, key
from pictures import picture
from services.postgres import PostgreSQL
from stillroom.errors import BackendUnavailable, ConfigurationError
from stillroom.features.database import engine
from stillroom.features.database.config import PostgresConfig, RowsConfig, SqliteConfig
from stillroom.features.database.engine import RowsEngine, migrating
from stillroom.features.database.migrations import migrate
from stillroom.features.library.database import MediaDatabase
from stillroom.features.library.resource import ResourceQuery
from stillroom.store.port import ImageStorage


@pytest.fixture
def sqlite(tmp_path: Path) -> SqliteConfig:
    """No database yet."""
    return SqliteConfig(tmp_path / "rows" / "library.db")


@pytest.fixture
def postgresql(database_url: str) -> PostgresConfig:
    """No tables yet."""
    return PostgresConfig(database_url)


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def config(request: pytest.FixtureRequest) -> RowsConfig:
    found: RowsConfig = request.getfixturevalue(request.param)
    return found


IMPORTED_WHEN_IT_SERVES = """
import asyncio, sys
from pathlib import Path
from stillroom.assembly import assemble
from stillroom.features.database.database import ROW_MODULES
from stillroom.settings import AllSettings

async def serve():
    parts = assemble(AllSettings.of_values(data_dir=sys.argv[1]))
    async with parts.running():
        features = "events.rows", "library.rows.words", "runs.rows", "search.rows"
        rows = {*ROW_MODULES, *(f"stillroom.features.{name}" for name in features)}
        print("sqlalchemy" in sys.modules, rows <= sys.modules.keys())

print("sqlalchemy" in sys.modules)
asyncio.run(serve())
"""


def test_what_opening_needs_is_imported_before_a_server_serves(tmp_path: Path) -> None:
    """It holds up all else for a while: the first saves would wait for it."""
    ran = subprocess.run(
        [sys.executable, "-c", IMPORTED_WHEN_IT_SERVES, tmp_path],
        capture_output=True, text=True, check=True,
    )  # fmt: skip

    assert ran.stdout.split() == ["False", "True", "True"]


async def test_a_probe_opens_no_database_and_says_what_became_of_the_last_try(
    sqlite: SqliteConfig,
) -> None:
    database = MediaDatabase(sqlite)
    assert await database.check() is False
    assert not sqlite.file.exists()

    await database.rows()
    before = sorted(sqlite.file.parent.iterdir())
    assert await database.check() is True
    assert sorted(sqlite.file.parent.iterdir()) == before, "it takes no inode from an image"
    await database.close()
    with migrating(sqlite) as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))

    newer = MediaDatabase(sqlite)
    with pytest.raises(BackendUnavailable):
        await newer.rows()
    with pytest.raises(BackendUnavailable, match="newer"):
        await newer.check()


IMPORTED_IN_A_THREAD = """
import asyncio, importlib.abc, sys, threading
from pathlib import Path
from stillroom.features.database.config import SqliteConfig
from stillroom.features.library.database import MediaDatabase
from stillroom.features.retention.evaluator import expiry_rows
from stillroom.features.runs.database import run_rows
from stillroom.features.search.database import comparison_rows, search_rows

threads = set()

class Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name, *_):
        if name == "sqlalchemy":
            threads.add(threading.current_thread())

sys.meta_path.insert(0, Finder())
part = dict(
    library=MediaDatabase.rows, scans=MediaDatabase.scans, search=search_rows,
    comparison=comparison_rows, expiry=expiry_rows, runs=run_rows,
)[sys.argv[2]]

async def use():
    database = MediaDatabase(SqliteConfig(Path(sys.argv[1])))
    await part(database)
    await database.close()

asyncio.run(use())
print(len(threads), threading.main_thread() in threads)
"""


@pytest.mark.parametrize(
    "part",
    [
        "library",
        "search",
        *(
            pytest.param(part, marks=pytest.mark.whole)  # each is a process
            for part in ("scans", "comparison", "expiry", "runs")
        ),
    ],
)
def test_the_first_use_imports_the_database_in_a_thread(tmp_path: Path, part: str) -> None:
    """It takes a second, in which an event loop would serve no request."""
    ran = subprocess.run(
        [sys.executable, "-c", IMPORTED_IN_A_THREAD, tmp_path / "library.db", part],
        capture_output=True, text=True, check=True,
    )  # fmt: skip

    assert ran.stdout.split() == ["1", "False"]


def test_the_assembly_loads_no_web_framework() -> None:
    code = (
        "import stillroom.assembly, sys; sys.exit(bool({'fastapi', 'starlette'} & {*sys.modules}))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_application_is_made_without_importing_a_database() -> None:
    code = "import stillroom.app, sys; sys.exit('sqlalchemy' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


async def test_sqlite_keeps_what_it_acknowledges_through_a_power_cut(sqlite: SqliteConfig) -> None:
    migrate(sqlite)
    opened = RowsEngine(sqlite)
    async with opened.writing() as connection:
        found = [
            (await connection.exec_driver_sql(f"PRAGMA {name}")).scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys")
        ]
        with (
            contextlib.closing(sqlite3.connect(sqlite.file, timeout=0)) as other,
            pytest.raises(sqlite3.OperationalError, match="locked"),
        ):
            other.execute("BEGIN IMMEDIATE")
    await opened.close()

    assert found == ["wal", 2, 1]  # 2: FULL
    assert (sqlite.file.stat().st_mode & 0o777) == 0o640


async def test_what_can_be_made_again_waits_for_no_disk_and_is_written_whole_or_not_at_all(
    sqlite: SqliteConfig,
) -> None:
    migrate(sqlite)
    opened = RowsEngine(sqlite)

    def rules(connection: sa.Connection) -> list[object]:
        connection.exec_driver_sql("CREATE TABLE half (a)")
        names = ("journal_mode", "synchronous")
        return [connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in names]

    def fails(connection: sa.Connection) -> None:
        rules(connection)
        raise KeyError

    with pytest.raises(KeyError):
        await opened.rewrite(fails)
    assert await opened.rewrite(rules) == ["wal", 1]  # 1: NORMAL
    with contextlib.closing(sqlite3.connect(sqlite.file, timeout=0)) as other:
        other.execute("BEGIN IMMEDIATE")
        writing = asyncio.ensure_future(opened.rewrite(lambda _: time.monotonic()))
        await asyncio.wait([writing], timeout=0.2)
        ended = time.monotonic()
        other.rollback()
    assert await writing > ended
    await opened.close()


async def test_transactions_of_one_process_write_to_sqlite_in_the_order_in_which_they_began(
    sqlite: SqliteConfig,
) -> None:
    migrate(sqlite)
    opened = RowsEngine(sqlite)
    written: list[int] = []

    async def write(number: int) -> None:
        if number % 2:
            await opened.rewrite(lambda _: written.append(number))
            return
        async with opened.writing():
            await asyncio.sleep(0)
            written.append(number)

    await asyncio.gather(*(write(number) for number in range(40)))

    assert written == list(range(40))
    await opened.close()


@pytest.mark.slow
async def test_while_the_database_is_away_nothing_changes_and_afterwards_all_works(
    disk: ImageStorage, postgres: PostgreSQL, postgresql: PostgresConfig
) -> None:
    library = Library(disk, postgresql)
    saved = await library.save("a.png", picture())
    with postgres.away(), pytest.raises(BackendUnavailable):  # never opened yet
        await library.ingest("a.png")
    first = await library.ingest("a.png")

    await library.save("b.png", picture(2))
    with postgres.away():
        for _ in range(2):  # with connections in the pool, and without
            with pytest.raises(BackendUnavailable):
                await library.ingest("b.png")
        with pytest.raises(BackendUnavailable):
            await library.service.page(ResourceQuery())
    await library.ingest("b.png")

    page = await library.service.page(ResourceQuery())
    assert [resource.id for resource in page.resources][1] == first.id
    assert (key("a.png").text, saved.save_id) in library.marked()
    await library.check()
    await library.database.close()


@pytest.mark.slow
async def test_a_slow_postgresql_is_given_up(
    disk: ImageStorage, postgresql: PostgresConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = Library(disk, postgresql)
    await library.save("a.png", picture())
    await library.database.rows()

    async with await psycopg.AsyncConnection.connect(postgresql.url) as other:
        await other.execute("LOCK TABLE media_intents IN ACCESS EXCLUSIVE MODE")
        with monkeypatch.context() as hurried:
            hurried.setattr(engine, "_TIMEOUT_S", 0.5)
            with pytest.raises(BackendUnavailable):
                await library.ingest("a.png")

    await library.ingest("a.png")
    await library.check()
    await library.database.close()


@pytest.mark.slow
async def test_a_postgresql_that_hangs_is_given_up_in_time(
    disk: ImageStorage,
    postgres: PostgreSQL,
    postgresql: PostgresConfig,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Left to itself, the driver waits ten seconds longer for an answer to its cancellation."""
    library = Library(disk, postgresql)
    await library.save("a.png", picture())
    await library.ingest("a.png")  # so that a connection is there, and a statement hangs on it
    await library.save("b.png", picture(2))

    with postgres.hanging(), monkeypatch.context() as hurried:
        hurried.setattr(engine, "_TIMEOUT_S", 0.5)
        hurried.setattr(engine, "_CANCEL_S", 0.5)
        async with asyncio.timeout(10):
            with pytest.raises(BackendUnavailable):
                await library.ingest("b.png")

    await library.ingest("b.png")
    await library.check()
    await library.database.close()


async def test_a_sqlite_that_others_hold_for_too_long_is_given_up(
    disk: ImageStorage, sqlite: SqliteConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "_BUSY_S", 0.2)
    library = Library(disk, sqlite)
    await library.save("a.png", picture())
    await library.database.rows()

    with contextlib.closing(sqlite3.connect(sqlite.file, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(BackendUnavailable):
            await library.ingest("a.png")
        assert (await library.service.page(ResourceQuery())).resources == []  # reading goes on
        other.execute("ROLLBACK")

    await library.ingest("a.png")
    await library.database.close()


async def test_a_cancelled_ingest_leaves_no_connection_behind(
    disk: ImageStorage, config: RowsConfig
) -> None:
    library = Library(disk, config)
    await library.database.rows()
    await library.save("a.png", picture())
    for pause in (0.001, 0.005, 0.02, 0.05):
        task = asyncio.create_task(library.ingest("a.png"))
        await asyncio.sleep(pause)  # the moment is the experiment
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    await library.ingest("a.png")
    await library.check()
    await library.database.close()


async def test_a_url_that_is_none_is_refused_without_its_password() -> None:
    with pytest.raises(ConfigurationError) as refused:
        await MediaDatabase(PostgresConfig("postgresql://u:s3cret@host:port/x")).rows()

    assert "s3cret" not in str(refused.value)
    assert "s3cret" not in repr(PostgresConfig("postgresql://u:s3cret@host/x"))
