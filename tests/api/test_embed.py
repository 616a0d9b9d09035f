"""The router in somebody's own FastAPI app."""

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import anyio
import anyio.lowlevel
import httpx
import pytest
from fastapi import FastAPI

from pictures import picture
from stillroom.auth.grants import Grant
from stillroom.auth.tokens import mint_token
from stillroom.embed import create_router
from stillroom.errors import ConfigurationError, Unauthenticated

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


async def test_the_document_of_the_app_has_the_operations(client: httpx.AsyncClient) -> None:
    document = (await client.get("/openapi.json")).json()
    others = {f"/api/v1/storage/{name}" for name in ("copy", "delete", "entries", "signed-urls")}
    assert document["paths"].keys() == {"/generate", IMAGES, f"{IMAGES}/{{path}}", *others}


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
        assert not (tmp_path / ".stillroom/secret").exists()


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


async def test_an_app_without_a_secret_signs_nothing(tmp_path: Path) -> None:
    app = FastAPI()
    app.include_router(
        create_router(tmp_path, authorize=lambda _: Grant.everything(), min_free_bytes=0)
    )
    async for client in client_of(app):
        assert (await client.post("/storage/signed-urls", json={"path": "a"})).status_code == 404


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
        found = await client.get(f"{url}?signature=none-are-made-here")
        assert (found.content, asked) == (PNG, [])
        assert found.headers["cache-control"] == "public, max-age=0, must-revalidate"
        assert (await client.get(url, headers=mine)).content == PNG
        assert (await client.get(url, headers=other)).status_code == 401
        assert (await client.get("/storage/images")).status_code == 401


@pytest.mark.parametrize("name", ["R2_ENDPOINT_URL", "R2_ACCESS_KEY_ID"])
async def test_an_app_with_the_variables_of_a_bucket_says_that_it_means_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "https://account.r2.cloudflarestorage.com")

    with pytest.raises(ConfigurationError, match=f'{name} is set.*storage="disk"'):
        create_router(tmp_path / "new")
    assert not (tmp_path / "new").exists()

    app = FastAPI()
    app.include_router(
        create_router(tmp_path, storage="disk", authorize=lambda _: Grant.everything())
    )
    async for client in client_of(app):
        assert (await client.post("/storage/images/a", files={"file": PNG})).status_code == 200
    assert (tmp_path / "compute/a").read_bytes() == PNG
