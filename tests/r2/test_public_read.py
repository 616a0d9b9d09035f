"""STILLROOM_PUBLIC_READ with a bucket: who is redirected, and what that answer tells caches."""

import httpx
import pytest

from contract.images import PNG
from r2.conftest import Running
from services import stub_r2
from services.stub_r2 import StubR2

IMAGES = "/api/v1/storage/images"


@pytest.fixture(autouse=True)
def image(stub: StubR2) -> None:
    stub.objects["compute/a.png"] = stub_r2.Stored(PNG, {"content-type": "image/png"}, '"e"')


def anybody(client: httpx.AsyncClient) -> httpx.AsyncClient:
    del client.headers["authorization"]
    return client


async def test_anybody_is_redirected_and_no_cache_keeps_the_redirect(running: Running) -> None:
    async with running(STILLROOM_PUBLIC_READ="true") as client:
        found = await anybody(client).get(f"{IMAGES}/a.png")
        headed = await client.head(f"{IMAGES}/a.png")
        missing = await client.get(f"{IMAGES}/soon.png")

    assert (found.status_code, found.headers["location"]) == (
        302,
        "https://cdn.example.com/compute/a.png",
    )
    assert found.headers["cache-control"] == "private, no-store"
    assert (headed.status_code, headed.headers["content-length"]) == (200, str(len(PNG)))
    assert headed.headers["cache-control"] == "public, max-age=0, must-revalidate"
    assert (missing.status_code, missing.headers["cache-control"]) == (404, "no-store")


async def test_anybody_gets_a_presigned_url_of_a_bucket_that_stays_private(
    running: Running,
) -> None:
    async with running(STILLROOM_PUBLIC_READ="true", R2_PUBLIC_URL="") as client:
        found = await anybody(client).get(f"{IMAGES}/a.png")
        async with httpx.AsyncClient() as http:
            assert (await http.get(found.headers["location"])).content == PNG

    assert found.headers["cache-control"] == "private, no-store"


async def test_anybody_does_nothing_but_read_an_image(running: Running, stub: StubR2) -> None:
    async with running(STILLROOM_PUBLIC_READ="true") as client:
        anybody(client)
        for method, url in (
            ("GET", IMAGES),
            ("GET", "/api/v1/storage/entries"),
            ("POST", f"{IMAGES}/a.png"),
            ("DELETE", f"{IMAGES}/a.png"),
        ):
            assert (await client.request(method, url)).status_code == 401

    assert stub.operations == {}


async def test_by_default_nobody_is_redirected_without_a_token(
    running: Running, stub: StubR2
) -> None:
    async with running() as client:
        anybody(client)
        for method in ("GET", "HEAD"):
            assert (await client.request(method, f"{IMAGES}/a.png")).status_code == 401

    assert stub.operations == {}
