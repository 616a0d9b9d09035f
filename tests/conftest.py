"""Shared by all tests."""

import ctypes
import gc
import resource
import sys
import uuid
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

import httpx
import pytest
from hypothesis import settings

from patience import PATIENT
from services.s3 import Operator
from services.seaweedfs import SeaweedFS, seaweedfs
from services.trust import TRUST
from surroundings import normalise

if TYPE_CHECKING:
    from services.postgres import PostgreSQL

normalise()
pytest_plugins = ["repeating"]

MARKED: Final = {
    "whole": ("browser", "clients", "cluster", "crash", "deploy", "proxy", "release"),
    "slow": ("acceptance", "client", "embed"),
}
"""Marks that all tests of a folder have. `whole` leaves them to `make test-all`."""
HERE: Final = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        room = item.path.relative_to(HERE).parts[0]
        for mark, folders in MARKED.items():
            if room in folders:
                item.add_marker(mark)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Do not import a folder whose tests all have a mark that `-m` leaves out."""
    expression = f"{config.option.markexpr} "
    left_out = [
        mark for mark in MARKED if f"not {mark} " in expression and " or " not in expression
    ]
    return (
        any(collection_path == HERE / folder for mark in left_out for folder in MARKED[mark])
        or None
    )


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Search no garbage among what lives until the end: it takes a sixth of the collection."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


# What a test has done with large bodies is not kept for all the others of its process: a block
# above 1 MiB goes back when it is freed (glibc would raise that bound with the first one that is
# larger, https://man7.org/linux/man-pages/man3/mallopt.3.html), and cycles that hold bodies are
# looked for when there are many.
_libc = ctypes.CDLL(None)
_M_MMAP_THRESHOLD: Final = -3
_libc.mallopt(_M_MMAP_THRESHOLD, 1024**2)
_GROWN_BYTES: Final = 32 * 1024**2
_resident = {"after the last search": 0}


def pytest_runtest_logfinish(nodeid: str) -> None:
    if _peak_mib() > _peak.mib:
        _peak.mib, _peak.test = _peak_mib(), nodeid
    if _resident_bytes() > _resident["after the last search"] + _GROWN_BYTES:
        _let_apps_go()
        gc.collect()
        _libc.malloc_trim(0)
        _resident["after the last search"] = _resident_bytes()


def _let_apps_go() -> None:
    """FastAPI remembers 4,096 endpoints; with each of them goes an app of a test, and its store."""
    remembering = sys.modules.get("fastapi.dependencies.models")
    for function in vars(remembering).values() if remembering else ():
        if hasattr(function, "cache_clear"):
            function.cache_clear()


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


# Printed at the end of a run: CONTRIBUTING.md says how much a worker may have.


@dataclass
class Peak:
    mib: int = 0
    test: str = ""


_peak = Peak()
_peaks: list[str] = []


def _peak_mib() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024  # Linux counts in KiB


def pytest_sessionfinish(session: pytest.Session) -> None:
    if hasattr(session.config, "workeroutput"):  # of xdist: handed to the process that started it
        session.config.workeroutput["peak"] = f"{_peak.mib} MiB at {_peak.test}"


# A failed test shows what its servers have logged since it began.


def pytest_runtest_setup() -> None:
    if running := sys.modules.get("running"):
        running.remember_logs()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed and (running := sys.modules.get("running")):
        report.sections += running.new_log_lines()
    return report


@pytest.hookimpl(optionalhook=True)  # where xdist is
def pytest_testnodedown(node: Any) -> None:
    _peaks.append(getattr(node, "workeroutput", {}).get("peak", "unknown: it crashed"))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for said in _peaks or ([f"{_peak.mib} MiB at {_peak.test}"] if _peak.test else []):
        terminalreporter.write_line(f"peak memory of a worker: {said}")


# How long an example takes is the machine's matter, never a test's.
settings.register_profile("stillroom", deadline=None, print_blob=True)
settings.load_profile("stillroom")


@pytest.fixture(scope="session")
def anyio_backend() -> tuple[str, dict[str, bool]]:
    return "asyncio", {"use_uvloop": True}


@pytest.fixture(scope="session", autouse=True)
def patience() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patched:
        for name, seconds in PATIENT.items():
            patched.setattr(name, seconds)
        yield


@pytest.fixture(scope="session", autouse=True)
def trust() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patched:
        for call in (httpx.get, httpx.head, httpx.post, httpx.delete, httpx.request):
            patched.setitem(cast("dict[str, Any]", call.__kwdefaults__), "verify", TRUST)
        yield


@pytest.fixture(scope="session")
def seaweed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SeaweedFS]:
    with seaweedfs(tmp_path_factory.mktemp("seaweedfs")) as server:
        Operator(server.endpoint_url).make_bucket()
        yield server


@pytest.fixture(scope="session")
def operator(seaweed: SeaweedFS) -> Operator:
    return Operator(seaweed.endpoint_url)


@pytest.fixture(scope="session")
def postgres() -> "Iterator[PostgreSQL]":
    from services.postgres import postgresql  # `make core` has no driver

    with postgresql() as server:
        yield server


@pytest.fixture(scope="session")
def empty_databases() -> list[str]:
    """The URLs of databases that no test uses just now."""
    return []


@pytest.fixture
def database_url(postgres: "PostgreSQL", empty_databases: list[str]) -> Iterator[str]:
    url = empty_databases.pop() if empty_databases else postgres.make_database()
    yield url
    postgres.empty_database(url)
    empty_databases.append(url)


@pytest.fixture
def folder() -> str:
    """A folder in the store that no other test uses."""
    return uuid.uuid4().hex
