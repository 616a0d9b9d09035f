"""The scripts of docs/backup.md, run as they stand there: under load, then a loss, then a count."""

import hashlib
import itertools
import json
import os
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import httpx
import pytest

from pictures import picture
from running import IMAGES, STILLROOM, Server, running
from services.postgres import PostgreSQL
from services.seaweedfs import BUCKET, KEY_ID, SECRET, SeaweedFS
from waiting import until

pytestmark = [pytest.mark.slow]

ROOT = Path(__file__).parents[2]
LIBRARY = f"{IMAGES.removesuffix('storage/images')}media-resources"


@dataclass
class Ingesting:
    """Clients that save, ingest, replace and delete, and remember what was acknowledged."""

    server: Server
    clients: int = 3
    images: dict[str, str] = field(default_factory=dict)
    """SHA-256 of what each path holds; a path is one client's, and never touched again by it."""
    resources: dict[str, str] = field(default_factory=dict)
    """The same of each resource, by its id."""
    broken: list[str] = field(default_factory=list)

    def __enter__(self) -> Self:
        self._stopped = threading.Event()
        self.server.token()
        self._threads = [
            threading.Thread(target=self._run, args=(number,)) for number in range(self.clients)
        ]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        for thread in self._threads:
            thread.join()

    def wait_for(self, count: int) -> None:
        """Until so many more resources than there are now were acknowledged."""
        enough = len(self.resources) + count
        until(
            lambda: len(self.resources) >= enough,
            as_long_as=lambda: any(thread.is_alive() for thread in self._threads),
            said=lambda: (self.broken, self.server.logged()),
        )  # fmt: skip

    def _run(self, number: int) -> None:
        with self.server.client() as client:
            for turn in itertools.count():
                if self._stopped.is_set():
                    return
                try:
                    self._act(client, f"{number}/{turn % 7}/ü {turn}.png", number * 10**6 + turn)
                except httpx.HTTPError as error:
                    self.broken.append(str(error))
                    return

    def _act(self, client: httpx.Client, path: str, seed: int) -> None:
        first, image = picture(-seed - 1), picture(seed, size=(24 + seed % 200, 100))
        url = f"{IMAGES}/{path}"
        if seed % 3 == 0:
            client.post(url, files={"file": first}).raise_for_status()
        digest = client.post(url, files={"file": image}).raise_for_status().json()["sha256"]
        self.images[path] = digest
        if seed % 2:
            wanted = {"storage_key": f"compute/{path}", "relocate": seed % 5 != 0}
            answer = client.post(f"{LIBRARY}/ingest", json=wanted).raise_for_status().json()
            self.resources[answer["id"]] = answer["content_hash"]
        passing = f"{IMAGES}/{path}.passing"
        client.post(passing, files={"file": first}).raise_for_status()
        client.delete(passing).raise_for_status()


def missing(server: Server, images: dict[str, str], resources: dict[str, str]) -> list[str]:
    """What is not as it was acknowledged."""
    found = []
    with server.client() as client:
        for path, digest in images.items():
            answer = client.get(f"{IMAGES}/{path}", follow_redirects=True)
            if answer.status_code != 200 or hashlib.sha256(answer.content).hexdigest() != digest:
                found.append(f"{path}: {answer.status_code}")
        for resource, digest in resources.items():
            row = client.get(f"{LIBRARY}/{resource}")
            answer = client.get(f"{LIBRARY}/{resource}/file", follow_redirects=True)
            if row.status_code != 200 or row.json()["content_hash"] != digest:
                found.append(f"{resource}: {row.status_code}, {row.text}")
            if hashlib.sha256(answer.content).hexdigest() != digest:
                found.append(f"{resource}: its file is {answer.status_code}")
    return found


def object_of(client: httpx.Client, path: str) -> httpx.Headers:
    """What the bucket itself says of an image."""
    return httpx.get(client.get(f"{IMAGES}/{path}").headers["location"]).headers


