"""The router in an app of one's own: its operations, mounts and lifespans."""

import re
from collections.abc import AsyncIterator
from datetime import timedelta
from functools import partial
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

from in_process import IMAGES, PNG, client_of
from pictures import picture
from stillroom.app import create_app
from stillroom.embed import Stillroom, create_router
from stillroom.settings import AllSettings
from stillroom.store.auth.grants import Grant
from stillroom.store.auth.tokens import mint_token
from waiting import eventually


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    app = FastAPI(title="My compute server")

    @app.get("/generate")
    async def generate() -> dict[str, str]:
        return {"made": "an image"}

    app.include_router(create_router(tmp_path, min_free_bytes=0), prefix="/api/v1")
    secret = (tmp_path / ".stillroom/secret").read_text().strip()
    token = mint_token(secret, expires_in=timedelta(minutes=5))
    async with client_of(app, Authorization=f"Bearer {token}") as client:
        yield client


async def test_the_operations_work_beside_the_apps_own(client: httpx.AsyncClient) -> None:
    assert (await client.get("/generate")).json() == {"made": "an image"}

    saved = await client.post(f"{IMAGES}/a/b.png", files={"file": PNG})
    assert saved.json()["url"] == f"http://127.0.0.1:8000{IMAGES}/a/b.png"
    assert (await client.get(IMAGES)).json() == ["a/b.png"]
    (entry,) = (await client.get("/api/v1/storage/entries")).json()
    assert (entry["path"], entry["etag"]) == ("a/b.png", saved.json()["etag"])
    assert (await client.get(f"{IMAGES}/a/b.png")).content == PNG
    assert (await client.head(f"{IMAGES}/a/b.png")).status_code == 200
    assert (await client.delete(f"{IMAGES}/a/b.png")).status_code == 200
    assert (await client.get(f"{IMAGES}/a/b.png")).status_code == 404


async def test_smaller_pictures_are_made_there_too(
    client: httpx.AsyncClient, tmp_path: Path
) -> None:
    await client.post(f"{IMAGES}/a.png", files={"file": picture(size=(300, 300))})

    made = await client.get(f"{IMAGES}/a.png?width=64")

    assert (made.status_code, made.headers["content-type"]) == (200, "image/webp")
    assert len(list((tmp_path / ".stillroom/derived").glob("??/*"))) == 1
    signed = await client.post(
        "/api/v1/storage/signed-urls", json={"path": "a.png", "transform": {"width": 64}}
    )
    assert "?width=64&expires=" in signed.json()["url"]


async def test_refusals_are_ours_and_need_no_handlers_of_the_app(client: httpx.AsyncClient) -> None:
    assert (await client.get(f"{IMAGES}/a%0ab")).status_code == 422
    assert (await client.get(f"{IMAGES}/..%2f..%2fsecret")).status_code == 422
    assert (await client.put(f"{IMAGES}/a")).status_code == 405
    del client.headers["authorization"]
    assert (await client.get(IMAGES)).status_code == 401


async def test_the_document_of_the_app_has_the_operations_as_the_servers_has_them(
    client: httpx.AsyncClient, tmp_path: Path
) -> None:
    document = (await client.get("/openapi.json")).json()
    of_server = create_app(AllSettings(data_dir=tmp_path, min_free_bytes=0)).openapi()

    assert document["info"]["title"] == "My compute server"
    assert document["paths"].pop("/generate")
    assert document["paths"] == of_server["paths"]
    assert document["components"] == of_server["components"]


async def test_an_app_may_be_started_again(tmp_path: Path) -> None:
    app = FastAPI()
    app.include_router(
        create_router(tmp_path, authorize=lambda _: Grant.everything(), min_free_bytes=0)
    )
    for data in (b"one", b"two"):
        async with client_of(app) as client:
            url = "/storage/images/a.png"
            assert (await client.post(url, files={"file": data})).status_code == 200
            assert (await client.get(url)).content == data


@pytest.mark.parametrize(
    "mount",
    [
        "/a:b",
        "/ü",
        "/%41",
        *(
            pytest.param(mount, marks=pytest.mark.whole)
            for mount in ("/u@x", "/v(1)", "/it's", "/a+b")
        ),
    ],
)
async def test_an_app_may_be_mounted_below_any_name(tmp_path: Path, mount: str) -> None:
    inner = FastAPI()
    inner.include_router(
        create_router(tmp_path, authorize=lambda _: Grant.everything(), min_free_bytes=0)
    )
    outer = FastAPI()
    outer.mount(mount, inner)
    async with client_of(outer) as client:
        base = f"{mount.replace('%', '%25')}/storage/images"
        assert (await client.post(f"{base}/x", files={"file": PNG})).json()["path"] == "x"
        assert (await client.get(base)).json() == ["x"]
        assert (await client.get(f"{base}%0a")).status_code == 404


