"""The other ways to the same images: straight at the bucket, and an app with the router in it."""

import zipfile
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

from running import running
from services.s3 import Operator
from services.seaweedfs import BUCKET, KEY_ID, SECRET, SeaweedFS
from stillroom.client import AsyncImageStore, ImageStore
from stillroom.embed import create_router
from stillroom.errors import ImageNotFound
from stillroom.store.auth.grants import Grant

PNG = b"\x89PNG\r\n\x1a\n" + bytes(100)


@pytest.mark.parametrize(
    "served", ["by presigned URLs", pytest.param("by the CDN", marks=pytest.mark.whole)]
)
def test_the_sdk_and_the_buckets_own_tools_see_the_same_keys(
    seaweed: SeaweedFS,
    operator: Operator,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    served: str,
) -> None:
    for name, value in {
        "R2_ENDPOINT_URL": seaweed.endpoint_url,
        "R2_ACCESS_KEY_ID": KEY_ID,
        "R2_SECRET_ACCESS_KEY": SECRET,
        "R2_BUCKET_NAME": BUCKET,
        "R2_PUBLIC_URL": f"{seaweed.endpoint_url}/{BUCKET}" if served == "by the CDN" else "",
    }.items():
        monkeypatch.setenv(name, value)
    large = bytes(range(256)) * 100_000
    with running(tmp_path) as server, ImageStore(server.url, server.token()) as store:
        store.save("sdk/tom & jérôme.png", PNG)
        store.save("sdk/large.bin", large)
        store.copy("sdk/tom & jérôme.png", "sdk/copy.png")
        operator.put("compute/sdk/by-tool.png", PNG)

        names = ["sdk/by-tool.png", "sdk/copy.png", "sdk/large.bin", "sdk/tom & jérôme.png"]
        assert operator.keys("compute/sdk/") == [f"compute/{name}" for name in names]
        assert list(store.iter("sdk/")) == names
        assert store.read("sdk/by-tool.png") == PNG
        assert store.read("sdk/tom & jérôme.png") == PNG
        assert store.read("sdk/large.bin") == large
        assert store.save_unless_same("sdk/large.bin", large).skipped
        with store.archive("sdk/") as file, zipfile.ZipFile(file) as archive:
            assert archive.namelist() == names
            assert archive.read("sdk/large.bin") == large
        with pytest.raises(ImageNotFound):
            store.read("sdk/none.png")
        assert store.delete_many(names) == 4
        assert operator.keys("compute/sdk/") == []
    seaweed.empty()


async def test_an_app_with_the_router_in_it_is_spoken_to_without_a_socket(tmp_path: Path) -> None:
    app = FastAPI()
    router = create_router(tmp_path, authorize=lambda _: Grant.everything(), min_free_bytes=0)
    app.include_router(router, prefix="/api/v1")
    async with (
        app.router.lifespan_context(app),
        AsyncImageStore("http://app", transport=httpx.ASGITransport(app)) as store,
    ):
        await store.save("a/b.png", PNG)
        await store.save("a/large", bytes(2_000_000))
        await store.copy("a/b.png", "a/c.png")

        assert [path async for path in store.iter()] == ["a/b.png", "a/c.png", "a/large"]
        assert await store.read("a/c.png") == PNG
        assert await store.delete_many(["a/b.png", "a/none"]) == 1
