"""docs/scaling.md, A compute server and a back end: both processes, with the page's settings."""

import contextlib
import os
import re
import sys
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx
import pytest
import sqlalchemy as sa

from acceptance.library import LIBRARY, ingest, save
from acceptance.pasting import ROOT
from core.apart import LIBRARIES
from pictures import picture
from running import IMAGES, STILLROOM, Server, free_port, wait_until_ready
from services.process import spawn
from services.s3 import Operator
from services.seaweedfs import BUCKET, SeaweedFS, bucket_variables
from stillroom.features.database.clock import now
from stillroom.features.database.config import PostgresConfig
from stillroom.features.database.engine import migrating
from stillroom.features.database.tables import scans
from stillroom.features.library.rows.tables import deletions
from stillroom.paths import StorageKey
from surroundings import inherited
from waiting import until, until_equal

pytestmark = pytest.mark.whole  # two services, each started twice

LETTERS: Final = "/api/v1/media-dead-letters"
MOVED: Final = [f"generations/1/{number}.png" for number in range(3)]
HERE: Final = "generations/1/here.png"
OLD: Final = [f"old/{number}.png" for number in range(4)]
EXPIRES_SOON: Final = {"STILLROOM_COMPUTE_TTL": "1s"}

_SERVE_WITHOUT_LIBRARIES: Final = f"""
import sys
sys.modules.update(dict.fromkeys({LIBRARIES}))  # importing them fails, as if they were not there
from stillroom.cli.main import main
main()
"""


