"""SIGKILL of apps and plain processes with the store in them: what was acknowledged is there."""

import contextlib
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import httpx
import pytest

from crash.rounds import kills
from crash.traffic import Digest, Traffic
from hosting import HERE, Host, hosted
from running import Server, is_gone, running
from services.seaweedfs import bucket_variables
from stillroom.client import ImageStore
from stillroom.client.errors import UnexpectedAnswer
from stillroom.errors import ImageNotFound
from waiting import until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]  # hundreds of processes are started


@pytest.mark.parametrize("mount", ["", "/compute"])
def test_nothing_acknowledged_is_lost_when_the_processes_of_an_app_are_killed(
    tmp_path: Path, mount: str
) -> None:
    start = partial(hosted, host=Host("uvicorn", 2, mount))
    rounds = list(kills(tmp_path, 20, seed=len(mount), start=start))

    assert [found for one in rounds for found in one.violations] == []
    assert len(rounds) == 20


def note(said: Path, traffic: Traffic, kept: dict[str, str]) -> None:
    """What processes were promised, and what was under way, by what they have said of it."""
    for line in said.read_text().splitlines():
        with contextlib.suppress(json.JSONDecodeError):  # the last one may be cut off
            one = json.loads(line)
            if "kept" in one:
                kept[one["kept"]] = one["sha256"]
            elif "etag" in one:
                traffic.promised[one["path"]] = one["sha256"]
                traffic.etags[one["path"]] = one["etag"]
                traffic.attempted.pop(one["path"], None)
            else:
                traffic.attempted[one["path"]] = one["sha256"]


class Writers:
    """Plain processes on the data directory of a server."""

    def __init__(self, server: Server, seed: int) -> None:
        self._environment = {**server.environment, "PYTHONPATH": str(HERE)}
        self._seed = seed
        self._folder = server.log.parent
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self.kept: dict[str, str] = {}
        self._names = iter(range(1_000_000))

    def start(self) -> None:
        name = f"w{next(self._names)}"
        with self._said(name).open("wb") as stream:
            self._running[name] = subprocess.Popen(
                [sys.executable, "-m", "crash.local_writer", str(self._seed), name],
                env=self._environment,
                cwd=HERE,
                stdout=stream,
                stderr=subprocess.STDOUT,
            )

    def _said(self, name: str) -> Path:
        return self._folder / f"{name}.said"

    def wait_until_each_has_promised(self, count: int) -> None:
        for name, process in self._running.items():
            said = self._said(name).read_text
            until(
                lambda: said().count('"etag"') >= count,  # noqa: B023  (at once)
                by=process,
                said=said,
            )

    def kill(self, name: str, traffic: Traffic) -> None:
        """SIGKILL, and note what it was promised and what was under way."""
        process = self._running.pop(name)
        process.kill()
        process.wait()
        note(self._said(name), traffic, self.kept)

    @property
    def names(self) -> list[str]:
        return list(self._running)


@pytest.fixture(params=["disk", "bucket"])
def server(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Server]:
    variables: dict[str, str] = {}
    if request.param == "bucket":
        variables = bucket_variables(request.getfixturevalue("seaweed"))
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with running(
        tmp_path,
        "--workers",
        "2",
        deletion_grace_seconds="0",
        sweep_interval_seconds="0.2",
    ) as server:
        server.follows = bool(variables)
        yield server
    if variables:
        request.getfixturevalue("seaweed").empty()


def broken_promises(store: ImageStore, traffic: Traffic) -> list[str]:
    """Every path whose bytes are neither those promised nor those under way."""
    found = []
    for path in sorted(traffic.promised.keys() | traffic.attempted.keys()):
        actual: Digest = None
        try:
            actual = hashlib.sha256(store.read(path)).hexdigest()
        except ImageNotFound:
            pass
        except UnexpectedAnswer:  # the bucket has ended a killed process's deletion meanwhile
            until(lambda: not store.exists(path))  # noqa: B023  (at once)
        promised = traffic.promised.get(path)
        if actual not in (promised, traffic.attempted.get(path, promised)):
            found.append(f"{path}: {actual} instead of {promised}")
    return found


def test_plain_processes_die_beside_a_server_and_nothing_acknowledged_is_lost(
    server: Server,
) -> None:
    chance, seed = random.Random(1), 1
    of_writers, traffic = Traffic(server, seed), Traffic(server, seed=2, clients=2)
    writers = Writers(server, seed)
    if not server.follows:  # a bucket's answers have no hashes to compare
        traffic.start()
    for _ in range(2):
        writers.start()
    for _ in range(10):
        writers.wait_until_each_has_promised(5)
        time.sleep(chance.uniform(0, 0.2))  # the moment is the experiment
        writers.kill(chance.choice(writers.names), of_writers)
        writers.start()
    for name in writers.names:
        writers.kill(name, of_writers)
    if not server.follows:
        traffic.join()

    with server.client() as client, ImageStore(server.url, server.token()) as store:
        assert broken_promises(store, of_writers) == []
        assert server.follows or of_writers.violations(client) + traffic.violations(client) == []
        assert len(of_writers.promised) > 10
        assert writers.kept
        assert lost_of_the_library(client, writers.kept) == []
    assert "Traceback" not in server.logged()


