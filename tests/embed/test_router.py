"""The router in somebody's own FastAPI app."""

import hashlib
import io
import logging
import os
import re
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import httpx
import pytest
from fastapi import FastAPI

from pictures import picture
from services.seaweedfs import SeaweedFS, bucket_variables
from stillroom.app import create_app
from stillroom.auth.grants import Grant
from stillroom.auth.tokens import mint_token
from stillroom.embed import Stillroom, create_router
from stillroom.errors import (
    ConfigurationError,
    ImageNotFound,
    InvalidPath,
    PreconditionFailed,
    Unauthenticated,
)
from stillroom.settings import Settings

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


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    app = FastAPI(title="My compute server")

    @app.get("/generate")
    async def generate() -> dict[str, str]:
        return {"made": "an image"}

    app.include_router(create_router(tmp_path, min_free_bytes=0), prefix="/api/v1")
    secret = (tmp_path / ".stillroom/secret").read_text().strip()
    token = mint_token(secret, expires_in=timedelta(minutes=5))
    async for client in client_of(app, Authorization=f"Bearer {token}"):
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
    of_server = create_app(Settings.of_values(data_dir=tmp_path, min_free_bytes=0)).openapi()

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
        async for client in client_of(app):
            url = "/storage/images/a.png"
            assert (await client.post(url, files={"file": data})).status_code == 200
            assert (await client.get(url)).content == data


@pytest.mark.parametrize("mount", ["/a:b", "/u@x", "/v(1)", "/it's", "/a+b", "/ü", "/%41"])
async def test_an_app_may_be_mounted_below_any_name(tmp_path: Path, mount: str) -> None:
    inner = FastAPI()
    inner.include_router(
        create_router(tmp_path, authorize=lambda _: Grant.everything(), min_free_bytes=0)
    )
    outer = FastAPI()
    outer.mount(mount, inner)
    async for client in client_of(outer):
        base = f"{mount.replace('%', '%25')}/storage/images"
        assert (await client.post(f"{base}/x", files={"file": PNG})).json()["path"] == "x"
        assert (await client.get(base)).json() == ["x"]
        assert (await client.get(f"{base}%0a")).status_code == 404


async def test_an_app_may_decide_itself_who_is_asking(tmp_path: Path) -> None:
    def my_own_login(authorization: str | None) -> Grant:
        if authorization != "Session 42":
            raise Unauthenticated
        return Grant(frozenset(["storage:read", "storage:write"]), folder="user-42/")

    app = FastAPI()
    app.include_router(create_router(tmp_path, authorize=my_own_login, min_free_bytes=0))
    async for client in client_of(app, Authorization="Session 42"):
        url = "/storage/images/user-42/a.png"
        assert (await client.post(url, files={"file": PNG})).status_code == 200
        assert (await client.get("/storage/images/else/a.png")).status_code == 403
        assert (await client.delete(url)).status_code == 403
        library = "/media-resources"
        assert (await client.get(library)).status_code == 403
        ingest = {"storage_key": "compute/user-42/a.png"}
        assert (await client.post(f"{library}/ingest", json=ingest)).status_code == 403
        sign = "/storage/signed-urls"
        mine = await client.post(sign, json={"path": "user-42/a.png"})
        assert mine.status_code == 200
        assert (await client.post(sign, json={"path": "else/a.png"})).status_code == 403
        query = mine.json()["url"].partition("?")[2]
        del client.headers["authorization"]
        assert (await client.get(f"{url}?{query}")).content == PNG
        for closed in (url, library, "/storage/images"):
            assert (await client.get(closed)).status_code == 401
        assert (await client.post(sign, json={"path": "user-42/a.png"})).status_code == 401


