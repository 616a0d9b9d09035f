"""A bucket in memory, and the whole application in front of it."""

import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Final

import httpx
import pytest

from in_process import started
from patience import hurry
from r2.traps import opened
from services.stub_amazon import StubAmazonS3
from services.stub_r2 import StubR2, served
from stillroom.store.port import ImageStorage

Running = Callable[..., AbstractAsyncContextManager[httpx.AsyncClient]]


CLOUDS: Final = {"r2": StubR2, "amazon": StubAmazonS3}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test that is marked `clouds` runs against Amazon's ways, too, or against those it names."""
    if "stub" in metafunc.fixturenames:
        mark = metafunc.definition.get_closest_marker("clouds")
        clouds = ["r2"] if mark is None else list(mark.args or CLOUDS)
        metafunc.parametrize("stub", clouds, indirect=True)


@pytest.fixture
async def stub(request: pytest.FixtureRequest) -> AsyncIterator[StubR2]:
    async with served(CLOUDS[request.param]()) as running:
        yield running


@pytest.fixture
def running(stub: StubR2, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Running:
    @contextlib.asynccontextmanager
    async def run(**variables: str) -> AsyncIterator[httpx.AsyncClient]:
        defaults = {
            **stub.variables,
            "R2_PUBLIC_URL": "https://cdn.example.com",
            "STILLROOM_DATA_DIR": str(tmp_path),
            "STILLROOM_SWEEP_INTERVAL_SECONDS": "0",  # else a start compares, and is counted
        }
        async with started({**defaults, **variables}, monkeypatch) as (_, client):
            yield client

    return run


@pytest.fixture
async def storage(stub: StubR2) -> AsyncIterator[ImageStorage]:
    storage = opened(stub)
    yield storage
    await storage.close()


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    hurry(monkeypatch, deadline_s=1.6, timeout_s=0.5)
