"""Runs over HTTP: published once, with what is there, and never taken by an upload."""

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from running import IMAGES, Server, exchange, parsed, running, verify

pytestmark = pytest.mark.hosts

RUNS = "/api/v1/storage/runs"
STORAGE = "/api/v1/storage"
PNG = b"\x89PNG\r\n\x1a\n" + bytes(100)


def save(client: httpx.Client, path: str, data: bytes = PNG, **headers: str) -> dict[str, Any]:
    answer = client.post(f"{IMAGES}/{quote(path)}", files={"file": data}, headers=headers)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def publish(client: httpx.Client, run: str, **form: object) -> httpx.Response:
    return client.post(f"{RUNS}/{quote(run)}/publish", json=form)


@pytest.fixture
def run(client: httpx.Client, folder: str) -> str:
    """A run of four images."""
    for number in range(4):
        save(client, f"{folder}/run é/{number}.png", PNG + bytes([number]))
    return f"{folder}/run é"


def test_without_a_body_what_is_there_is_published(client: httpx.Client, run: str) -> None:
    published = client.post(f"{RUNS}/{quote(run)}/publish")

    assert (published.status_code, published.json()["count"]) == (200, 4)
    assert publish(client, run, expected=4).json() == published.json()


def test_a_run_is_published_with_what_is_there(client: httpx.Client, run: str) -> None:
    before = client.get(f"{RUNS}/{quote(run)}")
    wrong = publish(client, run, expected=5)
    answer = publish(client, run, expected=4)
    again = publish(client, run)

    assert (before.status_code, before.json()["state"], before.json()["count"]) == (200, "open", 4)
    assert before.json()["published_at"] is None
    assert wrong.status_code == 409, wrong.text
    assert (wrong.json()["code"], wrong.json()["count"]) == ("run_conflict", 4)
    assert answer.status_code == 200, answer.text
    said = answer.json()
    assert (said["folder"], said["state"], said["count"]) == (run, "published", 4)
    assert said["images"] == before.json()["images"]
    assert said["images"][0]["sha256"] == hashlib.sha256(PNG + b"\0").hexdigest()
    assert again.json() == said
    shown = client.get(f"{RUNS}/{quote(run)}")
    assert (shown.json(), shown.headers["content-type"]) == (said, "application/json")
    current = client.get(f"{RUNS}/{quote(run)}", headers={"If-None-Match": shown.headers["etag"]})
    assert current.status_code == 304


def test_a_published_run_does_not_become_another_one(client: httpx.Client, run: str) -> None:
    said = publish(client, run).json()
    save(client, f"{run}/late.png")

    refused = publish(client, run, expected=5)

    assert (refused.status_code, refused.json()["count"]) == (409, 5)
    assert client.get(f"{RUNS}/{quote(run)}").json() == said


@pytest.mark.hosts("disk")
def test_the_manifest_is_a_file_beside_the_images(
    server: Server, client: httpx.Client, run: str
) -> None:
    said = publish(client, run).json()

    assert json.loads((server.data / "compute" / run / ".run.json").read_bytes()) == said


@pytest.mark.both_paths(whole=True)
def test_the_name_of_a_manifest_is_no_images(client: httpx.Client, run: str) -> None:
    publish(client, run)
    taken = f"{run}/.run.json"
    target = f"{IMAGES}/{quote(taken)}"

    answers = [
        client.post(target, files={"file": PNG}),
        client.post(f"{target}/below.png", files={"file": PNG}),
        client.get(target),
        client.head(target),
        client.delete(target),
        client.get(f"{target}?width=64"),
        client.get(f"{target}?expires=9999999999&kid=0&signature=0"),
        client.post(f"{STORAGE}/copy", json={"source": f"{run}/0.png", "target": taken}),
        client.post(f"{STORAGE}/copy", json={"source": taken, "target": f"{run}/x.png"}),
        client.post(f"{STORAGE}/signed-urls", json={"path": taken}),
        client.post("/api/v1/media-resources/ingest", json={"storage_key": f"compute/{taken}"}),
        publish(client, f"{run}/.run.json"),
    ]
    (deleted,) = client.post(f"{STORAGE}/delete", json={"paths": [taken]}).json()["results"]

    assert [answer.status_code for answer in answers] == [422] * len(answers)
    assert {answer.headers["stillroom-error"] for answer in answers} == {"invalid_path"}
    assert deleted["code"] == "invalid_path"
    assert client.get(f"{RUNS}/{quote(run)}").json()["state"] == "published"
    listed = client.get(IMAGES, params={"prefix": f"{run}/", "limit": 100}).json()
    described = client.get(f"{STORAGE}/entries", params={"prefix": f"{run}/"}).json()
    assert listed == [entry["path"] for entry in described]
    assert len(listed) == 4


