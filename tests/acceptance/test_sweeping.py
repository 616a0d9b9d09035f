"""What the sweeper beside a server does, as its users see it."""

import os
import re
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
import sqlalchemy as sa

from pictures import picture
from running import IMAGES, STILLROOM, Server, running
from services.seaweedfs import BUCKET, KEY_ID, SECRET, SeaweedFS
from stillroom.media.config import PostgresConfig, RowsConfig, SqliteConfig
from stillroom.media.resource import new_id, now
from stillroom.media.rows.engine import migrating
from stillroom.media.rows.tables import dead_letters, deletions, scans
from stillroom.paths import StorageKey

LIBRARY = "/api/v1/media-resources"
LETTERS = "/api/v1/media-dead-letters"


def until(condition: Callable[[], bool]) -> None:
    while not condition():
        time.sleep(0.05)  # a condition: the test's time-out ends it


@pytest.fixture(params=["disk and SQLite", "bucket and PostgreSQL"])
def swept(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Server]:
    """Two workers that sweep often and grant a second of grace."""
    url = ""
    bucket: SeaweedFS | None = None
    if "bucket" in request.param:
        bucket = request.getfixturevalue("seaweed")
        url = request.getfixturevalue("database_url")
        for name, value in {
            "R2_ENDPOINT_URL": bucket.endpoint_url,
            "R2_ACCESS_KEY_ID": KEY_ID,
            "R2_SECRET_ACCESS_KEY": SECRET,
            "R2_BUCKET_NAME": BUCKET,
        }.items():
            monkeypatch.setenv(name, value)
    with running(
        tmp_path,
        "--workers",
        "2",
        deletion_grace_seconds="1",
        sweep_interval_seconds="0.2",
        database_url=url,
    ) as server:
        yield server
    assert "Traceback" not in server.logged()
    if bucket is not None:
        bucket.empty()


def curl(server: Server, *arguments: str) -> str:
    authorized = ("-H", f"Authorization: Bearer {server.token()}")
    return subprocess.run(
        ["curl", "-fsS", *authorized, *arguments], check=True, capture_output=True, text=True
    ).stdout


@pytest.mark.parametrize("how", ["one call", "one command"])
def test_a_result_saved_by_curl_is_ingested_served_and_its_source_goes(
    swept: Server, tmp_path: Path, how: str
) -> None:
    file = tmp_path / "a.png"
    file.write_bytes(picture(uuid.uuid4().int))
    curl(swept, "-F", f"file=@{file}", f"{swept.images}/run/a.png")

    def ingest(key: str) -> str:
        if how == "one command":
            ran = [STILLROOM, "media", "ingest", key]
            out = subprocess.run(ran, check=True, capture_output=True, env=swept.environment)
            return out.stdout.decode().split()[0]
        body = f'{{"storage_key": "{key}"}}'
        url = f"{swept.url}{LIBRARY}/ingest"
        made = curl(swept, "-H", "Content-Type: application/json", "-d", body, url)
        return str(re.findall('"id":"([^"]*)"', made)[0])

    resource_id = ingest("compute/run/a.png")

    with swept.client() as client:
        url = client.get(f"{LIBRARY}/{resource_id}").json()["url"]
        until(lambda: client.head(f"{IMAGES}/run/a.png").status_code == 404)
        curl(swept, "-L", "-o", str(tmp_path / "back.png"), url)
        assert (tmp_path / "back.png").read_bytes() == file.read_bytes()
        curl(swept, "-F", f"file=@{file}", f"{swept.images}/run/again.png")
        assert ingest("compute/run/again.png") == resource_id
        until(lambda: client.head(f"{IMAGES}/run/again.png").status_code == 404)
        assert client.delete(f"{LIBRARY}/{resource_id}").status_code == 200
        assert client.get(f"{LIBRARY}/{resource_id}/file").status_code == 404
    until(lambda: f"deleted 'media/{resource_id}/file.png' (deleted" in swept.logged())
    assert len(re.findall("deleted 'compute/run/a.png' .relocated", swept.logged())) == 1


def rows_of(server: Server) -> RowsConfig:
    url = server.environment.get("STILLROOM_DATABASE_URL")
    return PostgresConfig(url) if url else SqliteConfig(server.data / ".stillroom/library.db")


def bury(server: Server, path: str) -> str:
    dead_letter_id = new_id()
    with migrating(rows_of(server)) as connection:
        connection.execute(
            sa.insert(dead_letters).values(
                id=dead_letter_id,
                storage_key=StorageKey(f"compute/{path}"),
                save_id="none",
                reason="relocated",
                created_at=now() - timedelta(days=1),
                failed_at=now(),
                attempts=12,
                last_error="the bucket refuses this server",
            )
        )
    return str(dead_letter_id)


