"""Servers for the tests that only talk to one, started in the ways that may change an answer.

A test runs on one worker with the fast path. Marked `roads`, it also runs on the ASGI path:
where the fast path may take its request (GET and HEAD of an image, an upload of known length).
Marked `workers`, it also runs on two workers: where they share what it looks at.
"""

import contextlib
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import httpx
import pytest

from running import Server, running


@dataclass(frozen=True)
class Way:
    """How a server is started."""

    name: str
    flags: tuple[str, ...] = ("--workers", "1")
    settings: dict[str, str] = field(default_factory=dict)


USUAL: Final = Way("one-worker")
LONG_ROAD: Final = Way("long-road", settings={"fast_path": "false"})
TWO_WORKERS: Final = Way("two-workers", flags=("--workers", "2"))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "started_as" not in metafunc.fixturenames:
        return
    ways = [USUAL]
    for mark, way in (("roads", LONG_ROAD), ("workers", TWO_WORKERS)):
        if metafunc.definition.get_closest_marker(mark) is not None:
            ways.append(way)
    metafunc.parametrize("started_as", ways, ids=[way.name for way in ways])


class Servers:
    """Servers that the tests of this process share: one for each way and settings, once needed.

    pytest would stop one before it starts another (a parametrised fixture has one value at a time).
    """

    def __init__(self, folders: pytest.TempPathFactory, stack: contextlib.ExitStack) -> None:
        self._folders = folders
        self._stack = stack
        self._started: dict[tuple[object, ...], Server] = {}

    def started(self, way: Way, **settings: str) -> Server:
        named = (way.name, *sorted(settings.items()))
        if named not in self._started:
            folder = self._folders.mktemp("acceptance")
            more: dict[str, Any] = {**way.settings, **settings}
            self._started[named] = self._stack.enter_context(running(folder, *way.flags, **more))
        return self._started[named]

    def logged(self) -> str:
        return "".join(server.logged() for server in self._started.values())


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    with contextlib.ExitStack() as stack:
        started = Servers(tmp_path_factory, stack)
        yield started
    assert "Traceback" not in started.logged()


@pytest.fixture
def server(started_as: Way, servers: Servers) -> Server:
    return servers.started(started_as, max_upload_bytes=str(8 * 1024**2))


@pytest.fixture
def client(server: Server) -> Iterator[httpx.Client]:
    with server.client() as opened:
        yield opened


@pytest.fixture
def folder() -> str:
    """A folder in the store that no other test uses."""
    return uuid.uuid4().hex
