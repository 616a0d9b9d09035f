"""What the sweeper beside a server does, as its users see it."""

import contextlib
import json
import os
import re
import subprocess
import time
import uuid
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
import sqlalchemy as sa

from command_line import ran
from pictures import picture
from running import IMAGES, STILLROOM, Server, running
from services.seaweedfs import bucket_variables
from stillroom.features.database.clock import new_id, now
from stillroom.features.database.config import PostgresConfig, RowsConfig, SqliteConfig
from stillroom.features.database.engine import migrating
from stillroom.features.database.tables import scans
from stillroom.features.library.resource import DELETION
from stillroom.features.library.rows.tables import dead_letters, deletions
from stillroom.paths import StorageKey
from waiting import until

LIBRARY = "/api/v1/media-resources"
LETTERS = "/api/v1/media-dead-letters"


PAIRS = (
    "disk and SQLite",
    pytest.param("bucket and PostgreSQL", marks=pytest.mark.whole),
)


@contextlib.contextmanager
def sweeping(request: pytest.FixtureRequest, folder: Path) -> Iterator[Server]:
    """Two workers that sweep often and grant a second of grace."""
    url, variables = "", dict[str, str]()
    if "bucket" in request.param:
        variables = bucket_variables(request.getfixturevalue("seaweed"))
        url = request.getfixturevalue("postgres").make_database()
    with contextlib.ExitStack() as stack:
        with pytest.MonkeyPatch.context() as patch:
            for name, value in variables.items():
                patch.setenv(name, value)
            server = stack.enter_context(
                running(
                    folder,
                    "--workers",
                    "2",
                    deletion_grace_seconds="1",
                    sweep_interval_seconds="0.2",
                    database_url=url,
                )
            )
        yield server
    assert "Traceback" not in server.logged()
    if variables:
        request.getfixturevalue("seaweed").empty()


