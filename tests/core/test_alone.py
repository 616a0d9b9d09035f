"""The core without a feature, on a disk and on a bucket, in an app of one's own. `make core`."""

from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import httpx
import pytest
from fastapi import FastAPI

from acceptance.hostile import REFUSED
from in_process import IMAGES, JWT_SECRET, PNG, client_of
from services.seaweedfs import BUCKET, KEY_ID, SECRET, SeaweedFS
from stillroom.embed import Stillroom
from stillroom.errors import ConfigurationError
from stillroom.store.auth.tokens import mint_token


@pytest.fixture(params=["disk", "bucket"])
def place(request: pytest.FixtureRequest) -> Iterator[dict[str, Any]]:
    if request.param == "disk":
        yield {"storage": "disk"}
        return
    seaweed: SeaweedFS = request.getfixturevalue("seaweed")
    yield {
        "r2_endpoint_url": seaweed.endpoint_url,
        "r2_access_key_id": KEY_ID,
        "r2_secret_access_key": SECRET,
        "r2_bucket_name": BUCKET,
    }
    seaweed.empty()


class Unchanged(httpx.URL):
    """URL that is sent as it is. In others, httpx removes `.` and `..`."""

    def __init__(self, target: bytes) -> None:
        super().__init__("http://127.0.0.1:8000/")
        self._target = target

    @property
    def raw_path(self) -> bytes:
        return self._target

    @property
    def path(self) -> str:
        return unquote(self._target.decode("ascii"))


def app_with(folder: Path, features: list[str], **settings: Any) -> FastAPI:
    store = Stillroom(
        folder, features=features, min_free_bytes=0, jwt_secret=JWT_SECRET, **settings
    )
    app = FastAPI(lifespan=store.lifespan)
    app.include_router(store.router, prefix="/api/v1")
    return app


@pytest.fixture
async def client(tmp_path: Path, place: dict[str, Any]) -> AsyncIterator[httpx.AsyncClient]:
    token = f"Bearer {mint_token(JWT_SECRET, expires_in=timedelta(hours=1))}"
    async with client_of(app_with(tmp_path, [], **place), authorization=token) as client:
        yield client


async def test_the_five_operations_work(client: httpx.AsyncClient) -> None:
    path = f"{IMAGES}/a/b.png"

    saved = await client.post(path, files={"file": PNG})

    assert saved.status_code == 200, saved.text
    assert (await client.get(IMAGES)).json() == ["a/b.png"]
    assert (await client.head(path)).headers["content-length"] == str(len(PNG))
    read = await client.get(path)
    if read.status_code == 302:
        async with httpx.AsyncClient() as bucket:
            read = await bucket.get(read.headers["location"])
    assert read.content == PNG
    assert (await client.delete(path)).json() == {"path": "a/b.png"}
    assert (await client.get(path)).status_code == 404


async def test_entries_copies_and_signed_urls_work(client: httpx.AsyncClient) -> None:
    await client.post(f"{IMAGES}/a.png", files={"file": PNG})

    copied = await client.post("/api/v1/storage/copy", json={"source": "a.png", "target": "b.png"})
    entries = (await client.get("/api/v1/storage/entries")).json()
    signed = await client.post("/api/v1/storage/signed-urls", json={"path": "b.png"})
    deleted = await client.post("/api/v1/storage/delete", json={"paths": ["a.png", "b.png"]})

    assert copied.status_code == 200, copied.text
    assert [(entry["path"], entry["ai_mark"]) for entry in entries] == [
        ("a.png", None),
        ("b.png", None),
    ]
    assert "signature=" in signed.json()["url"]
    assert deleted.json() == {"results": [{"path": "a.png"}, {"path": "b.png"}]}


@pytest.mark.parametrize("path", REFUSED, ids=lambda path: path[:40].decode("latin-1") or "empty")
async def test_a_hostile_path_is_refused_and_changes_nothing(
    client: httpx.AsyncClient, path: bytes
) -> None:
    for method in ("GET", "HEAD", "POST", "DELETE"):
        request = client.build_request(
            method, "/", files={"file": PNG} if method == "POST" else None
        )
        request.url = Unchanged(f"{IMAGES}/".encode() + path)
        assert (await client.send(request)).status_code == 422
    assert (await client.get(IMAGES)).json() == []


