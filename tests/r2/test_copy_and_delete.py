"""Copying and deleting many with the images in a bucket."""

import httpx
import pytest

from r2.conftest import Running
from services import stub_faults
from services.stub_r2 import StubR2

pytestmark = pytest.mark.clouds

STORAGE = "/api/v1/storage"
PNG = b"\x89PNG\r\n\x1a\n" + bytes(100)


async def save(client: httpx.AsyncClient, path: str) -> None:
    answer = await client.post(f"{STORAGE}/images/{path}", files={"file": PNG})
    assert answer.status_code == 200, answer.text


async def test_a_copy_has_the_cdns_url(running: Running) -> None:
    async with running() as client:
        await save(client, "a.png")

        copied = await client.post(f"{STORAGE}/copy", json={"source": "a.png", "target": "b/ü"})

        assert copied.json()["url"] == "https://cdn.example.com/compute/b/%C3%BC"
        assert copied.json()["size"] == len(PNG)
        names = await client.get(f"{STORAGE}/images")
        assert names.json() == ["a.png", "b/ü"]


async def test_many_are_deleted(running: Running) -> None:
    paths = [f"{number}.png" for number in range(50)]
    async with running() as client:
        for path in paths:
            await save(client, path)

        answer = await client.post(f"{STORAGE}/delete", json={"paths": [*paths[:49], "none"]})

        results = answer.json()["results"]
        assert results[:49] == [{"path": path} for path in paths[:49]]
        assert results[49]["code"] == "not_found"
        assert (await client.get(f"{STORAGE}/images")).json() == ["49.png"]


async def test_a_bucket_in_trouble_is_not_asked_a_thousand_times(
    running: Running, stub: StubR2
) -> None:
    async with running() as client:
        stub.faults.extend([stub_faults.answers(403, "AccessDenied")] * 1000)

        paths = [f"{number}" for number in range(1000)]
        answer = await client.post(f"{STORAGE}/delete", json={"paths": paths})

        codes = [result["code"] for result in answer.json()["results"]]
        assert codes == ["backend_unavailable"] * 1000
        assert len(stub.faults) >= 900
