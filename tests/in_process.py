"""Applications in this process, and clients of them."""

import contextlib
from collections.abc import AsyncIterator, Mapping
from datetime import timedelta

import httpx
import pytest
from fastapi import FastAPI

from stillroom.app import create_app
from stillroom.settings import AllSettings
from stillroom.store.auth.tokens import mint_token

PNG = b"\x89PNG\r\n\x1a\n"
IMAGES = "/api/v1/storage/images"
JWT_SECRET = "a secret of 32 bytes for tests only"


@contextlib.asynccontextmanager
async def client_of(app: FastAPI, **headers: str) -> AsyncIterator[httpx.AsyncClient]:
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(
            transport=httpx.ASGITransport(app), base_url="http://127.0.0.1:8000", headers=headers
        ) as client,
    ):
        yield client


@contextlib.asynccontextmanager
async def started(
    variables: Mapping[str, str], monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[FastAPI, httpx.AsyncClient]]:
    """Start our application with these variables; the client has a token."""
    for name, value in {"STILLROOM_JWT_SECRET": JWT_SECRET, **variables}.items():
        monkeypatch.setenv(name, value)
    app = create_app(AllSettings.read())
    token = mint_token(JWT_SECRET, expires_in=timedelta(hours=1))
    async with client_of(app, authorization=f"Bearer {token}") as client:
        yield app, client
