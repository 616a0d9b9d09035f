"""The rows of a library follow its images in `stillroom migrate`."""

import asyncio
import contextlib
import hashlib
import sqlite3
import subprocess
from pathlib import Path

import pytest

from acceptance.migrating import facts, migrate, settings_file, write
from pictures import picture
from running import IMAGES, STILLROOM, running
from stillroom.features.database.clock import new_id, now
from stillroom.features.database.config import SqliteConfig
from stillroom.features.database.engine import RowsEngine
from stillroom.features.database.migrations import migrate as migrate_tables
from stillroom.features.library.resource import IMAGE, RELOCATED, MediaResource
from stillroom.features.library.rows.tables import deletions
from stillroom.features.library.rows.transfer import RowTransfer
from stillroom.paths import StorageKey
from stillroom.settings import AllSettings
from stillroom.store.choose import open_storage
from waiting import until

pytestmark = [pytest.mark.slow, pytest.mark.whole]


def library_of(data: Path, count: int) -> list[MediaResource]:
    """Resources as ingests leave them: bytes, rows, and marks of their sources."""
    rows = SqliteConfig(data / ".stillroom/library.db", durable=False)
    found = []
    for number in range(count):
        content, identity = b"\x89PNG\r\n\x1a\n%d" % number, new_id()
        key = StorageKey.of_media(identity, "png")
        write(data, {f"{number}.png": content, f"../{key.text}": content})
        found.append(
            MediaResource(
                id=identity, resource_type=IMAGE, storage_key=key, save_id="theirs",
                content_hash=hashlib.sha256(content).digest(), extension="png",
                content_type="image/png", file_size=len(content), width=1, height=1,
                color_profile=None, protected=False, alt_text=f"{number}", caption=None,
                created_at=now(),
            )
        )  # fmt: skip

    async def remember() -> None:
        engine = RowsEngine(rows)
        handover = RowTransfer(engine)
        for first in range(0, count, 200):  # each is a transaction, which has ten seconds
            await handover.take(found[first : first + 200], set())
        storage = open_storage(
            AllSettings.of_values(data_dir=data).storage,
            AllSettings.of_values(data_dir=data).save_rules,
        )
        marks = []
        for number in range(0, count, 3):
            image = await storage.stat(StorageKey(f"compute/{number}.png"))
            marks.append(
                {
                    "storage_key": image.key, "save_id": image.save_id, "reason": RELOCATED,
                    "created_at": now(), "due_at": now(), "attempts": 0,
                }
            )  # fmt: skip
        await handover.remember(deletions, marks)
        await storage.close()
        await engine.close()

    migrate_tables(rows)
    asyncio.run(remember())
    return found


def rows_in(file: Path) -> tuple[int, int]:
    """Resources and marks in a library that somebody else writes to."""
    uri = f"file:{file}?mode=ro"
    with (
        contextlib.suppress(sqlite3.OperationalError),  # not yet made
        contextlib.closing(sqlite3.connect(uri, uri=True)) as connection,
    ):
        tables = ("media_resources", "media_deletions")
        resources, marks = (
            connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in tables
        )
        return resources, marks
    return 0, 0


def killed_among_its_rows(words: tuple[str, ...], library: Path) -> bool:
    """Run a migration and kill it; False if it had written all of its rows by then."""
    process = subprocess.Popen([STILLROOM, "migrate", *words], stdout=subprocess.DEVNULL)
    until(lambda: rows_in(library)[0] >= 500, by=process)
    process.kill()
    process.wait()
    return rows_in(library) < (1800, 600)


def test_killed_while_its_rows_follow_a_library_arrives_once_and_whole(tmp_path: Path) -> None:
    source = tmp_path / "source"
    resources = library_of(source, 1800)
    for number in range(5):  # on a busy machine it may be done before it is killed
        target = tmp_path / f"target-{number}"
        settings = settings_file(
            tmp_path / "target.env", STILLROOM_DATA_DIR=target, STILLROOM_DURABILITY="none"
        )
        words = (f"--from={source}", f"--to={settings}", "--json")
        library = target / ".stillroom/library.db"
        if killed_among_its_rows(words, library):
            break
    else:
        pytest.fail("killed too late to show anything")

    last = migrate(*words)
    again = migrate(*words)

    assert (last.status, last.json["rows"]["left_out"]) == (0, [])
    assert last.json["counts"] == {"same": 3600}
    assert last.json["rows"]["counts"]["same"] >= 500
    assert rows_in(library) == (1800, 600)
    assert again.json["rows"]["counts"] == {"same": 1800}
    assert (again.json["rows"]["marks"], again.json["rows"]["taken_back"]) == (0, 0)
    with contextlib.closing(sqlite3.connect(library)) as connection:
        texts = connection.execute("SELECT alt_text FROM media_resources").fetchall()
    assert {text for (text,) in texts} == {resource.alt_text for resource in resources}


def test_rows_alone_move_to_another_database(tmp_path: Path, database_url: str) -> None:
    library = "/api/v1/media-resources"
    with running(tmp_path) as server, server.client() as client:
        client.post(f"{IMAGES}/a.png", files={"file": picture(1)}).raise_for_status()
        made = client.post(f"{library}/ingest", json={"storage_key": "compute/a.png"}).json()
        known = {"dominant_color": "#112233"}  # from here on nothing is computed
        made = client.patch(f"{library}/{made['id']}", json=known).json()
    before = facts(AllSettings.of_values(data_dir=tmp_path / "data"))
    new = settings_file(
        tmp_path / "new.env",
        STILLROOM_DATA_DIR=tmp_path / "data",
        STILLROOM_DATABASE_URL=database_url,
    )

    ran = migrate("--from", tmp_path / "data", "--to", new)

    assert (ran.status, ran.err) == (0, "")
    assert "1 resource: 1 new, 1 mark" in ran.out
    assert facts(AllSettings.of_values(data_dir=tmp_path / "data")) == before
    with running(tmp_path, database_url=database_url) as server, server.client() as client:
        assert client.get(f"{library}/{made['id']}").json() == made | {
            "url": f"{server.url}{library}/{made['id']}/file"
        }