def test_dead_letters_are_listed_retried_and_dropped(swept: Server) -> None:
    with swept.client() as client:
        until(lambda: client.get(LETTERS).status_code == 200)
        letters = [bury(swept, f"{number}.png") for number in range(3)]

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
        until(lambda: "dropped the mark of 'compute/0.png'" in swept.logged())


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
    assert shown("due") == shown("intents") == shown("dead_letters") == 0
    bury(swept, "x.png")
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


def test_without_an_interval_only_the_command_sweeps(tmp_path: Path) -> None:
    with (
        running(tmp_path, deletion_grace_seconds="0", sweep_interval_seconds="0") as server,
        server.client() as client,
    ):
        client.post(f"{IMAGES}/a.png", files={"file": picture()})
        client.post(f"{LIBRARY}/ingest", json={"storage_key": "compute/a.png"})
        time.sleep(0.5)  # nothing is to happen in it
        assert client.head(f"{IMAGES}/a.png").status_code == 200

        ran = [STILLROOM, "media", "sweep"]
        out = subprocess.run(ran, check=True, capture_output=True, env=server.environment)

        assert out.stdout.startswith(b"deleted 1, were gone 0, kept 0, failed 0;")
        assert client.head(f"{IMAGES}/a.png").status_code == 404


def test_a_server_that_sweeps_stops_at_once(swept: Server) -> None:
    with swept.client() as client:
        for number in range(20):
            client.post(f"{IMAGES}/{number}.png", files={"file": picture(number)})
        items = [{"storage_key": f"compute/{number}.png"} for number in range(20)]
        client.post(f"{LIBRARY}/ingest", json={"items": items})
    until(lambda: "deleted 'compute/" in swept.logged())

    began = time.monotonic()
    assert swept.stop() == 0
    assert time.monotonic() - began < 20  # the bound is five seconds; the machine may be busy


def test_orphans_at_the_prompt(tmp_path: Path) -> None:
    with (
        running(tmp_path, deletion_grace_seconds="0", sweep_interval_seconds="0") as server,
        server.client() as client,
    ):

        def orphans(*options: str) -> tuple[int, list[str], str]:
            ran = subprocess.run(
                [STILLROOM, "media", "orphans", *options],
                check=False,
                capture_output=True,
                text=True,
                env=server.environment,
            )
            return ran.returncode, ran.stdout.splitlines(), ran.stderr

        for number in range(4):
            client.post(f"{IMAGES}/{number}.png", files={"file": picture(number)})
            client.post(f"{LIBRARY}/ingest", json={"storage_key": f"compute/{number}.png"})
        assert orphans()[:2] == (
            0,
            ["4 images, 4 resources: orphans 0, young 0, foreign 0, missing 0"],
        )
        left = server.data / f"media/{new_id()}/file.png"
        left.parent.mkdir()
        left.write_bytes(picture())
        os.utime(left, (time.time() - 7200,) * 2)
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


def test_by_default_nothing_expires(client: httpx.Client, server: Server, folder: str) -> None:
    client.post(f"{IMAGES}/{folder}/a.png", files={"file": picture()})
    file = server.data / f"compute/{folder}/a.png"
    os.utime(file, (0, 0))

    ran = [STILLROOM, "media", "sweep"]
    subprocess.run(ran, check=True, capture_output=True, env=server.environment)

    assert file.exists()


def test_compute_results_expire_where_that_is_asked_for(tmp_path: Path) -> None:
    with (
        running(tmp_path, compute_ttl="1h", sweep_interval_seconds="0.2") as server,
        server.client() as client,
    ):
        for name in ("old.png", "young.png"):
            client.post(f"{IMAGES}/{name}", files={"file": picture()})
        until(lambda: "media library's tables were brought" in server.logged())
        os.utime(server.data / "compute/old.png", (0, 0))
        let_it_be_time(rows_of(server))
        until(lambda: "marked 'compute/old.png': it has expired" in server.logged())
        with migrating(rows_of(server)) as connection:
            connection.execute(sa.update(deletions).values(due_at=now()))
        until(lambda: client.head(f"{IMAGES}/old.png").status_code == 404)
        assert client.head(f"{IMAGES}/young.png").status_code == 200


@pytest.mark.parametrize("value", ["30", "0d", "-1d", "1y", "yes", "1.5h", "999999d"])
def test_a_ttl_that_is_none_stops_the_start(tmp_path: Path, value: str) -> None:
    environment = {
        **os.environ,
        "STILLROOM_DATA_DIR": str(tmp_path),
        "STILLROOM_COMPUTE_TTL": value,
    }
    ran = subprocess.run(
        [STILLROOM, "serve"], check=False, capture_output=True, text=True, env=environment
    )

    assert ran.returncode == 2
    assert "STILLROOM_COMPUTE_TTL: Value error, must be a duration such as" in ran.stderr


def let_it_be_time(config: RowsConfig) -> None:
    with migrating(config) as connection:
        connection.execute(sa.update(scans).values(next_at=now()))
