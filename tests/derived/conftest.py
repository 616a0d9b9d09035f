"""The whole application in this process, its images on a disk or in a bucket."""

import contextlib
import io
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from PIL import Image

from in_process import IMAGES, started
from services.stub_r2 import StubR2, served
from stillroom.features.pictures.decoders import Decoders
from stillroom.features.pictures.images import DerivedImages


def pids_of(decoders: Decoders) -> list[int]:
    """The processes that decode, or wait for an image."""
    return [decoder.process.pid for decoder in (*decoders._busy, *decoders._idle)]


@dataclass
class Store:
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
        answer = await self.get(path, query)
        assert answer.status_code == 200, answer.text
        image = Image.open(io.BytesIO(answer.content))
        assert answer.headers["content-type"] == f"image/{(image.format or '').lower()}"
        image.load()
        return image

    def kept(self) -> list[Path]:
        return sorted((self.data / ".stillroom/derived").glob("??/*"))


Running = Callable[..., AbstractAsyncContextManager[Store]]


@pytest.fixture(params=["disk", "bucket"])
async def backend(request: pytest.FixtureRequest) -> AsyncIterator[dict[str, str]]:
    if request.param == "disk":
        yield {}
        return
    async with served(StubR2()) as stub:
        yield {**stub.variables, "R2_PUBLIC_URL": "https://cdn.example.com"}


@pytest.fixture
def running(backend: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Running:
    @contextlib.asynccontextmanager
    async def run(**variables: str) -> AsyncIterator[Store]:
        defaults = {"STILLROOM_DATA_DIR": str(tmp_path), "STILLROOM_MIN_FREE_BYTES": "0", **backend}
        async with started({**defaults, **variables}, monkeypatch) as (app, client):
            (thumbnails,) = app.state.operations.hooks.read
            derived = thumbnails.derived
            yield Store(client, tmp_path, derived)
        assert pids_of(derived._decoders) == []

    return run


@pytest.fixture
async def store(running: Running) -> AsyncIterator[Store]:
    async with running() as started:
        yield started


def halves(size: tuple[int, int], left: str = "red") -> Image.Image:
    image = Image.new("RGB", size, left)
    image.paste("blue", (size[0] // 2, 0, *size))
    return image


def is_near(pixel: object, colour: tuple[int, ...], *, within: int = 12) -> bool:
    assert isinstance(pixel, tuple)
    return all(abs(a - b) <= within for a, b in zip(pixel, colour, strict=True))