async def test_urls_are_signed_with_the_secret_also_below_a_mount(tmp_path: Path) -> None:
    inner = FastAPI()
    inner.include_router(
        create_router(
            tmp_path,
            authorize=lambda field: Grant.everything() if field else refuse(),
            jwt_secret="s" * 32,
            public_url="https://img.example/store",
            min_free_bytes=0,
        )
    )
    outer = FastAPI()
    outer.mount("/mounted", inner)
    async for client in client_of(outer):
        mine = {"Authorization": "me"}
        base = "/mounted/storage/images"
        await client.post(f"{base}/a b.png", files={"file": PNG}, headers=mine)
        signed = await client.post(
            "/mounted/storage/signed-urls", json={"path": "a b.png"}, headers=mine
        )
        url = signed.json()["url"].removeprefix("https://img.example/store")
        assert (await client.get(f"{base}{url}")).content == PNG
        assert (await client.get(f"{base}{url}x")).status_code == 401
        assert (await client.get(f"{base}/a b.png")).status_code == 401


def refuse() -> Grant:
    raise Unauthenticated


async def test_an_app_may_wait_for_whoever_knows_who_is_asking(tmp_path: Path) -> None:
    async def ask_the_directory(authorization: str | None) -> Grant:
        await anyio.lowlevel.checkpoint()
        if authorization != "Session 42":
            raise Unauthenticated
        return Grant.everything()

    app = FastAPI()
    app.include_router(create_router(tmp_path, authorize=ask_the_directory, min_free_bytes=0))
    async for client in client_of(app, Authorization="Session 42"):
        assert (await client.get("/storage/images")).json() == []
        other = {"Authorization": "Session 43"}
        assert (await client.get("/storage/images", headers=other)).status_code == 401


async def test_a_mounted_app_checks_the_raw_path_too(tmp_path: Path) -> None:
    inner = FastAPI()
    inner.include_router(
        create_router(tmp_path, authorize=lambda _: Grant.everything(), min_free_bytes=0)
    )
    outer = FastAPI()
    outer.mount("/mounted here", inner)
    base = "/mounted%20here/storage/images"
    async for client in client_of(outer):
        assert (await client.post(f"{base}/a%2Fb.png", files={"file": PNG})).json()[
            "path"
        ] == "a/b.png"
        assert (await client.get(f"{base}/a/b.png")).content == PNG
        assert (await client.get(f"{base}/%2e%2e/x")).status_code == 422
        assert (await client.get("/mounted%20here/storage/im%61ges/a/b.png")).status_code == 404


async def test_an_app_may_have_its_images_read_by_anybody(tmp_path: Path) -> None:
    asked: list[str | None] = []

    def my_own_login(authorization: str | None) -> Grant:
        asked.append(authorization)
        if authorization != "Session 42":
            raise Unauthenticated
        return Grant(frozenset(["storage:write"]))

    app = FastAPI()
    app.include_router(
        create_router(tmp_path, authorize=my_own_login, min_free_bytes=0, public_read=True)
    )
    async for client in client_of(app):
        url = "/storage/images/a.png"
        mine, other = {"Authorization": "Session 42"}, {"Authorization": "Session 43"}
        assert (await client.post(url, files={"file": PNG}, headers=mine)).status_code == 200
        asked.clear()
        found = await client.get(url)
        assert (found.content, asked) == (PNG, [])
        assert (await client.get(f"{url}?signature=of-another")).status_code == 401
        assert found.headers["cache-control"] == "public, max-age=0, must-revalidate"
        assert (await client.get(url, headers=mine)).content == PNG
        assert (await client.get(url, headers=other)).status_code == 401
        assert (await client.get("/storage/images")).status_code == 401