def test_a_deleted_run_is_open_until_its_images_are_gone(
    server: Server, client: httpx.Client, run: str
) -> None:
    target = f"{RUNS}/{quote(run)}"
    publish(client, run)
    with server.client("--scope", "storage:write") as writer:
        assert writer.delete(target).status_code == 403
    with server.client("--prefix", f"{run}/in") as other:
        assert other.delete(target).status_code == 403

    answer = client.delete(target)

    assert answer.status_code == 200, answer.text
    assert answer.json() == {"folder": run, "marked": 4, "kept": 0, "newer": 0}
    assert client.get(target).json()["state"] == "open"
    refused = publish(client, run)
    assert (refused.status_code, refused.json()["code"]) == (409, "run_conflict")
    assert client.delete(target).json() == answer.json()


def test_a_folder_with_a_published_run_in_it_is_not_deleted(
    client: httpx.Client, run: str, folder: str
) -> None:
    publish(client, run)

    refused = client.delete(f"{RUNS}/{folder}")

    assert (refused.status_code, refused.json()["code"]) == (409, "run_conflict")
    assert client.get(f"{RUNS}/{quote(run)}").json()["state"] == "published"
    missing = client.delete(f"{RUNS}/{folder}/none")
    assert (missing.status_code, missing.json()["code"]) == (404, "run_not_found")


@pytest.mark.hosts("none")  # it has a server of its own
def test_without_its_database_no_run_is_published_or_deleted_and_all_are_read(
    tmp_path: Path,
) -> None:
    with running(tmp_path) as server, server.client() as client:
        save(client, "runs/7/a.png")
        said = publish(client, "runs/7").json()
    away = "postgresql://stillroom@127.0.0.1:1/none"
    with running(tmp_path, database_url=away) as server, server.client() as client:
        save(client, "runs/8/a.png")
        for answer in (publish(client, "runs/8"), client.delete(f"{RUNS}/runs/7")):
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
        assert client.get(f"{RUNS}/runs/7").json() == said
        assert client.get(f"{RUNS}/runs/8").json()["state"] == "open"
        assert [run["folder"] for run in client.get(RUNS).json()] == ["runs/7", "runs/8"]


@pytest.mark.hosts("none")  # it is a command's
def test_verify_knows_a_manifest(tmp_path: Path) -> None:
    with running(tmp_path) as server, server.client() as client:
        save(client, "runs/7/a.png")
        publish(client, "runs/7").raise_for_status()
        assert verify(server.data).report["findings"] == []
        manifest = server.data / "compute/runs/7/.run.json"
        manifest.write_bytes(manifest.read_bytes()[:-1])

        assert verify(server.data).names("changed") == ["compute/runs/7/.run.json"]


@pytest.mark.workers(whole=True)
def test_clients_that_publish_one_run_at_once_get_one_manifest(
    server: Server, client: httpx.Client, run: str
) -> None:
    def published(_: int) -> tuple[int, str]:
        with server.client() as own:
            answer = publish(own, run, expected=4)
            return answer.status_code, answer.text

    with ThreadPoolExecutor(8) as pool:
        answers = set(pool.map(published, range(16)))

    assert answers == {(200, client.get(f"{RUNS}/{quote(run)}").text)}


def test_runs_are_listed_by_folder_and_by_time(client: httpx.Client, folder: str) -> None:
    for name in ("a", "b", "c", "d"):
        save(client, f"{folder}/{name}/x.png")
    for name in ("c", "a", "b"):
        assert publish(client, f"{folder}/{name}").status_code == 200

    def names(**query: object) -> list[str]:
        answer = client.get(RUNS, params={"prefix": f"{folder}/", **query})  # type: ignore[dict-item]  # plain values
        assert answer.status_code == 200, answer.text
        return [run["folder"].rpartition("/")[2] for run in answer.json()]

    assert names() == ["a", "b", "c", "d"]
    assert names(state="published") == ["a", "b", "c"]
    assert names(state="open") == ["d"]
    assert names(sort="-published") == ["b", "a", "c", "d"]
    assert names(sort="published", state="published") == ["c", "a", "b"]
    assert names(sort="-published", limit=2) == ["b", "a"]
    first = client.get(RUNS, params={"prefix": f"{folder}/", "limit": 3, "state": "published"})
    assert [run["folder"] for run in first.json()] == [f"{folder}/{name}" for name in "abc"]
    assert "next" not in first.links
    seen, query = [], f"?prefix={folder}/&limit=3"
    while query:
        page = client.get(RUNS + query)
        seen += page.json()
        query = page.links.get("next", {}).get("url", "")
    assert [(run["folder"], run["state"], run["count"]) for run in seen] == [
        (f"{folder}/a", "published", 1),
        (f"{folder}/b", "published", 1),
        (f"{folder}/c", "published", 1),
        (f"{folder}/d", "open", None),
    ]


