"""An app decides itself who is asking, or leaves it to tokens and signed URLs."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from fastapi import FastAPI

from in_process import PNG, client_of
from stillroom.embed import create_router
from stillroom.errors import ConfigurationError, Unauthenticated
from stillroom.store.auth.grants import Grant
from waiting import eventually


async def test_an_app_may_decide_itself_who_is_asking(tmp_path: Path) -> None:
    def my_own_login(authorization: str | None) -> Grant:
        if authorization != "Session 42":
            raise Unauthenticated
        return Grant(frozenset(["storage:read", "storage:write"]), folder="user-42/")

    app = FastAPI()
    app.include_router(create_router(tmp_path, authorize=my_own_login, min_free_bytes=0))
    async with client_of(app, Authorization="Session 42") as client:
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


async def test_an_actor_that_events_cannot_show_is_left_out(tmp_path: Path) -> None:
    def by_subject(authorization: str | None) -> Grant:
        return replace(Grant.everything(), subject=authorization)

    app = FastAPI()
    app.include_router(create_router(tmp_path, authorize=by_subject, min_free_bytes=0))
    subjects = ["x" * 255, "x" * 256, "a\tb"]
    async with client_of(app) as client:
        for number, subject in enumerate(subjects):
            headers = {"authorization": subject}
            url = f"/storage/images/{number}.png"
            assert (await client.post(url, files={"file": PNG}, headers=headers)).is_success

        async def actors() -> list[str | None]:
            events = (await client.get("/storage/events")).json()["events"]
            return [event["actor"] for event in events]

        async def are_three() -> bool:
            return len(await actors()) == 3

        await eventually(are_three)
        assert await actors() == [subjects[0], None, None]


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
    async with client_of(outer) as client:
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
    async with client_of(app, Authorization="Session 42") as client:
        assert (await client.get("/storage/images")).json() == []
        other = {"Authorization": "Session 43"}
        assert (await client.get("/storage/images", headers=other)).status_code == 401


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
    async with client_of(app) as client:
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


async def test_the_example_of_the_page_confines_a_user_to_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (Path(__file__).parents[2] / "docs" / "embedding.md").read_text()
    blocks = re.findall(r"^```python\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    (example,) = (block for block in blocks if "authorize=" in block)
    monkeypatch.setenv("STILLROOM_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("STILLROOM_MIN_FREE_BYTES", "0")
    names: dict[str, Any] = {}
    exec(example, names)
    async with client_of(names["app"]) as client:
        images = "/api/v1/storage/images"
        ada = {"Authorization": "Bearer key-of-ada"}
        for path, status in (("ada/a.png", 200), ("grace/a.png", 403)):
            url = f"{images}/{path}"
            assert (await client.post(url, files={"file": PNG}, headers=ada)).status_code == status
        for headers in ({}, {"Authorization": "Bearer key-of-mallory"}):
            assert (await client.get(f"{images}/ada/a.png", headers=headers)).status_code == 401


@pytest.mark.parametrize("authorize", [Grant.everything, lambda _, __: None, "Session 42"])
def test_a_function_that_cannot_get_the_header_is_refused_at_the_start(
    tmp_path: Path, authorize: Any
) -> None:
    with pytest.raises(ConfigurationError, match="function of the header `Authorization`"):
        create_router(tmp_path, authorize=authorize, min_free_bytes=0)


async def no_grant(_: str | None) -> None:
    await anyio.lowlevel.checkpoint()


@pytest.mark.parametrize("authorize", [lambda _: True, lambda _: None, no_grant])
async def test_a_function_that_returns_no_grant_is_named_in_the_error(
    tmp_path: Path, authorize: Callable[[str | None], Any]
) -> None:
    app = FastAPI()
    app.include_router(create_router(tmp_path, authorize=authorize, min_free_bytes=0))
    async with client_of(app) as client:
        with pytest.raises(TypeError, match=r"must return a stillroom\.auth\.grants\.Grant, not"):
            await client.get("/storage/images")
