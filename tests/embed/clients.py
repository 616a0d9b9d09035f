"""A client of an app that has the store in it."""

from collections.abc import AsyncIterator

import httpx
from fastapi import FastAPI

PNG = b"\x89PNG\r\n\x1a\n"
IMAGES = "/api/v1/storage/images"


async def client_of(app: FastAPI, **headers: str) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(
            transport=transport, base_url="http://compute", headers=headers
        ) as client,
    ):
        yield client
