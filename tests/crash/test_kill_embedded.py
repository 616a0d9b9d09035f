"""SIGKILL of apps and plain processes with the store in them: what was acknowledged is there."""

import contextlib
import hashlib
import json
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from crash.rounds import kills
from crash.traffic import Digest, Traffic
from hosting import HERE, Host, hosted
from running import Server, running
from services.seaweedfs import bucket_variables
from stillroom.client import ImageStore
from stillroom.errors import ImageNotFound

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.mark.parametrize("mount", ["", "/compute"])
def test_nothing_acknowledged_is_lost_when_the_processes_of_an_app_are_killed(
    tmp_path: Path, mount: str
) -> None:
    start = partial(hosted, host=Host("uvicorn", 2, mount))
    rounds = list(kills(tmp_path, 20, seed=len(mount), start=start))

    assert [found for one in rounds for found in one.violations] == []
    assert len(rounds) == 20


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
        deadline = time.monotonic() + 120
        for name, process in self._running.items():
            while self._said(name).read_bytes().count(b'"etag"') < count:
                assert process.poll() is None, self._said(name).read_text()[-2000:]
                assert time.monotonic() < deadline
                time.sleep(0.01)  # a condition with a deadline

    def kill(self, name: str, traffic: Traffic) -> None:
        """SIGKILL, and note what it was promised and what was under way."""
        process = self._running.pop(name)
        process.kill()
        process.wait()
        for line in self._said(name).read_text().splitlines():
            with contextlib.suppress(json.JSONDecodeError):  # the last one may be cut off
                self._note(json.loads(line), traffic)

    def _note(self, said: dict[str, str], traffic: Traffic) -> None:
        if "kept" in said:
            self.kept[said["kept"]] = said["sha256"]
        elif "etag" in said:
            traffic.promised[said["path"]] = said["sha256"]
            traffic.etags[said["path"]] = said["etag"]
            traffic.attempted.pop(said["path"], None)
        else:
            traffic.attempted[said["path"]] = said["sha256"]

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
        try:
            actual: Digest = hashlib.sha256(store.read(path)).hexdigest()
        except ImageNotFound:
            actual = None
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
        for resource, sha256 in writers.kept.items():
            found = client.get(f"/api/v1/media-resources/{resource}").json()
            assert found["content_hash"] == sha256
            file = client.get(f"/api/v1/media-resources/{resource}/file")
            assert hashlib.sha256(file.content).hexdigest() == sha256
    assert "Traceback" not in server.logged()
