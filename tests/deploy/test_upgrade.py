"""A data directory that an older version has left, opened by this one."""

import hashlib
import uuid
from datetime import UTC, datetime
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory

from pictures import picture
from running import IMAGES, running
from stillroom.features.database import migrations
from stillroom.features.database.config import PostgresConfig, RowsConfig, SqliteConfig
from stillroom.features.database.engine import migrating
from stillroom.features.database.migrations import HEAD, migrate
from stillroom.features.library.database import MediaDatabase
from stillroom.features.library.rows.tables import dead_letters, deletions

pytestmark = pytest.mark.slow

SCRIPTS = str(Path(migrations.__file__).parent)
OLDER = sorted(
    script.revision
    for script in ScriptDirectory(SCRIPTS).walk_revisions()
    if script.revision != HEAD
)
LIBRARY = f"{IMAGES.removesuffix('storage/images')}media-resources"
Columns = dict[str, set[str]]


def left_by(revision: str, config: RowsConfig) -> tuple[uuid.UUID, bytes, Columns]:
    """Make the tables of an older version, with one resource; its id, its bytes, the columns."""
    alembic = Config()
    alembic.set_main_option("script_location", SCRIPTS)
    image, resource = picture(), uuid.uuid4()
    with migrating(config) as connection:
        alembic.attributes["connection"] = connection
        command.upgrade(alembic, revision)
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


@pytest.mark.parametrize("revision", OLDER)
def test_a_data_directory_in_every_older_form_is_opened(tmp_path: Path, revision: str) -> None:
    config = SqliteConfig(tmp_path / "data/.stillroom/library.db")
    resource, image, _ = left_by(revision, config)
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
        assert f"schema migrated from {revision} to {HEAD}" in server.logged()
    assert migrate(config) == (HEAD, HEAD)


@pytest.fixture(params=["sqlite", "postgresql"])
def config(request: pytest.FixtureRequest, tmp_path: Path) -> RowsConfig:
    if request.param == "postgresql":
        return PostgresConfig(request.getfixturevalue("database_url"))
    return SqliteConfig(tmp_path / "library.db")


@pytest.mark.parametrize("revision", OLDER)
def test_a_new_form_only_adds_to_the_old_one(config: RowsConfig, revision: str) -> None:
    _, _, before = left_by(revision, config)

    assert migrate(config) == (revision, HEAD)

    with migrating(config) as connection:
        after = columns(connection)
        texts = connection.execute(sa.text("SELECT alt_text FROM media_resources")).scalars()
        assert list(texts) == ["A cat, from before"]
    for table, names in before.items():
        assert names <= after[table], "old processes still run on it: docs/upgrading.md"


async def test_failed_deletions_are_in_the_tables_of_old_and_new_processes(
    config: RowsConfig,
) -> None:
    moment = datetime.now(UTC)

    def bury(name: str, sha256: bytes | None) -> None:
        with migrating(config) as connection:
            table = sa.Table("media_dead_letters", sa.MetaData(), autoload_with=connection)
            values = {
                "id": uuid.uuid4() if isinstance(config, PostgresConfig) else uuid.uuid4().hex,
                "storage_key": f"compute/{name}",
                "save_id": "1-1",
                "reason": "relocated",
                "content_hash": sha256,
                "created_at": moment,
                "failed_at": moment,
                "attempts": 12,
                "last_error": "the bucket's\nanswer",
            }
            connection.execute(table.insert().values(values))

    left_by("0010", config)
    bury('"a".png', hashlib.sha256(b"a").digest())
    bury("b.png", None)
    migrate(config)
    bury("c.png", b"\xff" * 32)
    bury("d.png", None)

    def seen_by_an_old_process() -> set[str]:
        with migrating(config) as connection:
            rows = connection.execute(sa.text("SELECT storage_key FROM media_dead_letters"))
            return set(rows.scalars())

    assert len(seen_by_an_old_process()) == 4
    with migrating(config) as connection:
        connection.execute(
            sa.text("DELETE FROM media_dead_letters WHERE storage_key = 'compute/d.png'")
        )
        connection.execute(
            sa.insert(dead_letters).values(
                id=uuid.uuid4(),
                kind="deletion",
                payload={
                    "storage_key": "compute/e.png",
                    "save_id": "1-1",
                    "reason": "relocated",
                    "content_hash": None,
                },
                created_at=moment,
                failed_at=moment,
                attempts=12,
                last_error="the bucket's\nanswer",
            )
        )
    assert {"compute/d.png", "compute/e.png"} & seen_by_an_old_process() == {"compute/e.png"}
    database = MediaDatabase(config)
    rows = (await database.rows()).dead_letters
    found = {
        letter.payload["storage_key"]: letter for letter in await rows.page(after=None, limit=9)
    }
    assert sorted(found) == ['compute/"a".png', *(f"compute/{name}.png" for name in "bce")]
    for letter in found.values():
        assert (letter.kind, letter.attempts, letter.created_at) == ("deletion", 12, moment)
        assert letter.last_error == "the bucket's\nanswer"
        await rows.retry(letter.id)
    await database.close()
    with migrating(config) as connection:
        marks = connection.execute(sa.select(deletions)).all()
    assert seen_by_an_old_process() == set()
    assert {mark.storage_key.text: (mark.save_id, mark.content_hash) for mark in marks} == {
        'compute/"a".png': ("1-1", hashlib.sha256(b"a").digest()),
        "compute/b.png": ("1-1", None),
        "compute/c.png": ("1-1", b"\xff" * 32),
        "compute/e.png": ("1-1", None),
    }


def test_the_form_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    config = SqliteConfig(tmp_path / "data/.stillroom/library.db")
    migrate(config)
    with migrating(config) as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))

    with running(tmp_path) as server, server.client() as client:
        saved = client.post(f"{IMAGES}/a.png", files={"file": picture()})
        assert saved.status_code == 200  # images are served as before
        assert client.get(LIBRARY).status_code == 503
        assert client.get(f"{IMAGES}/a.png").status_code == 200
        assert "which a newer Stillroom created" in client.get(LIBRARY).json()["detail"]
