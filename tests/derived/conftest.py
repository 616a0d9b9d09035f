"""The whole application in this process, its images on a disk or in a bucket."""

import contextlib
import io
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from services.stub_r2 import stub_r2
from services.stub_wire import BUCKET, KEY_ID, SECRET
from stillroom.app import create_app
from stillroom.auth.tokens import mint_token
from stillroom.derived.images import DerivedImages
from stillroom.settings import Settings

IMAGES = "/api/v1/storage/images"
JWT_SECRET = "a secret of 32 bytes for tests only"


@dataclass
class Store:
    """A running application and a client with a token."""

    client: httpx.AsyncClient
    data: Path
    derived: DerivedImages

    async def save(self, path: str, data: bytes) -> str:
        answer = await self.client.post(f"{IMAGES}/{path}", files={"file": data})
        assert answer.status_code == 200, answer.text
        return str(answer.json()["etag"])

    async def get(self, path: str, query: str = "", **headers: str) -> httpx.Response:
        return await self.client.get(f"{IMAGES}/{path}?{query}", headers=headers)

    async def picture(self, path: str, query: str) -> Image.Image:
        """The picture, as a browser would decode it."""
        answer = await self.get(path, query)
        assert answer.status_code == 200, answer.text
        image = Image.open(io.BytesIO(answer.content))
        assert answer.headers["content-type"] == f"image/{(image.format or '').lower()}"
        image.load()
        return image

    def kept(self) -> list[Path]:
        """The files of the cache."""
        return sorted((self.data / ".stillroom/derived").glob("??/*"))


Running = Callable[..., AbstractAsyncContextManager[Store]]


@pytest.fixture(params=["disk", "bucket"])
async def backend(request: pytest.FixtureRequest) -> AsyncIterator[dict[str, str]]:
    """The variables of a backend."""
    if request.param == "disk":
        yield {}
        return
    async with stub_r2() as stub:
        yield {
            "R2_ENDPOINT_URL": stub.endpoint_url,
            "R2_ACCESS_KEY_ID": KEY_ID,
            "R2_SECRET_ACCESS_KEY": SECRET,
            "R2_BUCKET_NAME": BUCKET,
            "R2_PUBLIC_URL": "https://cdn.example.com",
        }


@pytest.fixture
def running(backend: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Running:
    """Starts the application; keyword arguments are more variables."""

    @contextlib.asynccontextmanager
    async def run(**variables: str) -> AsyncIterator[Store]:
        for name, value in {
            "STILLROOM_DATA_DIR": str(tmp_path),
            "STILLROOM_JWT_SECRET": JWT_SECRET,
            "STILLROOM_MIN_FREE_BYTES": "0",
            **backend,
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
            derived = app.state.operations.derived
            yield Store(client, tmp_path, derived)
        assert derived.decoder_pids == []

    return run


@pytest.fixture
async def store(running: Running) -> AsyncIterator[Store]:
    async with running() as started:
        yield started


def encoded(image: Image.Image, form: str = "PNG", **how: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, form, **how)
    return out.getvalue()


def halves(size: tuple[int, int], left: str = "red", right: str = "blue") -> Image.Image:
    """Two colours side by side."""
    image = Image.new("RGB", size, left)
    image.paste(right, (size[0] // 2, 0, *size))
    return image


def is_near(pixel: object, colour: tuple[int, ...], *, within: int = 12) -> bool:
    assert isinstance(pixel, tuple)
    return all(abs(a - b) <= within for a, b in zip(pixel, colour, strict=True))
