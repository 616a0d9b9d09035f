"""Shared by all tests."""

import ctypes
import gc
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from hypothesis import settings

from services.postgres import PostgreSQL, postgresql
from services.s3 import Operator
from services.seaweedfs import SeaweedFS, seaweedfs

WHOLE: Final = ("browser", "cluster", "crash", "deploy", "proxy", "release")
"""Folders of tests that are left to `make test-all`."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if item.path.relative_to(here).parts[0] in WHOLE:
            item.add_marker(pytest.mark.whole)


# What a test has done with large bodies is not kept for all the others of its process: a block
# above 1 MiB goes back when it is freed (glibc would raise that bound with the first one that is
# larger, https://man7.org/linux/man-pages/man3/mallopt.3.html), and cycles that hold bodies are
# looked for when there are many.
_libc = ctypes.CDLL(None)
_M_MMAP_THRESHOLD: Final = -3
_libc.mallopt(_M_MMAP_THRESHOLD, 1024**2)
_GROWN_BYTES: Final = 32 * 1024**2
_resident = {"after the last search": 0}


def pytest_runtest_logfinish() -> None:
    if _resident_bytes() > _resident["after the last search"] + _GROWN_BYTES:
        gc.collect()
        _libc.malloc_trim(0)
        _resident["after the last search"] = _resident_bytes()


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


# How long an example takes is the machine's matter, never a test's.
settings.register_profile("stillroom", deadline=None, print_blob=True)
settings.load_profile("stillroom")


@pytest.fixture(scope="session")
def anyio_backend() -> tuple[str, dict[str, bool]]:
    return "asyncio", {"use_uvloop": True}


@pytest.fixture(scope="session")
def seaweed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SeaweedFS]:
    with seaweedfs(tmp_path_factory.mktemp("seaweedfs")) as server:
        Operator(server.endpoint_url).make_bucket()
        yield server


@pytest.fixture(scope="session")
def operator(seaweed: SeaweedFS) -> Operator:
    return Operator(seaweed.endpoint_url)


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgreSQL]:
    with postgresql() as server:
        yield server


@pytest.fixture(scope="session")
def empty_databases() -> list[str]:
    """The URLs of databases that no test uses just now."""
    return []


@pytest.fixture
def database_url(postgres: PostgreSQL, empty_databases: list[str]) -> Iterator[str]:
    """An empty database of the test's own."""
    url = empty_databases.pop() if empty_databases else postgres.make_database()
    yield url
    postgres.empty_database(url)
    empty_databases.append(url)
