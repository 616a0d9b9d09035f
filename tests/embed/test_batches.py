"""Batches of reads in an app with code of its own around the operations."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Request, Response
from fastapi.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from in_process import client_of
from pictures import picture
from stillroom.embed import Stillroom, create_router
from stillroom.store.auth.grants import Grant

BATCH = "/api/v1/batch"
LISTING = "storage/images?limit=1000"


def app_at(tmp_path: Path) -> FastAPI:
    stillroom = Stillroom(
        tmp_path, gallery=True, min_free_bytes=0, authorize=lambda _: Grant.everything()
    )
    app = FastAPI(lifespan=stillroom.lifespan)
    app.include_router(stillroom.router, prefix="/api/v1")
    return app


def put(tmp_path: Path, name: str) -> None:
    (tmp_path / "compute").mkdir(exist_ok=True)
    (tmp_path / "compute" / name).write_bytes(picture())


async def results(client: httpx.AsyncClient, *targets: str) -> list[Any]:
    answer = await client.post(BATCH, json={"targets": targets})
    assert answer.status_code == 200, answer.text
    return [*answer.json()["results"]]


async def test_a_read_that_fails_does_not_fail_the_others(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    app = app_at(tmp_path)

    @app.middleware("http")
    async def break_some(
        request: Request, call_next: Callable[[Request], Awaitable[Response]]
    ) -> Response:
        if request.url.path.endswith("/runs"):
            raise RuntimeError("the host's own fault")
        if request.url.path.endswith("/search"):
            return PlainTextResponse("[not JSON")
        return await call_next(request)

    put(tmp_path, "a.png")
    async with client_of(app) as client:
        listed, *others = await results(client, LISTING, "storage/runs", "storage/search")

    assert listed == {"status": 200, "body": ["a.png"]}
    assert others == [{"status": 502, "body": None}] * 2
    assert "the host's own fault" in caplog.text


@dataclass
class Heard:
    """The fields of all GET requests, and the kinds of the messages that were received for them."""

    fields: list[dict[str, str]] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)


class Listening:
    """A middleware that receives the messages of GET requests as fast as they come."""

    def __init__(self, app: ASGIApp, heard: Heard) -> None:
        self.app, self.heard = app, heard

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "GET":
            await self.app(scope, receive, send)
            return
        self.heard.fields.append({name.decode(): text.decode() for name, text in scope["headers"]})

        async def listen() -> None:
            while len(self.heard.messages) < 1000:
                self.heard.messages.append((await receive())["type"])

        listening = asyncio.create_task(listen())
        await asyncio.sleep(0)
        await self.app(scope, receive, send)
        listening.cancel()


async def test_a_read_receives_one_message_and_then_waits(tmp_path: Path) -> None:
    app, heard = app_at(tmp_path), Heard()
    app.add_middleware(Listening, heard=heard)
    async with client_of(app) as client:
        assert len(await results(client, LISTING, "storage/runs")) == 2

    assert heard.messages == ["http.request"] * 2


async def test_a_read_has_the_fields_of_the_batch_that_fit_it(tmp_path: Path) -> None:
    app, heard = app_at(tmp_path), Heard()
    app.add_middleware(Listening, heard=heard)
    unfit = {
        "accept-encoding": "gzip",
        "expect": "100-continue",
        "if-match": '"a"',
        "if-none-match": "*",
        "range": "bytes=0-0",
    }
    fit = {"authorization": "Bearer one", "cookie": "session=1", "x-request-id": "two"}
    async with client_of(app, **unfit, **fit) as client:
        (listed,) = await results(client, LISTING)

    assert listed["status"] == 200
    (fields,) = heard.fields
    assert fields.items() >= fit.items()
    assert not fields.keys() & {*unfit, "content-length", "content-type"}


async def test_all_responses_of_a_batch_have_one_limit(tmp_path: Path) -> None:
    app, heard = app_at(tmp_path), Heard()
    app.add_middleware(Listening, heard=heard)
    for number in range(600):
        put(tmp_path, f"{number:03}{'a' * 240}")
    async with client_of(app) as client:
        one, two = await results(client, LISTING, LISTING)
        assert len(one["body"]) == len(two["body"]) == 600
        heard.fields.clear()
        answer = await client.post(BATCH, json={"targets": [LISTING] * 60})

    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")
    assert len(heard.fields) < 50, "the rest is not read"


async def test_the_token_is_checked_before_the_body_is_read(tmp_path: Path) -> None:
    app = FastAPI()
    app.include_router(create_router(tmp_path, gallery=True, min_free_bytes=0), prefix="/api/v1")
    async with client_of(app) as client:
        for content in (b"no JSON", b'{"targets": ["storage/images"]}'):
            answer = await client.post(BATCH, content=content)
            assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated")


async def test_a_target_is_not_longer_than_2048_characters(tmp_path: Path) -> None:
    start = "storage/search?q="
    async with client_of(app_at(tmp_path)) as client:
        assert len(await results(client, start + "a" * (2048 - len(start)))) == 1
        answer = await client.post(BATCH, json={"targets": [start + "a" * (2049 - len(start))]})

    assert answer.status_code == 422
    assert "2048 characters" in answer.text


async def test_a_batch_tells_the_permissions_of_the_client(tmp_path: Path) -> None:
    grant = Grant.confined_to(frozenset({"storage:read", "storage:write"}), "cats")
    app = FastAPI()
    app.include_router(
        create_router(tmp_path, gallery=True, min_free_bytes=0, authorize=lambda _: grant)
    )
    async with client_of(app) as client:
        answer = await client.post("/batch", json={"targets": []})
    assert answer.json() == {
        "claims": {"scope": "storage:read storage:write", "prefix": "cats/"},
        "results": [],
    }
