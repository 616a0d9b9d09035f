"""One server for the SDK and the commands, and both faces of the SDK behind one."""

import inspect
from collections.abc import AsyncIterator, Iterator
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, cast

import anyio.to_thread
import pytest

from command_line import PNG, Ran, Run, ran
from running import Server, running
from stillroom.client import AsyncImageStore, ImageStore
from stillroom.client.library import MediaLibrary

T = TypeVar("T")


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("client")
    with running(folder, max_upload_bytes=str(64 * 1024**2)) as started:
        yield started
    assert "Traceback" not in started.logged()


@pytest.fixture
def run(server: Server, tmp_path: Path) -> Run:
    """Runs `stillroom …` in a folder of its own, with the server and a token in variables."""

    def run(*words: str, **variables: str) -> Ran:
        given = {"STILLROOM_URL": server.url, "STILLROOM_TOKEN": server.token(), **variables}
        return ran(tmp_path, words, given)

    return run


@pytest.fixture
def made(tmp_path: Path) -> Path:
    for name in ("out/a.png", "out/b b.png", "out/deep/c.png", "out/deep/er/d é.png", "e.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(PNG + name.encode())
    return tmp_path


class Awaited:
    """An `ImageStore` as an `AsyncImageStore`, so that one test holds both to one promise.

    Or a `MediaLibrary` as an `AsyncMediaLibrary`.
    """

    def __init__(self, store: ImageStore | MediaLibrary) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._store, name)
        if inspect.isgeneratorfunction(method):
            return partial(_iterated, method)
        return lambda *given, **named: anyio.to_thread.run_sync(partial(method, *given, **named))


async def _iterated(method: Any, *given: Any, **named: Any) -> AsyncIterator[Any]:
    for item in method(*given, **named):
        yield item


async def listed(found: AsyncIterator[T]) -> list[T]:
    return [item async for item in found]


@pytest.fixture(params=["sync", "async"])
async def store(request: pytest.FixtureRequest, server: Server) -> AsyncIterator[AsyncImageStore]:
    if request.param == "async":
        async with AsyncImageStore(server.url, server.token(), deadline_s=120) as opened:
            yield opened
    else:
        with ImageStore(server.url, server.token(), deadline_s=120) as waiting:
            yield cast("AsyncImageStore", Awaited(waiting))
