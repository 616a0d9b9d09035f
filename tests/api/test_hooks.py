"""Hooks of features take part in the operations on images."""

from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import httpx
import pytest
from fastapi import FastAPI, Response

from in_process import client_of
from pictures import picture
from stillroom.errors import BackendUnavailable, Forbidden
from stillroom.paths import StorageKey
from stillroom.store.api.call import Call
from stillroom.store.api.deletions import Deletions
from stillroom.store.api.entries import EntryListing
from stillroom.store.api.images import ImageOperations
from stillroom.store.api.routes import operation_router
from stillroom.store.auth.grants import Grant
from stillroom.store.choose import open_storage
from stillroom.store.hooks import Finish, Hooks, RequestHeader
from stillroom.store.http.fields import Fields
from stillroom.store.http.query import ListParameters
from stillroom.store.settings import Settings
from stillroom.store.values import Condition, StoredImage


class Everything:
    """Hooks of all kinds that note their calls."""

    query: ClassVar[type] = ListParameters
    headers: ClassVar[tuple[RequestHeader, ...]] = (
        RequestHeader("Colour", "Colour of the frame.", "red"),
    )

    def __init__(self) -> None:
        self.calls: list[object] = []
        self.finish: Finish | None = None

    async def respond(
        self, call: Call, key: StorageKey, operations: ImageOperations
    ) -> Response | None:
        del key, operations
        return Response(b"replaced") if b"prefix" in call.raw_query else None

    async def prepare(self, fields: Fields) -> Finish | None:
        if fields["colour"] == "none":
            return None
        self.calls.append(fields["colour"])

        async def finish(image: StoredImage) -> Mapping[str, object]:
            return {"colour": fields["colour"], "key": image.key.text}

        return self.finish or finish

    async def members(
        self, images: Sequence[StoredImage], deadline: float
    ) -> Mapping[StorageKey, Mapping[str, object]]:
        del deadline
        return {image.key: {"ai_mark": "iptc"} for image in images if "a.png" in image.key.text}

    async def discard(self, key: StorageKey, condition: Condition) -> Mapping[str, object]:
        del condition
        if "kept" in key.text:
            raise Forbidden("a hook keeps it")
        self.calls.append(key.text)
        return {"trash_id": "1"}


@pytest.fixture
def everything() -> Everything:
    return Everything()


@pytest.fixture
async def client(everything: Everything, tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    settings = Settings(data_dir=tmp_path, min_free_bytes=0)
    storage = open_storage(settings.storage, settings.save_rules)
    some = everything
    hooks = Hooks(read=(some,), save=(some,), entries=(some,), trash=some.discard)

    def authorize(_: str | None) -> Grant:
        return Grant.everything()

    images = ImageOperations(storage, authorize, "https://img.example", 2**20, hooks=hooks)
    app = FastAPI()
    for prefix, operations in (
        ("/images", images),
        ("/entries", EntryListing(images)),
        ("/delete", Deletions(images)),
    ):
        app.include_router(operation_router(prefix, operations, tag="Storage"))
    async with client_of(app) as opened:
        yield opened
    await storage.close()


async def save(client: httpx.AsyncClient, path: str, **headers: str) -> dict[str, Any]:
    answer = await client.post(f"/images/{path}", files={"file": picture()}, headers=headers)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def test_a_save_hook_is_called_for_its_header_alone(
    client: httpx.AsyncClient, everything: Everything
) -> None:
    saved = await save(client, "a.png", Colour="red")
    assert (saved["colour"], saved["key"]) == ("red", "compute/a.png")

    assert "colour" not in await save(client, "a.png")
    assert "colour" not in await save(client, "a.png", Colour="none")
    assert everything.calls == ["red"]


@pytest.mark.parametrize("is_newer", [False, True])
async def test_a_save_whose_hook_fails_afterwards_is_taken_back_but_no_newer_save(
    client: httpx.AsyncClient, everything: Everything, is_newer: bool
) -> None:
    async def fail(_: StoredImage) -> Mapping[str, object]:
        if is_newer:
            await save(client, "a.png")
        raise BackendUnavailable("the database is out of reach")

    everything.finish = fail
    files = {"file": picture()}
    answer = await client.post("/images/a.png", files=files, headers={"Colour": "red"})

    assert answer.status_code == 503
    assert (await client.head("/images/a.png")).status_code == (200 if is_newer else 404)


async def test_a_read_hook_may_replace_the_answer(client: httpx.AsyncClient) -> None:
    await save(client, "a.png")

    assert (await client.get("/images/a.png")).content == picture()
    assert (await client.get("/images/a.png?prefix=")).content == b"replaced"
    assert (await client.head("/images/a.png?prefix=")).headers["content-length"] == "8"


async def test_what_an_entry_hook_does_not_know_is_null(client: httpx.AsyncClient) -> None:
    await save(client, "a.png")
    await save(client, "b.png")

    entries = (await client.get("/entries")).json()

    assert [entry["ai_mark"] for entry in entries] == ["iptc", None]


async def test_a_trash_replaces_each_deletion_but_those_for_good(
    client: httpx.AsyncClient, everything: Everything
) -> None:
    for path in ("a.png", "b.png", "c.png", "kept.png"):
        await save(client, path)

    assert (await client.delete("/images/a.png")).json() == {"path": "a.png", "trash_id": "1"}
    assert (await client.delete("/images/kept.png")).status_code == 403
    batch = await client.post("/delete", json={"paths": ["kept.png", "b.png"]})
    assert (await client.delete("/images/c.png?purge=true")).json() == {"path": "c.png"}

    assert [result.get("code") for result in batch.json()["results"]] == ["forbidden", None]
    assert everything.calls == ["compute/a.png", "compute/b.png"]
    assert (await client.get("/images/c.png")).status_code == 404


async def test_the_document_has_what_hooks_add(client: httpx.AsyncClient) -> None:
    paths = (await client.get("/openapi.json")).json()["paths"]["/images/{path}"]
    names = {
        method: {parameter["name"] for parameter in operation["parameters"]}
        for method, operation in paths.items()
    }

    assert {method for method, found in names.items() if "prefix" in found} == {"get", "head"}
    assert {method for method, found in names.items() if "Colour" in found} == {"post"}
