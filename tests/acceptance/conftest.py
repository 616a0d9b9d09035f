"""Servers for the tests that only talk to one: with one worker, with two, and by the long road."""

import uuid
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from running import Server, running


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.slow)


@pytest.fixture(
    scope="session",
    params=[("1", "true"), ("2", "true"), ("1", "false")],
    ids=["one-worker", "two-workers", "long-road"],
)
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    folder: Path = tmp_path_factory.mktemp("acceptance")
    workers, short_road = request.param
    with running(
        folder, "--workers", workers, max_upload_bytes=str(8 * 1024**2), short_road=short_road
    ) as started:
        yield started
    assert "Traceback" not in started.logged()


@pytest.fixture
def client(server: Server) -> Iterator[httpx.Client]:
    with server.client() as opened:
        yield opened


@pytest.fixture
def folder() -> str:
    """A folder in the store that no other test uses."""
    return uuid.uuid4().hex