def code(language: str) -> list[str]:
    """The code of the section."""
    page = (ROOT / "docs/scaling.md").read_text()
    section = page.partition("\n## A compute server and a back end\n")[2].partition("\n## ")[0]
    return re.findall(rf"^```{language}\n(.*?)^```", section, re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class Service:
    """One of the two, which can be started again."""

    folder: Path
    port: int
    command: Sequence[str]
    settings: dict[str, str]

    @property
    def log(self) -> Path:
        return self.folder / "service.log"

    @contextlib.contextmanager
    def running(self, **changes: str) -> Iterator[Server]:
        environment = {**inherited("R2_"), **self.settings, **changes}
        process = spawn(self.command, self.log, environment=environment, cwd=self.folder)
        data = self.folder / "stillroom-data"
        server = Server(process, data, self.port, self.log, environment, follows=True)
        try:
            wait_until_ready(server, "/openapi.json")
            yield server
        finally:
            if process.poll() is None:
                server.stop()


def service(folder: Path, block: str, command: Sequence[str], **values: str) -> Service:
    """A service with the settings of a block of the page, some with other values."""
    folder.mkdir()
    port = free_port()
    values |= {
        "STILLROOM_JWT_SECRET": os.urandom(32).hex(),
        "STILLROOM_PUBLIC_BASE_URL": f"http://127.0.0.1:{port}",
    }
    written = dict(line.split("=", 1) for line in block.splitlines())
    assert values.keys() <= written.keys()
    settings = written | values | {"STILLROOM_PORT": str(port), "STILLROOM_MIN_FREE_BYTES": "0"}
    return Service(folder, port, [part.format(port=port) for part in command], settings)


@dataclass(frozen=True)
class Both:
    compute: Service
    backend: Service
    rows: PostgresConfig

    @contextlib.contextmanager
    def running(self, **changes: str) -> Iterator[tuple[httpx.Client, httpx.Client]]:
        """Run both, the back end with these changes of its settings: a client of each."""
        with (
            self.compute.running() as compute,
            self.backend.running(**changes) as backend,
            compute.client() as of_compute,
            backend.client() as of_backend,
        ):
            yield of_compute, of_backend

    def marks(self, paths: Sequence[str]) -> list[uuid.UUID]:
        """Ids of the pending deletions of these images, as they are now."""
        keys = [StorageKey(f"compute/{path}") for path in paths]
        found = sa.select(deletions.c.id).where(deletions.c.storage_key.in_(keys))
        with migrating(self.rows) as connection:
            return [*connection.scalars(found)]

    def make_due(self, marks: Sequence[uuid.UUID]) -> None:
        change = sa.update(deletions).where(deletions.c.id.in_(marks)).values(due_at=now())
        with migrating(self.rows) as connection:
            assert connection.execute(change).rowcount == len(marks)

    def have_expired(self, paths: Sequence[str]) -> bool:
        """The scan is due again each time: one that runs meanwhile puts it off as it ends."""
        with migrating(self.rows) as connection:
            connection.execute(sa.update(scans).values(next_at=now()))
        log = self.backend.log.read_text()
        return all(f"'compute/{path}' will be deleted, because it has" in log for path in paths)

    def deletions(self) -> Counter[tuple[str, str]]:
        """Number of deletions by key and reason, as all processes of the back end logged them."""
        log = self.backend.log.read_text()
        return Counter(re.findall(r" deleted '([^']+)' \((\w+), due", log))


COMMANDS: Final = {
    "app": (sys.executable, "-m", "uvicorn", "compute_server:app", "--port", "{port}"),
    "serve": (sys.executable, "-c", _SERVE_WITHOUT_LIBRARIES, "serve"),
}
"""The compute server of the page, and `stillroom serve` with the extra `store` alone."""


@pytest.fixture(params=COMMANDS)
def both(
    request: pytest.FixtureRequest, tmp_path: Path, seaweed: SeaweedFS, database_url: str
) -> Iterator[Both]:
    bucket = bucket_variables(seaweed) | {"R2_PUBLIC_URL": f"{seaweed.endpoint_url}/{BUCKET}"}
    of_compute, of_backend = code("ini")
    of_bucket = "".join(re.findall(r"^R2_.*\n", of_compute, re.MULTILINE))
    compute = service(tmp_path / "compute", of_compute, COMMANDS[request.param], **bucket)
    (compute.folder / "compute_server.py").write_text(code("python")[0])
    command = (STILLROOM, "serve", "--workers", "2")
    rows = {"STILLROOM_DATABASE_URL": database_url}
    backend = service(tmp_path / "backend", of_bucket + of_backend, command, **bucket, **rows)
    backend.settings.update(
        STILLROOM_DELETION_GRACE_SECONDS="1", STILLROOM_SWEEP_INTERVAL_SECONDS="0.2"
    )
    yield Both(compute, backend, PostgresConfig(database_url))
    seaweed.empty()
    assert "Traceback" not in compute.log.read_text() + backend.log.read_text()


def test_a_back_end_keeps_finds_and_expires_what_a_compute_server_saves(
    both: Both, operator: Operator
) -> None:
    with both.running() as (compute, backend):
        bytes_of = {path: picture(seed) for seed, path in enumerate([*MOVED, HERE, *OLD])}
        for path, data in bytes_of.items():
            save(compute, path, data)
        assert_the_compute_server_has_no_library(compute, backend)
        moved = [ingest(backend, f"compute/{path}").json() for path in MOVED]
        here = ingest(backend, f"compute/{HERE}", relocate=False).json()
        assert listed(backend) == {found["id"] for found in [here, *moved]}

    with both.running(**EXPIRES_SOON) as (compute, backend):
        until_equal(lambda: operator.keys("compute/generations/"), [f"compute/{HERE}"])
        assert compute.get(f"{IMAGES}/{OLD[0]}").content == bytes_of[OLD[0]]
        until_equal(lambda: found_in(backend, "old/"), OLD)
        until(lambda: both.have_expired(OLD))
        marks = both.marks(OLD)
        save(compute, OLD[3], picture(99))  # in time
        both.make_due(marks)
        until_equal(lambda: compute.get(IMAGES, params={"prefix": "old/"}).json(), OLD[3:])
        until(lambda: f"kept 'compute/{OLD[3]}' (rule)" in both.backend.log.read_text())

        assert compute.delete(f"{IMAGES}/{OLD[3]}").status_code == 200
        assert backend.delete(f"{LIBRARY}/{moved[0]['id']}").status_code == 200
        kept = [found["storage_key"] for found in moved[1:]]
        until_equal(lambda: operator.keys("media/"), sorted(kept))
        assert operator.keys("compute/") == [f"compute/{HERE}"]
        assert listed(backend) == {found["id"] for found in [here, *moved[1:]]}
        for found, path in zip([*moved[1:], here], [*MOVED[1:], HERE], strict=True):
            file = backend.get(f"{LIBRARY}/{found['id']}/file")
            assert file.content == bytes_of[path]
        assert backend.get(LETTERS).json() == []

    assert both.deletions() == Counter(
        [
            *((f"compute/{path}", "relocated") for path in MOVED),
            *((f"compute/{path}", "rule") for path in OLD[:3]),
            (moved[0]["storage_key"], "deleted"),
        ]
    )


def assert_the_compute_server_has_no_library(compute: httpx.Client, backend: httpx.Client) -> None:
    """Not even a token with all permissions helps there, and it is none for the back end."""
    for path in (LIBRARY, LETTERS, "/api/v1/storage/search"):
        assert compute.get(path).json()["code"] == "feature_off"
    file, lifetime = {"file": picture()}, {"Expires-In": "1h"}
    refused = compute.post(f"{IMAGES}/a.png", files=file, headers=lifetime)
    assert (refused.status_code, refused.json()["code"]) == (501, "feature_off")
    for client, other in ((compute, backend), (backend, compute)):
        headers = {"authorization": other.headers["authorization"]}
        assert client.get(IMAGES, headers=headers).status_code == 401


def listed(backend: httpx.Client) -> set[str]:
    return {found["id"] for found in backend.get(LIBRARY).json()}


def found_in(backend: httpx.Client, prefix: str) -> list[str]:
    """The paths that a search finds, once there is an index."""
    query = {"prefix": prefix, "sort": "path"}
    answer = backend.get("/api/v1/storage/search", params=query)
    return [found["path"] for found in answer.json().get("items", [])]
