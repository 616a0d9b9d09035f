"""Copying one image and deleting many, over HTTP."""

import json
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from running import IMAGES, Server

pytestmark = pytest.mark.hosts

COPY = "/api/v1/storage/copy"
DELETE = "/api/v1/storage/delete"
SIGN = "/api/v1/storage/signed-urls"
INGEST = "/api/v1/media-resources/ingest"
PNG = b"\x89PNG\r\n\x1a\n" + bytes(100)
JSON = {"Content-Type": "application/json"}


def save(client: httpx.Client, path: str, data: bytes = PNG) -> dict[str, Any]:
    answer = client.post(f"{IMAGES}/{quote(path)}", files={"file": data})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def test_a_copy_is_answered_as_a_save_is(server: Server, client: httpx.Client, folder: str) -> None:
    source, target = f"{folder}/tom & jérôme.png", f"{folder}/new/a %.png"
    saved = save(client, source)

    answer = client.post(COPY, json={"source": source, "target": target})

    copied = answer.json()
    assert answer.status_code == 200
    url = f"{server.images}/{quote(target)}"
    assert copied == {**saved, "path": target, "url": url, "etag": copied["etag"]}
    client.delete(f"{IMAGES}/{quote(source)}")
    assert client.get(f"{IMAGES}/{quote(target)}").content == PNG


def test_copying_replaces_what_is_there(client: httpx.Client, folder: str) -> None:
    save(client, f"{folder}/a", b"new")
    save(client, f"{folder}/b", b"old")
    assert client.post(COPY, json={"source": f"{folder}/a", "target": f"{folder}/b"}).is_success
    assert client.get(f"{IMAGES}/{folder}/b").content == b"new"


@pytest.mark.hosts("disk")
def test_copies_are_refused_as_saves_are(server: Server, client: httpx.Client, folder: str) -> None:
    a, b, elsewhere = f"{folder}/a", f"{folder}/b", "elsewhere/a"
    save(client, a)
    for options, source, target, code in (
        ([], f"{folder}/none", b, "not_found"),
        ([], a, f"{a}/below", "path_conflict"),
        ([], a, a, "invalid_parameter"),
        ([], "../a", b, "invalid_path"),
        ([], a, "/b", "invalid_path"),
        (["--scope", "storage:read"], a, b, "forbidden"),
        (["--scope", "storage:write"], a, b, "forbidden"),
        (["--scope", "storage:write"], a, "../b", "forbidden"),
        (["--prefix", folder], elsewhere, b, "forbidden"),
        (["--prefix", folder], a, elsewhere, "forbidden"),
    ):
        with server.client(*options) as caller:
            answer = caller.post(COPY, json={"source": source, "target": target})
            assert answer.json()["code"] == code, (options, source, target)
    guarded = client.post(COPY, json={"source": a, "target": b}, headers={"If-None-Match": "*"})
    assert guarded.json()["code"] == "invalid_parameter"
    assert client.get(IMAGES, params={"prefix": f"{folder}/"}).json() == [a]


def test_many_are_deleted_and_each_is_answered_for_itself(
    server: Server, client: httpx.Client, folder: str
) -> None:
    paths = [f"{folder}/{number} é.png" for number in range(40)]
    for path in paths:
        save(client, path)
    save(client, f"{folder}-not/a")

    with server.client("--scope", "storage:delete", "--prefix", folder) as deleter:
        asked = [*paths, f"{folder}/none", "../x", f"{folder}-not/a", "\ud800", folder]
        answer = deleter.post(DELETE, content=json.dumps({"paths": asked}), headers=JSON)

    results = answer.json()["results"]
    assert results[:40] == [{"path": path} for path in paths]
    assert [result["path"] for result in results] == asked
    assert [result["code"] for result in results[40:]] == [
        "not_found",
        "invalid_path",
        "forbidden",
        "invalid_path",
        "forbidden",
    ]
    assert client.get(IMAGES, params={"prefix": folder}).json() == [f"{folder}-not/a"]


@pytest.mark.hosts("uvicorn")  # hypercorn may leave a refused body without an answer
@pytest.mark.parametrize("target", [COPY, DELETE])
def test_a_list_needs_a_token_json_and_post(
    server: Server, client: httpx.Client, target: str
) -> None:
    for headers in ({}, {"Authorization": "Bearer x.y.z"}):
        answer = httpx.post(f"{server.url}{target}", content=b"{", headers=headers)
        assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
    assert client.post(target, data={"paths": "a"}).status_code == 415
    assert client.post(target, content=b"x" * 5 * 1024**2, headers=JSON).status_code == 413
    refused = client.get(target)
    assert (refused.status_code, refused.headers["allow"]) == (405, "POST")
    assert client.post(target.replace("/s", "/%73"), json={}).status_code == 404


@pytest.mark.parametrize(("target", "scope"), [(COPY, "storage:read"), (DELETE, "storage:write")])
def test_the_scope_is_asked_for_before_the_body(server: Server, target: str, scope: str) -> None:
    with server.client("--scope", scope) as caller:
        answer = caller.post(target, content=b"{", headers=JSON)

    assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")


@pytest.mark.parametrize("target", [COPY, DELETE, SIGN, INGEST])
def test_of_names_that_mean_nothing_one_is_told(client: httpx.Client, target: str) -> None:
    answer = client.post(target, json={str(number): 0 for number in range(2000)})

    assert answer.status_code == 422
    assert [fault["loc"] for fault in answer.json()["detail"]] == [["body", "0"]]


@pytest.mark.parametrize("target", [DELETE, SIGN])
def test_a_body_of_300_000_values_is_422(client: httpx.Client, target: str) -> None:
    body = json.dumps({str(number): 0 for number in range(300_000)}, separators=(",", ":"))

    answer = client.post(target, content=body, headers=JSON)

    assert answer.status_code == 422
    assert answer.json()["detail"][0]["loc"] == ["body"]
    assert "4096 values" in answer.text


@pytest.mark.parametrize(
    ("target", "body", "loc"),
    [
        (DELETE, {"paths": []}, ["body", "paths"]),
        (DELETE, {"paths": ["a"] * 1001}, ["body", "paths"]),
        (DELETE, {"paths": ["a", 1]}, ["body", "paths", "1"]),
        (DELETE, {"paths": ["a"], "force": True}, ["body", "force"]),
        (DELETE, {}, ["body", "paths"]),
        (DELETE, [], ["body"]),
        (COPY, {"source": "a"}, ["body", "target"]),
        (COPY, {"source": "../a", "target": "b"}, ["body", "source"]),
        (COPY, {"source": "a", "target": "b\x00"}, ["body", "target"]),
        (COPY, {"source": "a", "target": "b", "move": True}, ["body", "move"]),
        (COPY, 1, ["body"]),
    ],
)
def test_422_says_where_in_the_list(
    client: httpx.Client, target: str, body: Any, loc: list[str]
) -> None:
    answer = client.post(target, json=body)

    assert answer.status_code == 422
    assert answer.json()["detail"][0]["loc"] == loc