@pytest.fixture(scope="module", params=PAIRS)
def swept(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    with sweeping(request, tmp_path_factory.mktemp("sweeping")) as server:
        yield server


@pytest.fixture(params=PAIRS)
def stopped(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Server]:
    """One of the test's own, which it stops."""
    with sweeping(request, tmp_path) as server:
        yield server


def curl(server: Server, *arguments: str) -> str:
    authorized = ("-H", f"Authorization: Bearer {server.token()}")
    return subprocess.run(
        ["curl", "-fsS", *authorized, *arguments], check=True, capture_output=True, text=True
    ).stdout


@pytest.mark.parametrize("how", ["one call", "one command"])
def test_a_result_saved_by_curl_is_ingested_served_and_its_source_goes(
    swept: Server, tmp_path: Path, folder: str, how: str
) -> None:
    file = tmp_path / "a.png"
    file.write_bytes(picture(uuid.uuid4().int))
    curl(swept, "-F", f"file=@{file}", f"{swept.images}/{folder}/a.png")

    def ingest(key: str) -> str:
        if how == "one command":
            command = [STILLROOM, "media", "ingest", key]
            out = subprocess.run(command, check=True, capture_output=True, env=swept.environment)
            return out.stdout.decode().split()[0]
        body = f'{{"storage_key": "{key}"}}'
        url = f"{swept.url}{LIBRARY}/ingest"
        made = curl(swept, "-H", "Content-Type: application/json", "-d", body, url)
        return str(re.findall('"id":"([^"]*)"', made)[0])

    resource_id = ingest(f"compute/{folder}/a.png")

    with swept.client() as client:
        url = client.get(f"{LIBRARY}/{resource_id}").json()["url"]
        until(lambda: client.head(f"{IMAGES}/{folder}/a.png").status_code == 404)
        curl(swept, "-L", "-o", str(tmp_path / "back.png"), url)
        assert (tmp_path / "back.png").read_bytes() == file.read_bytes()
        curl(swept, "-F", f"file=@{file}", f"{swept.images}/{folder}/again.png")
        assert ingest(f"compute/{folder}/again.png") == resource_id
        until(lambda: client.head(f"{IMAGES}/{folder}/again.png").status_code == 404)
        assert client.delete(f"{LIBRARY}/{resource_id}").status_code == 200
        assert client.get(f"{LIBRARY}/{resource_id}/file").status_code == 404
    until(lambda: f"deleted 'media/{resource_id}/file.png' (deleted" in swept.logged())
    relocated = f"deleted 'compute/{folder}/a.png' .relocated"
    until(lambda: len(re.findall(relocated, swept.logged())) == 1)


def rows_of(server: Server) -> RowsConfig:
    url = server.environment.get("STILLROOM_DATABASE_URL")
    return PostgresConfig(url) if url else SqliteConfig(server.data / ".stillroom/library.db")


def bury(server: Server, path: str) -> str:
    dead_letter_id = new_id()
    with migrating(rows_of(server)) as connection:
        connection.execute(
            sa.insert(dead_letters).values(
                id=dead_letter_id,
                kind=DELETION,
                payload={
                    "storage_key": f"compute/{path}",
                    "save_id": "none",
                    "reason": "relocated",
                    "content_hash": None,
                },
                created_at=now() - timedelta(days=1),
                failed_at=now(),
                attempts=12,
                last_error="the bucket refuses this server",
            )
        )
    return str(dead_letter_id)


def test_dead_letters_are_listed_retried_and_dropped(swept: Server, folder: str) -> None:
    with swept.client() as client:
        until(lambda: client.get(LETTERS).status_code == 200)
        letters = [bury(swept, f"{folder}/{number}.png") for number in range(3)]

        first = client.get(LETTERS, params={"limit": "2"})
        assert [dead_letter["id"] for dead_letter in first.json()] == letters[:0:-1]
        assert first.json()[0]["last_error"] == "the bucket refuses this server"
        second = client.get(LETTERS + first.links["next"]["url"])
        assert [dead_letter["id"] for dead_letter in second.json()] == letters[:1]
        assert "next" not in second.links

        assert client.post(f"{LETTERS}/{letters[0]}/retry").json()["id"] == letters[0]
        assert client.delete(f"{LETTERS}/{letters[1]}").json()["id"] == letters[1]
        for url in (f"{LETTERS}/{letters[0]}/retry", f"{LETTERS}/{letters[1]}/retry"):
            answer = client.post(url)
            assert (answer.status_code, answer.json()["code"]) == (404, "dead_letter_not_found")
        assert [dead_letter["id"] for dead_letter in client.get(LETTERS).json()] == letters[2:]
        until(lambda: f"nothing to delete at 'compute/{folder}/0.png'" in swept.logged())
        client.delete(f"{LETTERS}/{letters[2]}").raise_for_status()


@pytest.mark.parametrize(
    ("options", "refused"),
    [
        (["--scope", "media"], False),
        (["--scope", "storage:delete", "--scope", "storage:write"], True),
        (["--scope", "media", "--prefix", "a"], True),
    ],
)
def test_dead_letters_take_the_scope_media_and_no_folder(
    server: Server, options: list[str], *, refused: bool
) -> None:
    one = f"{LETTERS}/{uuid.uuid4()}"
    calls = [("GET", LETTERS, 200), ("DELETE", one, 404), ("POST", f"{one}/retry", 404)]
    with server.client(*options) as client:
        for method, url, status in calls:
            answer = client.request(method, url)
            assert answer.status_code == (403 if refused else status), answer.text
    for method, url, _ in calls:
        assert httpx.request(method, f"{server.url}{url}").status_code == 401


def test_an_odd_dead_letter_is_refused(client: httpx.Client) -> None:
    assert client.delete(f"{LETTERS}/x").status_code == 422
    assert client.get(f"{LETTERS}?limit=0").status_code == 422
    assert client.get(f"{LETTERS}?start_after=x").status_code == 422
    for method, url, allowed in (
        ("POST", LETTERS, "GET"),
        ("GET", f"{LETTERS}/{uuid.uuid4()}", "DELETE"),
        ("GET", f"{LETTERS}/{uuid.uuid4()}/retry", "POST"),
    ):
        answer = client.request(method, url)
        assert (answer.status_code, answer.headers["allow"]) == (405, allowed)


def test_the_numbers_of_what_waits_are_shown(swept: Server) -> None:
    def shown(name: str) -> float:
        text = httpx.get(f"{swept.url}/metrics").text
        found = re.findall(rf"^stillroom_media_{name} (\S+)$", text, re.MULTILINE)
        return float(found[0]) if found else -1.0

    until(lambda: shown("measured_timestamp_seconds") > 0)
    until(lambda: shown("due") == shown("intents") == shown("dead_letters") == 0)
    buried = bury(swept, "x.png")
    until(lambda: shown("dead_letters") == 1)
    held = {"claimed_by": uuid.uuid4(), "lease_until": now() + timedelta(hours=1)}
    with migrating(rows_of(swept)) as connection:
        connection.execute(
            sa.insert(deletions).values(
                id=new_id(),
                storage_key=StorageKey("compute/x.png"),
                save_id="x",
                reason="relocated",
                created_at=now(),
                due_at=now() - timedelta(hours=2),
                **held,
            )
        )
    until(lambda: shown("due") == shown("marks") == 1)
    assert 7200 <= shown("oldest_due_seconds") < 7300
    with migrating(rows_of(swept)) as connection:
        connection.execute(sa.delete(deletions).where(deletions.c.save_id == "x"))
    with swept.client() as client:
        client.delete(f"{LETTERS}/{buried}").raise_for_status()


def test_without_an_interval_only_the_command_sweeps(tmp_path: Path) -> None:
    with (
        running(tmp_path, deletion_grace_seconds="0", sweep_interval_seconds="0") as server,
        server.client() as client,
    ):
        client.post(f"{IMAGES}/a.png", files={"file": picture()})
        client.post(f"{LIBRARY}/ingest", json={"storage_key": "compute/a.png"})
        time.sleep(0.5)  # nothing is to happen in it
        assert client.head(f"{IMAGES}/a.png").status_code == 200

        def said(*options: str) -> str:
            done = ran(tmp_path, ("media", "sweep", *options), server.environment)
            assert done.code == 0, done.err
            return done.out

        due = json.loads(said("--dry-run", "--json"))
        assert (due["reason"], due["storage_key"]) == ("relocated", "compute/a.png")
        assert said().startswith("deleted 1, already gone 0, kept 0, failed 0;")
        assert json.loads(said("--json"))["deleted"] == 0
        assert client.head(f"{IMAGES}/a.png").status_code == 404


def test_a_server_that_sweeps_stops_when_it_is_told(stopped: Server) -> None:
    with stopped.client() as client:
        for number in range(20):
            client.post(f"{IMAGES}/{number}.png", files={"file": picture(number)})
        items = [{"storage_key": f"compute/{number}.png"} for number in range(20)]
        client.post(f"{LIBRARY}/ingest", json={"items": items})
    until(lambda: "deleted 'compute/" in stopped.logged())

    assert stopped.stop() == 0


def test_orphans_on_the_command_line(tmp_path: Path) -> None:
    with (
        running(tmp_path, deletion_grace_seconds="0", sweep_interval_seconds="0") as server,
        server.client() as client,
    ):

        def orphans(*options: str) -> tuple[int, list[str], str]:
            done = ran(tmp_path, ("media", "orphans", *options), server.environment)
            return done.code, done.out.splitlines(), done.err

        for number in range(4):
            client.post(f"{IMAGES}/{number}.png", files={"file": picture(number)})
            client.post(f"{LIBRARY}/ingest", json={"storage_key": f"compute/{number}.png"})
        assert orphans()[:2] == (
            0,
            ["4 images, 4 resources: orphans 0, young 0, foreign 0, missing 0"],
        )
        left = server.data / f"media/{new_id()}/file.png"
        made = tmp_path / "made"  # an empty folder of the store may be removed at any time
        made.mkdir()
        (made / left.name).write_bytes(picture())
        os.utime(made / left.name, (time.time() - 7200,) * 2)
        made.rename(left.parent)
        key = str(left.relative_to(server.data))

        assert orphans()[:2] == (
            1,
            [f"orphan  {key}", "5 images, 4 resources: orphans 1, young 0, foreign 0, missing 0"],
        )
        status, _, said = orphans("--delete")
        assert status == 2
        assert "1 of 5 images are orphans, 20 %" in said
        assert left.exists()

        status, out, _ = orphans("--delete", "--most-percent", "20")
        assert (status, out[0]) == (0, f"orphan  {key}")
        assert not left.exists()
        (server.data / "media" / client.get(LIBRARY).json()[0]["id"] / "file.png").unlink()
        status, out, _ = orphans()
        assert (status, out[0][:15]) == (1, "missing  media/")
        status, out, _ = orphans("--json")
        mismatch, counts = map(json.loads, out)
        assert (status, mismatch["kind"], mismatch["storage_key"][:6]) == (1, "missing", "media/")
        assert (counts["objects"], counts["missing"], counts["orphans"]) == (3, 1, 0)


def test_by_default_nothing_expires(client: httpx.Client, server: Server, folder: str) -> None:
    client.post(f"{IMAGES}/{folder}/a.png", files={"file": picture()})
    file = server.data / f"compute/{folder}/a.png"
    os.utime(file, (0, 0))

    assert ran(server.data, ("media", "sweep"), server.environment).code == 0

    assert file.exists()


def test_compute_results_expire_where_that_is_asked_for(tmp_path: Path) -> None:
    with (
        running(tmp_path, compute_ttl="1h", sweep_interval_seconds="0.2") as server,
        server.client() as client,
    ):
        for name in ("old.png", "young.png"):
            client.post(f"{IMAGES}/{name}", files={"file": picture()})
        until(lambda: "media library: schema migrated to 0" in server.logged())
        os.utime(server.data / "compute/old.png", (0, 0))
        until(lambda: expired_by_now(server, "compute/old.png"))
        with migrating(rows_of(server)) as connection:
            connection.execute(sa.update(deletions).values(due_at=now()))
        until(lambda: client.head(f"{IMAGES}/old.png").status_code == 404)
        assert client.head(f"{IMAGES}/young.png").status_code == 200


@pytest.mark.parametrize("value", ["30", "0d", "-1d", "1y", "yes", "1.5h", "999999d"])
def test_a_ttl_that_is_none_stops_the_start(tmp_path: Path, value: str) -> None:
    variables = {"STILLROOM_DATA_DIR": str(tmp_path), "STILLROOM_COMPUTE_TTL": value}
    refused = ran(tmp_path, ("serve",), variables)

    assert refused.code == 2
    assert "STILLROOM_COMPUTE_TTL must be `off`, or a duration such as" in refused.err


def expired_by_now(server: Server, key: str) -> bool:
    """The scan is due again each time: one that runs meanwhile puts it off as it ends."""
    with migrating(rows_of(server)) as connection:
        connection.execute(sa.update(scans).values(next_at=now()))
    return f"'{key}' will be deleted, because it has expired" in server.logged()
