"""A data directory that an older version has left, opened by this one."""

import hashlib
import subprocess
import sys
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from pictures import picture
from running import IMAGES, running
from stillroom.features.database.config import PostgresConfig, RowsConfig, SqliteConfig
from stillroom.features.database.engine import migrating
from stillroom.features.database.migrations import HEAD, migrate
from stillroom.features.library.database import MediaDatabase
from stillroom.features.library.rows.tables import dead_letters, deletions

pytestmark = pytest.mark.slow

OLDEST = "0011"
"""The revision of Stillroom 0.3, whose tables are in two files next to this one."""

LIBRARY = f"{IMAGES.removesuffix('storage/images')}media-resources"
Columns = dict[str, set[str]]


def left_by_0_3(config: RowsConfig) -> tuple[uuid.UUID, bytes, Columns]:
    """Make the tables of Stillroom 0.3, with one resource; its id, its bytes, the columns."""
    image, resource = picture(), uuid.uuid4()
    kind = "postgresql" if isinstance(config, PostgresConfig) else "sqlite"
    statements = Path(__file__).with_name(f"tables_of_0_3_{kind}.sql").read_text()
    with migrating(config) as connection:
        for statement in statements.split(";\n\n"):
            connection.exec_driver_sql(statement)
        table = sa.Table("media_resources", sa.MetaData(), autoload_with=connection)
        row = {
            "id": resource if isinstance(config, PostgresConfig) else resource.hex,
            "resource_type": "image",
            "storage_key": f"media/{resource}/file.png",
            "save_id": "1-1",
            "content_hash": hashlib.sha256(image).digest(),
            "extension": "png",
            "content_type": "image/png",
            "file_size": len(image),
            "width": 24,
            "height": 16,
            "alt_text": "A cat, from before",
            "created_at": datetime.now(UTC),
        }
        connection.execute(table.insert().values(row))
        return resource, image, columns(connection)


def columns(connection: sa.Connection) -> Columns:
    found = sa.inspect(connection)
    return {
        table: {column["name"] for column in found.get_columns(table)}
        for table in found.get_table_names()
    }


def test_a_data_directory_of_0_3_is_opened(tmp_path: Path) -> None:
    config = SqliteConfig(tmp_path / "data/.stillroom/library.db")
    resource, image, _ = left_by_0_3(config)
    file = tmp_path / f"data/media/{resource}/file.png"
    file.parent.mkdir(parents=True)
    file.write_bytes(image)
    (tmp_path / "data/compute/old").mkdir(parents=True)
    (tmp_path / "data/compute/old/cat.png").write_bytes(image)

    with running(tmp_path) as server, server.client() as client:
        row = client.get(f"{LIBRARY}/{resource}").raise_for_status().json()
        assert row["alt_text"] == "A cat, from before"
        assert client.get(f"{LIBRARY}/{resource}/file").content == image
        assert client.get(f"{IMAGES}/old/cat.png").content == image
        # Equal bytes are the resource that was there before.
        asked = {"storage_key": "compute/old/cat.png"}
        again = client.post(f"{LIBRARY}/ingest", json=asked).raise_for_status().json()
        assert again["id"] == str(resource)
        assert f"schema migrated from {OLDEST} to {HEAD}" in server.logged()
    assert migrate(config) == (HEAD, HEAD)


@pytest.fixture(params=["sqlite", "postgresql"])
def config(request: pytest.FixtureRequest, tmp_path: Path) -> RowsConfig:
    if request.param == "postgresql":
        return PostgresConfig(request.getfixturevalue("database_url"))
    return SqliteConfig(tmp_path / "library.db")


@pytest.fixture
def new(request: pytest.FixtureRequest, config: RowsConfig, tmp_path: Path) -> Iterator[RowsConfig]:
    """A second database, without tables."""
    if isinstance(config, PostgresConfig):
        postgres = request.getfixturevalue("postgres")
        url = postgres.make_database()
        yield PostgresConfig(url)
        postgres.drop_database(url)
    else:
        yield SqliteConfig(tmp_path / "new.db")


def test_a_new_form_only_adds_to_what_the_old_one_uses(config: RowsConfig) -> None:
    _, _, before = left_by_0_3(config)

    assert migrate(config) == (OLDEST, HEAD)

    with migrating(config) as connection:
        after = columns(connection)
        texts = connection.execute(sa.text("SELECT alt_text FROM media_resources")).scalars()
        assert list(texts) == ["A cat, from before"]
    del before["media_dead_letters"]  # 0.3 has it for the processes of 0.2, and never reads it
    for table, names in before.items():
        assert names <= after[table], "old processes still run on it: docs/upgrading.md"


def everything(config: RowsConfig) -> dict[str, Any]:
    """All tables with their columns and constraints, and all triggers and functions."""
    named = {
        "sqlite": "SELECT type, name, tbl_name FROM sqlite_schema",
        "postgresql": (
            "SELECT 'trigger', tgname FROM pg_trigger WHERE NOT tgisinternal UNION ALL "
            "SELECT 'function', proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace "
            "UNION ALL SELECT relkind::text, relname FROM pg_class "
            "WHERE relnamespace = 'public'::regnamespace"
        ),
    }
    with migrating(config) as connection:
        found = sa.inspect(connection)
        by_name: dict[str, Any] = {
            table: {
                "columns": sorted(str(column) for column in _columns(found, table)),
                "primary key": found.get_pk_constraint(table),
                "foreign keys": found.get_foreign_keys(table),
                "unique": sorted(map(str, found.get_unique_constraints(table))),
                "indexes": sorted(map(str, found.get_indexes(table))),
            }
            for table in found.get_table_names()
        }
        names = connection.execute(sa.text(named[connection.dialect.name]))
        return by_name | {"": sorted(map(str, names))}


