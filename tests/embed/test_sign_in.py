"""The link that signs in to the gallery of an app of one's own."""

from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI

from in_process import IMAGES, client_of
from stillroom.embed import Stillroom
from stillroom.errors import ConfigurationError
from stillroom.store.auth.grants import Grant

GALLERY = "https://compute.example.com/api/v1/gallery/"
SIGN_IN = "/api/v1/sign-in"


async def test_a_link_of_the_apps_own_gives_one_token_that_may_do_everything(
    tmp_path: Path,
) -> None:
    stillroom = Stillroom(tmp_path, gallery=True, min_free_bytes=0)
    app = FastAPI()
    app.include_router(stillroom.router, prefix="/api/v1")
    async with client_of(app) as client:
        url, _, code = stillroom.sign_in_link(GALLERY).partition("#sign-in=")
        assert url == GALLERY
        assert SIGN_IN not in (await client.get("/openapi.json")).text

        first, second = [await client.post(SIGN_IN, json={"code": code}) for _ in range(2)]

        assert (first.status_code, first.headers["cache-control"]) == (200, "no-store")
        assert (second.status_code, second.json()["code"]) == (401, "sign_in_code_spent")
        client.headers["authorization"] = f"Bearer {first.json()['token']}"
        assert (await client.post(f"{IMAGES}/a", files={"file": b"x"})).status_code == 200
        assert (await client.get("/api/v1/media-resources")).status_code == 200


@pytest.mark.parametrize(
    "chosen",
    [
        {"gallery": False},
        {"gallery": True, "authorize": lambda _: Grant.everything()},
    ],
)
async def test_without_a_gallery_or_tokens_of_ours_there_is_neither_link_nor_exchange(
    tmp_path: Path, chosen: dict[str, Any]
) -> None:
    stillroom = Stillroom(tmp_path, min_free_bytes=0, **chosen)
    app = FastAPI()
    app.include_router(stillroom.router, prefix="/api/v1")

    with pytest.raises(ConfigurationError, match="pass gallery=True"):
        stillroom.sign_in_link(GALLERY)

    async with client_of(app) as client:
        assert (await client.post(SIGN_IN, json={"code": "x"})).status_code == 404
