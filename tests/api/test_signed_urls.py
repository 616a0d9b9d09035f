"""Signed URLs where the bytes are elsewhere, and where the storage fails."""

import logging
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, cast

import httpx
import pytest
from fastapi import FastAPI

from stillroom.errors import BackendUnavailable, Unauthenticated
from stillroom.paths import ImagePath, StorageKey
from stillroom.store.api.images import ImageOperations
from stillroom.store.api.routes import operation_router
from stillroom.store.auth.grants import Grant
from stillroom.store.auth.signed_urls import UrlSigner
from stillroom.store.values import RemoteImage

if TYPE_CHECKING:
    from stillroom.store.port import ImageStorage

SIGNER = UrlSigner(["s" * 32])


class Elsewhere:
    """As much of a storage as a GET needs, whose images are on a CDN; it counts look-ups."""

    def __init__(self) -> None:
        self.asked = 0

    async def locate(self, key: StorageKey) -> RemoteImage:
        self.asked += 1
        if key.text.endswith("broken.png"):
            raise BackendUnavailable("the bucket is out of reach")
        return RemoteImage(f"https://cdn.example/{key.text}")


def nobody(_: str | None) -> Grant:
    raise Unauthenticated


@pytest.fixture
def storage() -> Elsewhere:
    return Elsewhere()


@pytest.fixture
async def client(storage: Elsewhere) -> AsyncIterator[httpx.AsyncClient]:
    app = FastAPI()
    operations = ImageOperations(
        storage=cast("ImageStorage", storage),
        authorize=nobody,
        public_url="https://img.example",
        max_upload_bytes=1,
        signer=SIGNER,
    )
    app.include_router(operation_router("/storage/images", operations, tag="Storage"))
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(
        transport=transport, base_url="http://img/storage/images/"
    ) as opened:
        yield opened


def signed(path: str) -> str:
    return SIGNER.sign(ImagePath.parse(path), valid_for_s=60).target


async def test_a_redirect_tells_nobody_where_it_came_from(client: httpx.AsyncClient) -> None:
    answer = await client.get(signed("a.png"))

    assert (answer.status_code, answer.headers["location"]) == (
        302,
        "https://cdn.example/compute/a.png",
    )
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["cache-control"] == "private, no-store"


async def test_nothing_is_looked_up_before_the_signature_has_passed(
    client: httpx.AsyncClient, storage: Elsewhere
) -> None:
    for target in (signed("a.png") + "x", signed("a.png").replace("a.png", "b.png"), "a.png"):
        assert (await client.get(target)).status_code == 401
    assert storage.asked == 0


async def test_a_failure_is_logged_without_the_signature(
    client: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, logger="stillroom")
    target = signed("broken.png")

    answer = await client.get(target)

    assert (answer.status_code, answer.headers["referrer-policy"]) == (503, "no-referrer")
    logged = "\n".join(
        record.getMessage() for record in caplog.records if record.name.startswith("stillroom")
    )
    assert "broken.png" in logged
    assert target.partition("&signature=")[2] not in logged