def _columns(found: sa.Inspector, table: str) -> Iterator[dict[str, Any]]:
    for column in found.get_columns(table):
        yield {**column, "type": repr(column["type"])}


def test_an_upgraded_database_is_equal_to_a_new_one(config: RowsConfig, new: RowsConfig) -> None:
    left_by_0_3(config)
    migrate(config)
    migrate(new)

    assert everything(config) == everything(new)
    with migrating(config) as upgraded, migrating(new) as created:
        for connection in (upgraded, created):
            (feed,) = connection.execute(sa.text("SELECT * FROM event_feed")).mappings()
            assert len(feed["feed_id"]) == 16
            assert (feed["id"], feed["last_position"], feed["dropped_position"]) == (1, 0, 0)


UPGRADED_IN_A_PROCESS = """
import os, sys
from pathlib import Path
from alembic import op
from stillroom.features.database.config import PostgresConfig, SqliteConfig
from stillroom.features.database.migrations import migrate

(where,) = sys.argv[1:]
op.drop_table = lambda _: os._exit(9)  # one of the last steps of the migration
migrate(PostgresConfig(where) if "://" in where else SqliteConfig(Path(where)))
"""


def test_a_process_that_dies_while_it_upgrades_changes_nothing(config: RowsConfig) -> None:
    left_by_0_3(config)
    before = everything(config)
    where = config.url if isinstance(config, PostgresConfig) else config.file
    died = subprocess.run([sys.executable, "-c", UPGRADED_IN_A_PROCESS, where], check=False)

    assert died.returncode == 9
    assert everything(config) == before
    assert migrate(config) == (OLDEST, HEAD)


async def test_failed_deletions_of_0_3_are_retried_after_the_upgrade(config: RowsConfig) -> None:
    moment = datetime.now(UTC)

    def bury(name: str, sha256: bytes | None) -> None:
        """Insert a dead letter, as 0.3 does it."""
        with migrating(config) as connection:
            connection.execute(
                sa.insert(dead_letters).values(
                    id=uuid.uuid4(),
                    kind="deletion",
                    payload={
                        "storage_key": f"compute/{name}",
                        "save_id": "1-1",
                        "reason": "relocated",
                        "content_hash": None if sha256 is None else sha256.hex(),
                    },
                    created_at=moment,
                    failed_at=moment,
                    attempts=12,
                    last_error="the bucket's\nanswer",
                )
            )

    left_by_0_3(config)
    bury('"a".png', hashlib.sha256(b"a").digest())
    bury("b.png", None)
    with migrating(config) as connection:
        copies = connection.execute(sa.text("SELECT storage_key FROM media_dead_letters"))
        assert sorted(copies.scalars()) == ['compute/"a".png', "compute/b.png"]
    migrate(config)
    bury("c.png", b"\xff" * 32)  # by a process of 0.3 that is still running
    database = MediaDatabase(config)
    rows = (await database.rows()).dead_letters
    found = {
        letter.payload["storage_key"]: letter for letter in await rows.page(after=None, limit=9)
    }
    assert sorted(found) == ['compute/"a".png', "compute/b.png", "compute/c.png"]
    for letter in found.values():
        assert (letter.kind, letter.attempts, letter.created_at) == ("deletion", 12, moment)
        assert letter.last_error == "the bucket's\nanswer"
        await rows.retry(letter.id)
    await database.close()
    with migrating(config) as connection:
        marks = connection.execute(sa.select(deletions)).all()
    assert {mark.storage_key.text: (mark.save_id, mark.content_hash) for mark in marks} == {
        'compute/"a".png': ("1-1", hashlib.sha256(b"a").digest()),
        "compute/b.png": ("1-1", None),
        "compute/c.png": ("1-1", b"\xff" * 32),
    }


@pytest.mark.parametrize(
    ("revision", "told"),
    [("9999", "which a newer Stillroom created"), ("0010", "install Stillroom 0.3, run its")],
)
def test_the_form_of_a_newer_or_too_old_version_is_left_alone(
    tmp_path: Path, revision: str, told: str
) -> None:
    config = SqliteConfig(tmp_path / "data/.stillroom/library.db")
    migrate(config)
    with migrating(config) as connection:
        connection.execute(sa.text(f"UPDATE alembic_version SET version_num = '{revision}'"))

    with running(tmp_path) as server, server.client() as client:
        saved = client.post(f"{IMAGES}/a.png", files={"file": picture()})
        assert saved.status_code == 200  # images are served as before
        assert client.get(LIBRARY).status_code == 503
        assert client.get(f"{IMAGES}/a.png").status_code == 200
        assert told in client.get(LIBRARY).json()["detail"]