def test_a_token_has_the_runs_of_its_folder_alone(server: Server, run: str, folder: str) -> None:
    target = f"{RUNS}/{quote(run)}"
    form = {"expected": 4}
    with server.client("--prefix", run) as own, server.client("--prefix", f"{run}/in") as other:
        assert other.post(f"{target}/publish", json=form).status_code == 403
        assert other.get(target).status_code == 403
        assert other.get(RUNS, params={"prefix": "elsewhere/"}).status_code == 403
        assert own.post(f"{RUNS}/{folder}/publish", json=form).status_code == 403
        assert own.post(f"{target}/publish", json=form).status_code == 200
        assert [found["folder"] for found in own.get(RUNS).json()] == [run]
        assert other.get(RUNS).json() == []
    with server.client("--scope", "storage:read") as reader:
        assert reader.get(target).status_code == 200
        assert reader.post(f"{target}/publish", json=form).status_code == 403
    with server.client("--scope", "storage:write") as writer:
        assert writer.get(target).status_code == writer.get(RUNS).status_code == 403
        assert writer.post(f"{target}/publish", json=form).status_code == 403
    for method, place in (("GET", RUNS), ("GET", target), ("POST", f"{target}/publish")):
        answer = httpx.request(method, f"{server.url}{place}")
        assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")


def test_what_is_no_run_is_not_found(client: httpx.Client, folder: str) -> None:
    save(client, f"{folder}/a.png")

    for name in ("none", "a.png"):
        answers = [client.get(f"{RUNS}/{folder}/{name}"), publish(client, f"{folder}/{name}")]
        for answer in answers:
            assert (answer.status_code, answer.json()["code"]) == (404, "run_not_found")


@pytest.mark.hosts("none")  # the routes are the same
def test_a_run_may_be_called_publish(client: httpx.Client, folder: str) -> None:
    save(client, f"{folder}/publish/x.png")

    shown = client.get(f"{RUNS}/{folder}/publish")
    assert (shown.json()["folder"], shown.json()["state"]) == (f"{folder}/publish", "open")
    assert publish(client, f"{folder}/publish").json()["count"] == 1


@pytest.mark.hosts("none")  # the routes are the same
@pytest.mark.parametrize(
    ("form", "where"),
    [
        ({"expected": -1}, ["body", "expected"]),
        ({"expected": "4"}, ["body", "expected"]),
        ({"expected": True}, ["body", "expected"]),
        ({"count": 4}, ["body", "count"]),
        ([], ["body"]),
    ],
)
def test_a_form_that_says_something_else_is_refused(
    client: httpx.Client, folder: str, form: object, where: list[str]
) -> None:
    answer = client.post(f"{RUNS}/{folder}/publish", json=form)

    assert (answer.status_code, answer.json()["detail"][0]["loc"]) == (422, where)


@pytest.mark.hosts("none")  # the routes are the same
@pytest.mark.parametrize(
    "query",
    [
        "state=new",
        "sort=count",
        "limit=0",
        "prefix=/",
        "prefix=%ff",
        "start_after=/a",
        "start_after=a/.run.json",
        "start_after=a&sort=published",
        "state=open&state=open",
    ],
)
def test_a_query_that_says_something_else_is_refused(client: httpx.Client, query: str) -> None:
    assert client.get(f"{RUNS}?{query}").status_code == 422


@pytest.mark.hosts("none")  # the routes are the same
@pytest.mark.parametrize(
    "raw", ["", "..%2fa", "a//b", "a/", "%00", "%ff", "x" * 256, "a/" * 507 + "b", ".run.json"]
)
def test_a_folder_that_no_path_can_have_is_refused(client: httpx.Client, raw: str) -> None:
    for answer in (
        client.get(f"{RUNS}/{raw}"),
        client.post(f"{RUNS}/{raw}/publish", json={}),
    ):
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid_path"), raw
        assert answer.json()["detail"][0]["loc"] == ["path", "folder"]


def test_other_methods_are_refused_by_name(client: httpx.Client, folder: str) -> None:
    for target in (RUNS, f"{RUNS}/{folder}/a", f"{RUNS}/{folder}/publish"):
        answer = client.put(target)
        assert (answer.status_code, answer.json()["code"]) == (405, "method_not_allowed")


@pytest.mark.hosts("none")  # an app of one's own may redirect to another spelling
@pytest.mark.parametrize("target", ["/run%73", "/runs/a/publis%68", "/%72uns/a/publish"])
def test_another_spelling_of_the_route_is_not_found(server: Server, target: str) -> None:
    method = "POST" if "publis" in target else "GET"
    request = (
        f"{method} /api/v1/storage{target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"
        f"Content-Length: 0\r\nAuthorization: Bearer {server.token()}\r\n\r\n"
    )
    assert parsed(exchange(server.port, request.encode())).status == 404
