"""Rules of retention on two servers, with commands beside them: what the plan says goes, once."""

import json
import re
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
import sqlalchemy as sa

from command_line import ran
from pictures import picture
from running import IMAGES, STILLROOM, Server, running
from services.seaweedfs import bucket_variables
from stillroom.features.database.clock import now
from stillroom.features.database.config import PostgresConfig, RowsConfig, SqliteConfig
from stillroom.features.database.engine import migrating
from stillroom.features.library.rows.tables import deletions
from stillroom.paths import image_entry
from waiting import until

RUNS = "/api/v1/storage/runs"
RULES = """
[[rule]]
prefix = "tmp/"
expire_after = 1

[[rule]]
prefix = "tmp/best/"
keep = true

[[rule]]
prefix = "runs/"
keep_last_runs = 2
"""
STAY = {"b.png", "tmp/best/1.png", *(f"runs/{run}/{n}.png" for run in (4, 5) for n in range(3))}
GO = {f"tmp/{n}.png" for n in range(20)} | {
    f"runs/{run}/{n}.png" for run in range(4) for n in range(3)
}
CONTENT = {path: picture(number) for number, path in enumerate(sorted(GO | STAY))}


@pytest.fixture(params=["disk and SQLite", "bucket and PostgreSQL"])
def settings(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[dict[str, str]]:
    file = {"retention_file": str(tmp_path / "rules.toml"), "deletion_grace_seconds": "3600"}
    if "disk" in request.param:
        yield file
        return
    seaweed = request.getfixturevalue("seaweed")
    for name, value in bucket_variables(seaweed).items():
        monkeypatch.setenv(name, value)
    yield file | {"database_url": request.getfixturevalue("database_url")}
    seaweed.empty()


def command(server: Server, *words: str) -> str:
    done = subprocess.run(
        [STILLROOM, *words], env=server.environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def rows_of(server: Server) -> RowsConfig:
    url = server.environment.get("STILLROOM_DATABASE_URL")
    return PostgresConfig(url) if url else SqliteConfig(server.data / ".stillroom/library.db")


def marked(server: Server) -> set[str]:
    with migrating(rows_of(server)) as connection:
        return {
            image_entry(key.text) for key in connection.scalars(sa.select(deletions.c.storage_key))
        }


def make_due(server: Server) -> None:
    """As if the grace were over."""
    with migrating(rows_of(server)) as connection:
        connection.execute(sa.update(deletions).values(due_at=now() - timedelta(days=1)))


def fill(client: httpx.Client) -> None:
    for path, content in CONTENT.items():
        client.post(f"{IMAGES}/{path}", files={"file": content}).raise_for_status()
    for run in range(6):
        client.post(f"{RUNS}/runs/{run}/publish", json={"expected": 3}).raise_for_status()


@pytest.mark.whole
def test_two_servers_and_commands_at_once_delete_what_was_planned_and_each_image_once(
    settings: dict[str, str], tmp_path: Path
) -> None:
    rules, data = tmp_path / "rules.toml", tmp_path / "data"
    rules.write_text("")
    with running(tmp_path, data=data, sweep_interval_seconds="0", **settings) as server:
        with server.client() as client:
            fill(client)
        rules.write_text(RULES)

        def planned() -> set[str]:
            said = ran(tmp_path, ("retention", "plan", "--json"), server.environment)
            *images, _ = map(json.loads, said.out.splitlines())
            return {image["path"] for image in images}

        until(lambda: planned() == GO)  # the last one is a second old

    folders = [tmp_path / name for name in "ab"]
    for folder in folders:
        folder.mkdir()
    with (
        running(folders[0], data=data, sweep_interval_seconds="0.2", **settings) as first,
        running(folders[1], data=data, sweep_interval_seconds="0.2", **settings) as second,
        first.client() as client,
        ThreadPoolExecutor(2) as beside,
    ):
        remove = ("runs", "rm", "--yes", "--url", second.url, "runs/0")
        commands = [
            beside.submit(command, second, *remove),
            beside.submit(command, first, "media", "sweep"),
        ]
        for one in commands:
            one.result()
        until(lambda: marked(first) == GO)
        make_due(first)
        deleted = json.loads(command(first, "media", "sweep", "--json"))["deleted"]
        until(lambda: set(client.get(IMAGES).json()) == STAY)

        def nothing_is_marked() -> bool:
            make_due(first)  # a round marks again what it has listed before it went
            return marked(first) == set()

        until(nothing_is_marked)

        for path in STAY:
            assert client.get(f"{IMAGES}/{path}", follow_redirects=True).content == CONTENT[path]
        published = client.get(RUNS, params={"state": "published"}).json()
        assert [run["folder"] for run in published] == ["runs/4", "runs/5"]
        logged = first.logged() + second.logged()
    by_servers = re.findall(r"deleted 'compute/([^']*)'", logged)
    assert len(by_servers) == len(set(by_servers)), "an image was deleted twice"
    assert len(by_servers) + deleted == len(GO)
    assert "Traceback" not in logged