@pytest.mark.parametrize("argument", [{}, {"storage": "disk"}])
async def test_the_variables_select_the_backend_unless_the_disk_is_meant(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    seaweed: SeaweedFS,
    argument: dict[str, Any],
) -> None:
    for name, value in bucket_variables(seaweed).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("STILLROOM_DATA_DIR", str(tmp_path))
    caplog.set_level(logging.INFO)
    app = FastAPI()
    app.include_router(create_router(authorize=lambda _: Grant.everything(), **argument))

    chosen = "Disk" if argument else "R2"
    assert [line for line in caplog.messages if line.startswith(f"storage: {chosen}ImageStorage")]
    for _ in range(2):  # as an app is started again in each of its tests
        async for client in client_of(app):
            url = "/storage/images/a"
            assert (await client.post(url, files={"file": PNG})).status_code == 200
            assert (await client.get("/storage/images")).json() == ["a"]
            assert (await client.get(url)).status_code == (200 if argument else 302)
    assert (tmp_path / "compute/a").exists() == bool(argument)
    seaweed.empty()


async def test_half_a_bucket_stops_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("R2_ENDPOINT_URL", "https://account.r2.cloudflarestorage.com")

    with pytest.raises(ConfigurationError, match="R2_BUCKET_NAME must be set too"):
        create_router(tmp_path / "new")
    assert not (tmp_path / "new/compute").exists()