async def test_without_a_token_nothing_is_read_or_changed(client: httpx.AsyncClient) -> None:
    del client.headers["authorization"]

    for method, path in (("GET", IMAGES), ("POST", f"{IMAGES}/a.png"), ("GET", f"{IMAGES}/a.png")):
        assert (await client.request(method, path)).status_code == 401


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/api/v1/storage/search?q=fox"),
        ("GET", "/api/v1/storage/runs"),
        ("POST", "/api/v1/storage/runs/a/publish"),
        ("GET", "/api/v1/storage/archive"),
        ("GET", "/api/v1/storage/metadata/a.png"),
        ("POST", "/api/v1/media-resources/ingest"),
        ("GET", "/api/v1/media-dead-letters"),
        ("GET", f"{IMAGES}/a.png?width=64"),
    ],
)
async def test_a_request_for_a_feature_that_is_off_is_501_and_says_why(
    client: httpx.AsyncClient, method: str, path: str
) -> None:
    await client.post(f"{IMAGES}/a.png", files={"file": PNG})

    answer = await client.request(method, path)

    assert (answer.status_code, answer.json()["code"]) == (501, "feature_off")
    assert "it is not among the chosen features" in answer.json()["detail"]


@pytest.mark.parametrize("body", [{"archive": {"prefix": ""}}, {"run": "a"}])
async def test_a_link_to_a_zip_file_is_501_where_none_is_made(
    client: httpx.AsyncClient, body: dict[str, Any]
) -> None:
    answer = await client.post("/api/v1/storage/signed-urls", json=body)

    assert (answer.status_code, answer.json()["code"]) == (501, "feature_off")
    assert "'archive'" in answer.json()["detail"]


async def test_a_save_may_ask_for_a_signed_url(client: httpx.AsyncClient) -> None:
    fields = {"sign-url": "1h"}

    saved = await client.post(f"{IMAGES}/a.png", files={"file": PNG}, headers=fields)

    url = saved.json()["signed_url"]
    del client.headers["authorization"]
    assert (await client.head(url)).status_code == 200
    assert (await client.head(f"{url}0")).status_code == 401


async def test_links_to_runs_need_the_feature_and_others_do_not(tmp_path: Path) -> None:
    token = f"Bearer {mint_token(JWT_SECRET, expires_in=timedelta(hours=1))}"
    async with client_of(app_with(tmp_path, ["archive"]), authorization=token) as client:
        await client.post(f"{IMAGES}/a/b.png", files={"file": PNG})
        for body, status in (({"archive": {"prefix": "a/"}}, 200), ({"run": "a"}, 501)):
            answer = await client.post("/api/v1/storage/signed-urls", json=body)
            assert answer.status_code == status
        assert "'runs'" in answer.json()["detail"]


async def test_a_save_with_a_lifetime_is_refused_where_nothing_expires(
    client: httpx.AsyncClient,
) -> None:
    fields = {"expires-in": "1h"}

    answer = await client.post(f"{IMAGES}/a.png", files={"file": PNG}, headers=fields)

    assert (answer.status_code, answer.json()["code"]) == (501, "feature_off")
    assert (await client.get(IMAGES)).json() == []


def test_a_feature_that_does_not_exist_is_refused_with_the_names(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"no such feature: searching .*search"):
        Stillroom(tmp_path, features=["searching"])


async def test_a_chosen_feature_brings_what_it_needs(tmp_path: Path) -> None:
    pytest.importorskip("sqlalchemy", reason="the environment of `make core` has no database")
    token = f"Bearer {mint_token(JWT_SECRET, expires_in=timedelta(hours=1))}"
    async with client_of(app_with(tmp_path, ["search"]), authorization=token) as client:
        assert (await client.get("/api/v1/storage/search")).status_code == 200
        assert (await client.get("/api/v1/storage/runs")).status_code == 501