async def test_a_mounted_app_checks_the_raw_path_too(tmp_path: Path) -> None:
    inner = FastAPI()
    inner.include_router(
        create_router(tmp_path, authorize=lambda _: Grant.everything(), min_free_bytes=0)
    )
    outer = FastAPI()
    outer.mount("/mounted here", inner)
    base = "/mounted%20here/storage/images"
    async with client_of(outer) as client:
        assert (await client.post(f"{base}/a%2Fb.png", files={"file": PNG})).json()[
            "path"
        ] == "a/b.png"
        assert (await client.get(f"{base}/a/b.png")).content == PNG
        assert (await client.get(f"{base}/%2e%2e/x")).status_code == 422
        assert (await client.get("/mounted%20here/storage/im%61ges/a/b.png")).status_code == 404


async def test_an_app_that_is_mounted_is_told_to_run_the_lifespan(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    stillroom = Stillroom(tmp_path, authorize=lambda _: Grant.everything(), min_free_bytes=0)
    inner = FastAPI()
    inner.include_router(stillroom.router)
    for outer in (FastAPI(lifespan=stillroom.lifespan), FastAPI()):
        outer.mount("/compute", inner)
        said = "the lifespan of this router does not run"
        assert said not in caplog.text
        async with client_of(outer) as client:
            url = "/compute/storage/images/a"
            assert (await client.post(url, files={"file": PNG})).status_code == 200
        stillroom = Stillroom(tmp_path, authorize=lambda _: Grant.everything(), min_free_bytes=0)
        inner.router.routes.clear()
        inner.include_router(stillroom.router)
    assert said in caplog.text


async def is_deleted(stillroom: Stillroom, path: str) -> bool:
    return not await stillroom.images.exists(path)


async def test_the_lifespan_sweeps_also_where_it_is_given_twice(tmp_path: Path) -> None:
    stillroom = Stillroom(
        tmp_path, min_free_bytes=0, deletion_grace_seconds=0, sweep_interval_seconds=0.05
    )
    app = FastAPI(lifespan=stillroom.lifespan)
    app.include_router(stillroom.router)
    for number in range(2):
        async with client_of(app):
            path = f"a/{number}.png"
            await stillroom.images.save(path, picture(size=(8 + number, 8)))
            resource = await stillroom.media.ingest_from_storage_key(f"compute/{path}")
            await eventually(partial(is_deleted, stillroom, path))
            assert (tmp_path / resource.storage_key.text).is_file()


async def test_a_batch_of_reads_works_below_a_mount_too(tmp_path: Path) -> None:
    stillroom = Stillroom(
        tmp_path, gallery=True, min_free_bytes=0, authorize=lambda _: Grant.everything()
    )
    inner = FastAPI(lifespan=stillroom.lifespan)
    inner.include_router(stillroom.router, prefix="/api/v1")
    app = FastAPI(lifespan=stillroom.lifespan)
    app.mount("/a b", inner)
    async with client_of(app) as client:
        await stillroom.images.save("in/a.png", picture())
        targets = ["storage/images?prefix=in/", "storage/runs"]
        answer = await client.post("/a%20b/api/v1/batch", json={"targets": targets})
        assert answer.status_code == 200, answer.text

    listed, runs = answer.json()["results"]
    assert listed == {"status": 200, "body": ["in/a.png"]}
    assert [run["folder"] for run in runs["body"]] == ["in"]


async def test_the_page_is_beside_the_operations(tmp_path: Path) -> None:
    app = FastAPI()
    app.include_router(create_router(tmp_path, gallery=True), prefix="/api/v1")
    async with client_of(app) as client:
        moved = await client.get("/api/v1/gallery")
        assert (moved.status_code, moved.headers["location"]) == (307, "gallery/")
        page = await client.get("/api/v1/gallery/")
        assert 'data-api="../"' in page.text
        files = re.findall(r'(?:href|src)="([0-9a-f]{16}/[a-z]+[.](?:js|css|svg))"', page.text)
        assert len(files) > 10
        for file in files:
            assert (await client.get(f"/api/v1/gallery/{file}")).status_code == 200
        assert (await client.get("/")).status_code == 404