def lost_of_the_library(client: httpx.Client, kept: dict[str, str]) -> list[str]:
    """Every resource that is not what was acknowledged."""
    lost = []
    for resource, sha256 in kept.items():
        url = f"/api/v1/media-resources/{resource}"
        found, file = client.get(url), client.get(f"{url}/file")
        if (found.json().get("content_hash"), hashlib.sha256(file.content).hexdigest()) != (
            sha256,
            sha256,
        ):
            lost.append(f"{resource}: {found.text}")
    return lost


TASKS = """
import hashlib, json, os, random

from celery import Celery

from pictures import picture
from stillroom.local import open_store

celery = Celery("tasks", broker="filesystem://")
celery.conf.broker_transport_options = {"data_folder_in": "queue", "data_folder_out": "queue"}
store = open_store()
SAID = os.open("said", os.O_WRONLY | os.O_APPEND | os.O_CREAT)


def say(**said):
    os.write(SAID, json.dumps(said).encode() + b"\\n")


@celery.task(acks_late=True)
def generate(number):
    for at in range(2):
        path, data = f"celery/{number}/{at}.bin", random.Random(number).randbytes(50_000 + at)
        sha256 = hashlib.sha256(data).hexdigest()
        say(path=path, sha256=sha256)
        saved = store.save(path, data)
        say(path=path, sha256=saved.sha256 or sha256, etag=saved.etag)
    if number % 4 == 0:
        store.save(f"kept/{number}.png", picture(number))
        kept = store.media.ingest_from_storage_key(f"compute/kept/{number}.png", relocate=True)
        say(kept=str(kept.id), sha256=kept.content_hash.hex())
"""
ORDERS = 150


class CeleryWorkers:
    """Celery's own worker, and the orders that it works through."""

    def __init__(self, server: Server, folder: Path) -> None:
        (folder / "queue").mkdir()
        (folder / "tasks.py").write_text(TASKS)
        self.said = folder / "said"
        self.said.touch()
        self._folder = folder
        self._environment = {**server.environment, "PYTHONPATH": str(HERE)}

    def order(self) -> None:
        code = f"import tasks; [tasks.generate.delay(number) for number in range({ORDERS})]"
        command = [sys.executable, "-c", code]
        subprocess.run(command, cwd=self._folder, env=self._environment, check=True)

    @property
    def acknowledged(self) -> int:
        return self.said.read_bytes().count(b'"etag"')

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """A worker with two processes; all of them are killed at once."""
        celery = str(Path(sys.executable).parent / "celery")
        with (self._folder / "worker.log").open("ab") as log:
            worker = subprocess.Popen(
                [celery, "--app", "tasks", "worker", "--concurrency", "2"],
                cwd=self._folder,
                env=self._environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            yield
        finally:
            pids = group_of(worker.pid)
            os.killpg(worker.pid, signal.SIGKILL)
            worker.wait()
            until(lambda: all(is_gone(pid) for pid in pids))

    def logged(self) -> str:
        return (self._folder / "worker.log").read_text()


def group_of(leader: int) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
            if int(fields[2]) == leader:
                found.append(int(entry.name))
    return found


def test_celerys_own_worker_dies_and_nothing_acknowledged_is_lost(
    server: Server, tmp_path: Path
) -> None:
    chance, folder = random.Random(3), tmp_path / "celery"
    folder.mkdir()
    workers = CeleryWorkers(server, folder)
    workers.order()
    for round_ in range(1, 4):
        with workers.running():
            until(lambda enough=20 * round_: workers.acknowledged > enough)  # type: ignore[misc]  # a default binds it
            time.sleep(chance.uniform(0, 0.2))  # the moment is the experiment

    promised, kept = Traffic(server, seed=3), dict[str, str]()
    note(workers.said, promised, kept)
    with server.client() as client, ImageStore(server.url, server.token()) as store:
        assert broken_promises(store, promised) == []
        assert kept
        assert lost_of_the_library(client, kept) == []
        # What a killed worker had taken from the queue is ordered again, as one does.
        workers.order()
        with workers.running():
            until(lambda: all_are_there(store))
    assert "Traceback" not in server.logged() + workers.logged()


def all_are_there(store: ImageStore) -> bool:
    expected = {f"celery/{number}/{at}.bin" for number in range(ORDERS) for at in range(2)}
    return set(store.iter("celery/")) == expected