def test_variables_are_read_and_arguments_win(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STILLROOM_DATA_DIR", str(tmp_path / "of-variable"))
    create_router(min_free_bytes=0)
    create_router(str(tmp_path / "of-argument"))
    assert (tmp_path / "of-variable/compute").is_dir()
    assert (tmp_path / "of-argument/compute").is_dir()

    with pytest.raises(ConfigurationError, match="no such setting: max_upload"):
        create_router(tmp_path, max_upload=1)
    with pytest.raises(ConfigurationError, match="MAX_UPLOAD_BYTES"):
        create_router(tmp_path, max_upload_bytes=0)
    monkeypatch.delenv("STILLROOM_DATA_DIR")
    monkeypatch.setenv("STILLROOM_DATADIR", str(tmp_path))
    with pytest.raises(ConfigurationError, match="did you mean STILLROOM_DATA_DIR"):
        create_router(max_upload_bytes=1)


MISPLACED = "public URLs begin with http://127.0.0.1:8000/api/v1/storage/images"


@pytest.mark.parametrize(
    ("base", "prefix", "settings", "warned"),
    [
        ("http://127.0.0.1:8000", "/api/v1", {}, False),
        ("http://127.0.0.1:8000", "/v1", {}, True),
        ("http://127.0.0.1:9000", "/api/v1", {}, True),
        ("http://compute:8000", "/api/v1", {}, True),
        ("http://compute", "/api/v1", {"public_base_url": "https://img.example"}, False),
        ("http://compute", "", {"public_url": "https://img.example/storage/images"}, False),
    ],
)
async def test_the_first_save_warns_of_public_urls_that_lead_elsewhere(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    base: str,
    prefix: str,
    settings: dict[str, Any],
    warned: bool,
) -> None:
    app = FastAPI()
    router = create_router(tmp_path, authorize=lambda _: Grant.everything(), **settings)
    app.include_router(router, prefix=prefix)
    async for client in client_of(app):
        for name in ("a", "b"):
            url = f"{base}{prefix}/storage/images/{name}"
            assert (await client.post(url, files={"file": PNG})).status_code == 200

    warnings = [line for line in caplog.messages if line.startswith(MISPLACED)]
    assert len(warnings) == warned


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
        async for client in client_of(outer):
            url = "/compute/storage/images/a"
            assert (await client.post(url, files={"file": PNG})).status_code == 200
        stillroom = Stillroom(tmp_path, authorize=lambda _: Grant.everything(), min_free_bytes=0)
        inner.router.routes.clear()
        inner.include_router(stillroom.router)
    assert said in caplog.text


async def test_the_lifespan_sweeps_also_where_it_is_given_twice(tmp_path: Path) -> None:
    stillroom = Stillroom(
        tmp_path, min_free_bytes=0, deletion_grace_seconds=0, sweep_interval_seconds=0.05
    )
    app = FastAPI(lifespan=stillroom.lifespan)
    app.include_router(stillroom.router)
    for number in range(2):
        async for _ in client_of(app):
            path = f"a/{number}.png"
            await stillroom.images.save(path, picture(size=(8 + number, 8)))
            resource = await stillroom.media.ingest_from_storage_key(f"compute/{path}")
            with anyio.fail_after(60):
                while await stillroom.images.exists(path):  # noqa: ASYNC110  (it sends no event)
                    await anyio.sleep(0.02)  # until it holds; there is a deadline
            assert (tmp_path / resource.storage_key.text).is_file()


@pytest.fixture(params=["disk", "bucket"])
def stillroom(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Stillroom]:
    settings: dict[str, Any] = {"min_free_bytes": 0}
    if request.param == "disk":
        yield Stillroom(tmp_path, **settings)
        return
    seaweed: SeaweedFS = request.getfixturevalue("seaweed")
    settings |= {name.lower(): value for name, value in bucket_variables(seaweed).items()}
    yield Stillroom(tmp_path, **settings)
    seaweed.empty()


async def test_the_apps_own_endpoints_use_the_sdks_names(
    stillroom: Stillroom, tmp_path: Path
) -> None:
    app, large = FastAPI(), os.urandom(20 * 1024**2)
    seen: list[int] = []
    app.include_router(stillroom.router)
    async for _ in client_of(app):
        images = stillroom.images
        saved = await images.save("a/b c.png", PNG)
        assert (saved.path, saved.size, saved.sha256) == (
            "a/b c.png",
            len(PNG),
            hashlib.sha256(PNG).hexdigest(),
        )
        await images.save("a/large", large, progress=lambda event: seen.append(event.done))
        assert seen[-1] == len(large)
        assert (await images.save_unless_same("a/b c.png", PNG)).skipped
        assert await images.read("a/large") == large
        with await images.open("a/b c.png") as file:
            assert file.read() == PNG
        await images.download("a/large", tmp_path / "large")
        assert (tmp_path / "large").read_bytes() == large
        assert await images.exists("a/large")
        assert not await images.exists("a/none")
        await images.copy("a/b c.png", "b")
        assert [path async for path in images.iter()] == ["a/b c.png", "a/large", "b"]
        assert "signature=" in await images.signed_url("b")
        await images.delete("a/large")
        with pytest.raises(ImageNotFound, match="a/large: no such image"):
            await images.read("a/large")
        with pytest.raises(PreconditionFailed):
            await images.save("b", PNG, if_none_match="*")
        with pytest.raises(InvalidPath):
            await images.save("../b", PNG)


async def test_what_goes_wrong_on_the_callers_side_is_the_callers_own(
    stillroom: Stillroom,
) -> None:
    class Broken(io.BytesIO):
        def write(self, _: object) -> int:
            raise BrokenPipeError("the reader has gone")

    app = FastAPI()
    app.include_router(stillroom.router)
    async for _ in client_of(app):
        await stillroom.images.save("a", PNG)
        with pytest.raises(BrokenPipeError):
            await stillroom.images.download("a", Broken())

        def refuse_progress(_: object) -> None:
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await stillroom.images.save("b", PNG, progress=refuse_progress)
        assert not await stillroom.images.exists("b")
        with pytest.raises(InvalidPath, match="must begin with `compute/`"):
            await stillroom.media.ingest_from_storage_key("a")


async def test_the_page_is_beside_the_operations(tmp_path: Path) -> None:
    app = FastAPI()
    app.include_router(create_router(tmp_path, gallery=True), prefix="/api/v1")
    async for client in client_of(app):
        moved = await client.get("/api/v1/gallery")
        assert (moved.status_code, moved.headers["location"]) == (307, "gallery/")
        page = await client.get("/api/v1/gallery/")
        assert 'data-api="../"' in page.text
        files = re.findall(r'(?:href|src)="([0-9a-f]{16}/[a-z]+[.](?:js|css|svg))"', page.text)
        assert len(files) > 10
        for file in files:
            assert (await client.get(f"/api/v1/gallery/{file}")).status_code == 200
        assert (await client.get("/")).status_code == 404
