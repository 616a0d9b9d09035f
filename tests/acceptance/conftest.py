"""Servers for the tests that only talk to one, started in the ways that may change an answer.

A test runs on one worker with the fast path. Marked `both_paths`, it also runs on the ASGI path:
where the fast path may take its request (GET and HEAD of an image, an upload of known length).
Marked `workers`, it also runs on two workers: where they share what it looks at. Marked `hosts`, it
also runs on apps that have the whole store in them (`hosts("disk")`: if so named).

`make test` repeats a test on the ASGI path and on two workers unless the mark has `whole=True`, and
on the first app if the mark has `test=True`. `make test-whole` runs the remaining repetitions.
"""

import contextlib
import re
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import httpx
import pytest

from acceptance.raw_requests import LARGE, PNG
from hosting import HOSTS, Host, hosted
from running import IMAGES, Server, running
from services.seaweedfs import bucket_variables


@dataclass(frozen=True)
class Way:
    name: str
    flags: tuple[str, ...] = ("--workers", "1")
    settings: dict[str, str] = field(default_factory=dict)
    host: Host | None = None


_CANCELLED: Final = re.compile(
    r"Exception in callback StreamReaderProtocol\.connection_made.*?"
    r"\nasyncio\.exceptions\.CancelledError\n",
    re.DOTALL,
)
"""What older versions of asyncio log when hypercorn ends a connection with a request under way:
https://github.com/python/cpython/issues/113538"""

USUAL: Final = Way("one-worker")
ASGI_PATH: Final = Way("asgi-path", settings={"fast_path": "false"})
TWO_WORKERS: Final = Way("two-workers", flags=("--workers", "2"))
HOSTED: Final = [Way(f"host-{host.name}", host=host) for host in HOSTS]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "started_as" not in metafunc.fixturenames:
        return
    ways = [(USUAL, False)]
    for mark, way in (("both_paths", ASGI_PATH), ("workers", TWO_WORKERS)):
        if (found := metafunc.definition.get_closest_marker(mark)) is not None:
            ways.append((way, found.kwargs.get("whole", False)))
    if (hosts := metafunc.definition.get_closest_marker("hosts")) is not None:
        named = [way for way in HOSTED if all(word in way.name for word in hosts.args)]
        in_test = HOSTED[:1] if hosts.kwargs.get("test", False) else []
        ways += [(way, way not in in_test) for way in named]
    params = [
        pytest.param(way, id=way.name, marks=pytest.mark.whole if is_whole else ())
        for way, is_whole in ways
    ]
    metafunc.parametrize("started_as", params)


class Servers:
    """Servers that the tests of this process share: one for each way and settings, once needed.

    pytest would stop one before it starts another (a parametrised fixture has one value at a time).
    """

    def __init__(
        self,
        folders: pytest.TempPathFactory,
        stack: contextlib.ExitStack,
        variables_of: Callable[[Host], dict[str, str]],
    ) -> None:
        self._folders = folders
        self._variables_of = variables_of
        self._stack = stack
        self._started: dict[tuple[object, ...], Server] = {}

    def started(self, way: Way, **settings: str) -> Server:
        named = (way.name, *sorted(settings.items()))
        if named not in self._started:
            folder = self._folders.mktemp("acceptance")
            more: dict[str, Any] = {**way.settings, **settings}
            if way.host is None:
                opening = running(folder, *way.flags, **more)
            else:
                opening = hosted(folder, way.host, self._variables_of(way.host), **more)
            self._started[named] = self._stack.enter_context(opening)
        return self._started[named]

    def logged(self) -> str:
        return _CANCELLED.sub("", "".join(server.logged() for server in self._started.values()))


@pytest.fixture(scope="session")
def servers(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Servers]:
    def variables_of(host: Host) -> dict[str, str]:
        found: dict[str, str] = {}
        if host.bucket:  # its own: hosts run on beside the tests that look into the usual one
            bucket = f"host-{uuid.uuid4()}"
            request.getfixturevalue("operator").make_bucket(bucket)
            found |= bucket_variables(request.getfixturevalue("seaweed"), bucket)
        if host.postgresql:
            found["STILLROOM_DATABASE_URL"] = request.getfixturevalue("postgres").make_database()
        return found

    with contextlib.ExitStack() as stack:
        started = Servers(tmp_path_factory, stack, variables_of)
        yield started
    assert "Traceback" not in started.logged()


@pytest.fixture
def server(started_as: Way, servers: Servers) -> Server:
    return servers.started(started_as, max_upload_bytes=str(8 * 1024**2))


@pytest.fixture
def client(server: Server) -> Iterator[httpx.Client]:
    with server.client() as opened:
        yield opened


@pytest.fixture(scope="session")
def both_paths(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Server]]:
    """Two servers on the same images: one takes the fast path, the other may not."""
    folder = tmp_path_factory.mktemp("both-paths")
    with (
        running(folder, max_upload_bytes=str(8 * 1024**2)) as short,
        running(
            folder, data=short.data, fast_path="false", max_upload_bytes=str(8 * 1024**2),
            public_base_url=short.url,
        ) as long,
    ):  # fmt: skip
        with short.client() as client:
            for name, data in (
                ("a.png", PNG),
                ("large.bin", LARGE),
                ("page.html", b"<script>alert(1)</script>"),
                ("in/side.png", PNG),
                ("Zoë 1+1.png", PNG),
            ):
                client.post(f"{IMAGES}/{name}", files={"file": data}).raise_for_status()
        (short.data / "compute/empty.bin").touch()
        yield short, long
