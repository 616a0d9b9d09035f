"""Tables of the database: created at once, or migrated from those of an older version."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.exc import ProgrammingError

import stillroom
from stillroom.errors import BackendUnavailable
from stillroom.features.database import migrations, tables
from stillroom.features.database.config import PostgresConfig, RowsConfig, SqliteConfig
from stillroom.features.database.engine import migrating
from stillroom.features.database.migrations import HEAD, TABLE_MODULES, migrate
from stillroom.features.database.tables import metadata
from stillroom.features.library.database import MediaDatabase


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


def test_each_module_that_declares_a_table_is_in_the_list_of_them() -> None:
    source = Path(stillroom.__file__).parents[1]
    declaring = {
        ".".join(file.relative_to(source).with_suffix("").parts)
        for file in (source / "stillroom").rglob("*.py")
        if "sa.Table(" in file.read_text()
    }
    assert declaring == {*TABLE_MODULES, tables.__name__}


async def test_a_new_database_has_the_tables_that_the_code_knows(config: RowsConfig) -> None:
    assert migrate(config) == (None, HEAD)
    assert migrate(config) == (HEAD, HEAD)

    with migrating(config) as connection:
        context = MigrationContext.configure(
            connection,
            opts={
                # SQLite has the words in a virtual table.
                "include_name": lambda name, *_: not str(name).startswith("search_words"),
                "include_object": lambda _, name, *__: (
                    isinstance(config, PostgresConfig) or name != "ix_search_images_words"
                ),
            },
        )
        assert compare_metadata(context, metadata) == []
        assert context.get_current_revision() == HEAD


def test_the_newest_migration_is_the_one_that_the_code_asks_for() -> None:
    assert ScriptDirectory(str(Path(migrations.__file__).parent)).get_heads() == [HEAD]


@pytest.mark.parametrize(
    ("revision", "told"),
    [("9999", "which a newer Stillroom created"), ("0010", "install Stillroom 0.3, run its")],
)
async def test_tables_of_a_newer_or_too_old_stillroom_are_left_alone(
    config: RowsConfig, revision: str, told: str
) -> None:
    migrate(config)
    with migrating(config) as connection:
        connection.execute(sa.text(f"UPDATE alembic_version SET version_num = '{revision}'"))
        before = sa.inspect(connection).get_table_names()

    with pytest.raises(BackendUnavailable, match=f"version {revision}, .*{told}"):
        await MediaDatabase(config).rows()

    with migrating(config) as connection:
        assert sa.inspect(connection).get_table_names() == before
        left = connection.execute(sa.text("SELECT version_num FROM alembic_version"))
        assert left.scalars().all() == [revision]


CREATED_IN_A_PROCESS = """
import os, sys
from pathlib import Path
from stillroom.features.database.config import PostgresConfig, SqliteConfig
from stillroom.features.database.migrations import metadata, migrate

where, is_killed = sys.argv[1:]
config = PostgresConfig(where) if "://" in where else SqliteConfig(Path(where))
create_all = metadata.create_all
if is_killed == "killed":
    metadata.create_all = lambda *_, **how: (create_all(*_, **how), os._exit(9))
print(*migrate(config))
"""


def creating(config: RowsConfig, *words: str) -> "subprocess.Popen[str]":
    where = config.url if isinstance(config, PostgresConfig) else str(config.file)
    command = [sys.executable, "-c", CREATED_IN_A_PROCESS, where, *words]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_a_process_that_dies_while_it_creates_tables_leaves_none(config: RowsConfig) -> None:
    with creating(config, "killed") as process:
        assert process.wait(300) == 9

    with migrating(config) as connection:
        assert sa.inspect(connection).get_table_names() == []
    assert migrate(config) == (None, HEAD)


def test_one_of_several_processes_creates_the_tables(config: RowsConfig) -> None:
    processes = [creating(config, "") for _ in range(4)]
    said = sorted(process.communicate(timeout=300)[0] for process in processes)

    assert said == [*[f"{HEAD} {HEAD}\n"] * 3, f"None {HEAD}\n"]
    with migrating(config) as connection:
        assert len(connection.execute(sa.text("SELECT feed_id FROM event_feed")).all()) == 1


def test_a_table_of_another_program_is_not_used(config: RowsConfig) -> None:
    with migrating(config) as connection:
        connection.execute(sa.text("CREATE TABLE events (a INTEGER)"))

    with pytest.raises((BackendUnavailable, ProgrammingError)):
        migrate(config)

    with migrating(config) as connection:
        assert sa.inspect(connection).get_table_names() == ["events"]


def test_a_sqlite_without_full_text_search_gets_no_tables(sqlite: SqliteConfig) -> None:
    def without_fts5(*args: Any) -> tuple[str, Any]:
        _, _, statement, parameters, *_ = args
        return statement.replace("fts5", "fts_missing"), parameters

    sa.event.listen(sa.Engine, "before_cursor_execute", without_fts5, retval=True)
    try:
        with pytest.raises(BackendUnavailable, match="no full-text search"):
            migrate(sqlite)
    finally:
        sa.event.remove(sa.Engine, "before_cursor_execute", without_fts5)

    with migrating(sqlite) as connection:
        assert sa.inspect(connection).get_table_names() == []
    assert migrate(sqlite) == (None, HEAD)
