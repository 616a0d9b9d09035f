"""A bucket in memory, and the whole application in front of it."""

import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from pathlib import Path
from typing import Final

import httpx
import pytest

from r2.traps import opened
from services.stub_amazon import StubAmazonS3
from services.stub_r2 import StubR2, served
from stillroom.app import create_app
from stillroom.auth.tokens import mint_token
from stillroom.settings import Settings
from stillroom.storage.port import ImageStorage
from stillroom.storage.s3 import client as client_module

JWT_SECRET = "a secret of 32 bytes for tests only"

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
    """Starts the application in this process; keyword arguments are more variables."""

    @contextlib.asynccontextmanager
    async def run(**variables: str) -> AsyncIterator[httpx.AsyncClient]:
        for name, value in {
            **stub.variables,
            "R2_PUBLIC_URL": "https://cdn.example.com",
            "STILLROOM_DATA_DIR": str(tmp_path),
            "STILLROOM_JWT_SECRET": JWT_SECRET,
            "STILLROOM_SWEEP_INTERVAL_SECONDS": "0",  # else a start compares, and is counted
            **variables,
        }.items():
            monkeypatch.setenv(name, value)
        app = create_app(Settings.read())
        token = mint_token(JWT_SECRET, expires_in=timedelta(hours=1))
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(
                transport=httpx.ASGITransport(app),
                base_url="http://127.0.0.1:8000",
                headers={"authorization": f"Bearer {token}"},
            ) as client,
        ):
            yield client

    return run


@pytest.fixture
async def storage(stub: StubR2) -> AsyncIterator[ImageStorage]:
    storage = opened(stub)
    yield storage
    await storage.close()


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits 20 s for what must fail; the proportions stay."""
    monkeypatch.setattr(client_module, "DEADLINE_S", 1.6)
    monkeypatch.setattr("stillroom.storage.bucket.storage.DEADLINE_S", 1.6)
    monkeypatch.setattr("stillroom.storage.bucket.upload.DEADLINE_S", 1.6)
    monkeypatch.setattr(client_module, "_TIMEOUT_S", 0.5)
    monkeypatch.setattr(client_module, "_LEAST_S", 0.1)
