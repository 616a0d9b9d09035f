"""A bucket in memory, and the whole application in front of it."""

import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from pathlib import Path

import httpx
import pytest

from r2.traps import opened
from services.stub_r2 import BUCKET, KEY_ID, SECRET, StubR2, stub_r2
from stillroom.app import create_app
from stillroom.auth.tokens import mint_token
from stillroom.settings import Settings
from stillroom.storage.port import ImageStorage
from stillroom.storage.s3 import client as client_module

JWT_SECRET = "a secret of 32 bytes for tests only"

Running = Callable[..., AbstractAsyncContextManager[httpx.AsyncClient]]


@pytest.fixture
async def stub() -> AsyncIterator[StubR2]:
    async with stub_r2() as running:
        yield running


@pytest.fixture
def running(stub: StubR2, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Running:
    """Starts the application in this process; keyword arguments are more variables."""

    @contextlib.asynccontextmanager
    async def run(**variables: str) -> AsyncIterator[httpx.AsyncClient]:
        for name, value in {
            "R2_ENDPOINT_URL": stub.endpoint_url,
            "R2_ACCESS_KEY_ID": KEY_ID,
            "R2_SECRET_ACCESS_KEY": SECRET,
            "R2_BUCKET_NAME": BUCKET,
            "R2_PUBLIC_URL": "https://cdn.example.com",
            "STILLROOM_DATA_DIR": str(tmp_path),
            "STILLROOM_JWT_SECRET": JWT_SECRET,
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
    monkeypatch.setattr(client_module, "DEADLINE_S", 0.8)
    monkeypatch.setattr("stillroom.storage.bucket.storage.DEADLINE_S", 0.8)
    monkeypatch.setattr("stillroom.storage.bucket.upload.DEADLINE_S", 0.8)
    monkeypatch.setattr(client_module, "_TIMEOUT_S", 0.25)
