"""SIGKILL between every two steps of an ingest: nothing is lost, nothing is forgotten."""

import contextlib
import hashlib
import itertools
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from contract.suite import RULES
from media.suite import Library, key
from pictures import picture
from running import STILLROOM
from services.seaweedfs import BUCKET, KEY_ID, SECRET, SeaweedFS
from stillroom.media.models import deletions, intents, resources
from stillroom.settings import Settings
from stillroom.storage.choose import open_storage

pytestmark = pytest.mark.slow

LAUNCHER = Path(__file__).parent / "ingest_until.py"


@dataclass
class Launcher:
    """Starts ingests that are killed at one of their points."""

    process: "subprocess.Popen[str]"
    points: int = -1

    def killed(self, number: int, path: str) -> bool:
        """Whether there was such a point; else the ingest has ended well."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{number} compute/{path}\n")
        self.process.stdin.flush()
        code, points = map(int, self.process.stdout.readline().split())
        assert code in (0, -signal.SIGKILL)
        self.points = points
        return code != 0


class Scene:
    """A library that other processes work on, and our own view of it."""

    def __init__(self, environment: dict[str, str], library: Library) -> None:
        self.environment = environment
        self.library = library

    @contextlib.contextmanager
    def launcher(self) -> "Iterator[Launcher]":
        with subprocess.Popen(
            [sys.executable, str(LAUNCHER)],
            env=self.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            yield Launcher(process)

    def start(self, *arguments: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [STILLROOM, "media", *arguments],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )


@pytest.fixture(params=["disk", "bucket"])
def storage_variables(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[dict[str, str]]:
    variables = {
        "STILLROOM_DATA_DIR": str(tmp_path / "data"),
        "STILLROOM_MIN_FREE_BYTES": "0",
        "STILLROOM_JWT_SECRET": "a secret of 32 bytes for tests only",
    }
    if request.param == "disk":
        yield variables
        return
    seaweed: SeaweedFS = request.getfixturevalue("seaweed")
    yield variables | {
        "R2_ENDPOINT_URL": seaweed.endpoint_url,
        "R2_ACCESS_KEY_ID": KEY_ID,
        "R2_SECRET_ACCESS_KEY": SECRET,
        "R2_BUCKET_NAME": BUCKET,
    }
    seaweed.empty()


@pytest.fixture(params=["sqlite", "postgresql"])
async def scene(
    request: pytest.FixtureRequest,
    storage_variables: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[Scene]:
    variables = dict(storage_variables)
    if request.param == "postgresql":
        variables["STILLROOM_DATABASE_URL"] = request.getfixturevalue("database_url")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    settings = Settings.read()
    storage = open_storage(settings.storage, RULES)
    library = Library(storage, settings.rows)
    yield Scene({**os.environ, **variables}, library)
    await library.database.close()
    await storage.close()


async def test_an_ingest_killed_anywhere_is_made_good_by_the_next_one(scene: Scene) -> None:
    library = scene.library
    await library.database.rows()
    with scene.launcher() as launcher:
        for number in itertools.count(1):
            path, data = f"{number}.png", picture(number)
            saved = await library.save(path, data)
            if not launcher.killed(number, path):
                break

            await library.check()
            assert await library.read(key(path)) == data
            if (key(path).text, saved.save_id) in library.marked():  # the copy is a resource's
                digest = hashlib.sha256(data).digest()
                assert digest in [row.content_hash for row in library.table(resources)]

            resource = await library.ingest(path)

            assert await library.read(resource.storage_key) == data
            assert (key(path).text, saved.save_id) in library.marked()
            assert len(library.table(resources)) == number
    await library.check()
    assert number == launcher.points + 1 > 15
    assert len(library.table(deletions)) == number


async def test_a_move_killed_anywhere_is_made_good_by_the_next_one(scene: Scene) -> None:
    library = scene.library
    await library.database.rows()
    with scene.launcher() as launcher:
        for number in itertools.count(1):
            path, data = f"{number}.png", picture(number)
            await library.save(path, data)
            recorded = await library.ingest(path, relocate=False)
            if not launcher.killed(number, path):
                break

            await library.check()
            assert await library.read(key(path)) == data
            moved = await library.ingest(path)
            assert moved.id == recorded.id
            assert await library.read(moved.storage_key) == data
    await library.check()
    assert number == launcher.points + 1 > 15
    assert library.table(intents) == []


async def test_processes_that_race_for_equal_bytes_get_one_resource(scene: Scene) -> None:
    library = scene.library
    paths = [f"{number}.png" for number in range(4)]
    for path in paths:
        await library.save(path, picture())

    running = [scene.start("ingest", f"compute/{path}") for path in paths]
    printed = [process.communicate(timeout=60) for process in running]

    assert [process.returncode for process in running] == [0] * 4, printed
    ids = {line.split()[0] for line, _ in printed}
    found: list[Any] = library.table(resources)
    assert ids == {str(row.id) for row in found}
    assert len(library.marked()) == 4
    await library.check()


async def test_processes_that_migrate_at_once_do_it_once(scene: Scene) -> None:
    running = [scene.start("migrate") for _ in range(4)]
    printed = [process.communicate(timeout=60) for process in running]

    assert [process.returncode for process in running] == [0] * 4, printed
    said = sorted(out.strip() for out, _ in printed)
    assert said == ["0001, up to date"] * 3 + ["none -> 0001"]
    assert scene.library.table(resources) == []


async def test_the_resource_of_a_command_is_printed_and_errors_end_with_status_1(
    scene: Scene,
) -> None:
    await scene.library.save("a.png", picture())

    process = scene.start("ingest", "compute/none.png", "compute/a.png", "a.png", "--keep")
    out, errors = process.communicate(timeout=60)

    (resource,) = scene.library.table(resources)
    assert process.returncode == 1
    assert out == f"{resource.id}  compute/a.png  compute/a.png\n"
    assert errors.splitlines() == [
        "stillroom: compute/none.png: no such image",
        "stillroom: a.png: must begin with `compute/`",
    ]