def scripts() -> Iterator[str]:
    """The page's: backup and restore of a disk, then of a bucket, then the checks behind each."""
    text = (ROOT / "docs/backup.md").read_text()
    yield from re.findall(r"^```sh\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def run(script: str, environment: dict[str, str]) -> str:
    path = f"{Path(STILLROOM).parent}:{environment['PATH']}"
    ran = subprocess.run(
        ["bash", "-eu", "-c", script],
        env={**environment, "PATH": path},
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


def check(environment: dict[str, str]) -> None:
    """What the page says to do after a restore finds nothing that is missing."""
    checks = list(scripts())[4]
    verify, orphans, doctor = checks.splitlines()
    report = json.loads(run(f"{verify} --json", environment))
    assert (report["problems"], report["counts"]) == (0, {})  # not one without its hash
    assert report["images"] > 40
    said = run(f"{orphans} || [ $? = 1 ]", environment)
    assert "foreign 0, missing 0" in said
    assert "WRONG" not in run(doctor, environment)


def test_a_disk_and_sqlite_are_restored_from_a_backup_made_under_load(tmp_path: Path) -> None:
    for program in ("sqlite3", "rsync"):
        assert shutil.which(program), f"{program} is missing: apt-get install {program}"
    backup, restore, *_ = scripts()
    with running(tmp_path, "--workers", "2") as server, Ingesting(server) as load:
        environment = {
            **server.environment,
            "DATA": str(server.data),
            "BACKUP": str(tmp_path / "backup"),
        }
        load.wait_for(10)
        run(f"umask 022; {backup}", environment)  # the first copies all
        load.wait_for(15)
        images, resources = dict(load.images), dict(load.resources)
        run(backup, environment)  # and each later one what has changed
        load.wait_for(5)
        minted = server.minted
    assert load.broken == []

    saved = tmp_path / "backup" / ".stillroom"
    assert {file.stat().st_mode & 0o077 for file in (saved, *saved.iterdir())} == {0}
    assert "is not empty" in run(f"! ({restore}) 2>&1", environment)
    shutil.rmtree(server.data)
    owner = 65_534 if os.geteuid() == 0 else os.geteuid()  # root restores for the server's user
    run(f"umask 022; {restore}", {**environment, "OWNER": f"{owner}:{owner}"})
    assert {file.stat().st_uid for file in (server.data, *server.data.rglob("*"))} == {owner}
    check(environment)
    with running(tmp_path) as server:
        server.minted = minted  # the secret is in the copy, so tokens stay good
        assert missing(server, images, resources) == []
    assert len(images) > 50
    assert len(resources) > 25


def test_a_bucket_and_postgresql_are_restored_from_a_backup_made_under_load(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    seaweed: SeaweedFS,
    postgres: PostgreSQL,
    database_url: str,
) -> None:
    assert shutil.which("rclone"), "rclone is missing: apt-get install rclone"
    _, _, backup, restore, _ = scripts()
    for name, value in {
        "PATH": f"{postgres.binaries}:{os.environ['PATH']}",
        "R2_ENDPOINT_URL": seaweed.endpoint_url,
        "R2_ACCESS_KEY_ID": KEY_ID,
        "R2_SECRET_ACCESS_KEY": SECRET,
        "R2_BUCKET_NAME": BUCKET,
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("AWS_CA_BUNDLE", raising=False)  # rclone 1.60 stumbles over it
    jwt_secret = "a secret of 32 bytes for tests only"
    with (
        running(
            tmp_path, "--workers", "2", database_url=database_url, jwt_secret=jwt_secret
        ) as server,
        Ingesting(server) as load,
    ):
        environment = {**server.environment, "BACKUP": str(tmp_path / "backup")}
        load.wait_for(10)
        run(backup, environment)
        load.wait_for(20)
        images, resources = dict(load.images), dict(load.resources)
        run(backup, environment)
        load.wait_for(5)
        with server.client() as client:
            before = object_of(client, next(iter(images)))
    assert load.broken == []

    seaweed.empty()
    postgres.drop_database(database_url)
    postgres.make_database(database_url.rpartition("/")[2])
    run(restore, environment)
    check(environment)
    with (
        running(tmp_path, database_url=database_url, jwt_secret=jwt_secret) as server,
        server.client() as client,
    ):
        assert missing(server, images, resources) == []
        after = object_of(client, next(iter(images)))
    for name in ("content-type", "cache-control", "x-amz-meta-sha256", "x-amz-meta-save-id"):
        assert after[name] == before[name]
    assert len(images) > 50
    assert len(resources) > 25
    seaweed.empty()
