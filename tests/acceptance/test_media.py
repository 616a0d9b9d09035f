"""The media library over HTTP and at the prompt."""

import json
import subprocess
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest

from pictures import picture
from running import IMAGES, STILLROOM, Server, exchange, free_port, parsed, running
from services.nginx import nginx_cdn
from services.s3 import Operator
from services.seaweedfs import BUCKET, KEY_ID, SECRET, SeaweedFS

pytestmark = pytest.mark.hosts

LIBRARY = "/api/v1/media-resources"
KEEPS = ("--scope", "media", "--scope", "storage:delete")


def unique(form: str = "PNG") -> bytes:
    """An image that no other test has."""
    return picture(uuid.uuid4().int, form)


def save(client: httpx.Client, path: str, data: bytes) -> str:
    assert client.post(f"{IMAGES}/{path}", files={"file": data}).status_code == 200
    return f"compute/{path}"


def ingest(client: httpx.Client, key: str, **more: Any) -> httpx.Response:
    return client.post(f"{LIBRARY}/ingest", json={"storage_key": key, **more})


def settled(resource: Any) -> Any:
    """All but the colour, which comes in the background."""
    return {name: value for name, value in resource.items() if name != "dominant_color"}


@pytest.mark.hosts("disk")
@pytest.mark.workers
def test_a_compute_result_is_ingested_and_served_from_its_url(
    client: httpx.Client, folder: str
) -> None:
    data = unique()
    key = save(client, f"{folder}/a.png", data)

    answer = ingest(client, key)

    assert answer.status_code == 200, answer.text
    resource = answer.json()
    assert resource["storage_key"] == f"media/{resource['id']}/file.png"
    assert (resource["width"], resource["height"], resource["file_size"]) == (24, 16, len(data))
    file = client.get(f"{LIBRARY}/{resource['id']}/file")
    assert resource["url"].endswith(f"{LIBRARY}/{resource['id']}/file")
    assert file.content == data
    assert file.headers["content-type"] == "image/png"
    assert file.headers["cache-control"] == "private, max-age=31536000, immutable"
    assert file.headers["x-content-type-options"] == "nosniff"
    assert settled(client.get(f"{LIBRARY}/{resource['id']}").json()) == settled(resource)
    again = save(client, f"{folder}/b.png", data)
    assert ingest(client, again).json()["id"] == resource["id"]


def test_a_file_is_served_in_ranges_and_not_sent_again(client: httpx.Client, folder: str) -> None:
    data = unique()
    resource = ingest(client, save(client, f"{folder}/a.png", data)).json()
    url = f"{LIBRARY}/{resource['id']}/file"

    part = client.get(url, headers={"Range": "bytes=1-3"})
    assert (part.status_code, part.content) == (206, data[1:4])
    etag = part.headers["etag"]
    assert client.get(url, headers={"If-None-Match": etag}).status_code == 304


@pytest.mark.hosts("disk")
def test_what_was_recorded_in_place_must_be_asked_for_each_time(
    client: httpx.Client, folder: str
) -> None:
    data = unique()
    key = save(client, f"{folder}/a.png", data)
    resource = ingest(client, key, relocate=False).json()
    url = f"{LIBRARY}/{resource['id']}/file"

    assert resource["storage_key"] == key
    assert client.get(url).content == data
    assert client.get(url).headers["cache-control"] == "private, max-age=0, must-revalidate"
    save(client, f"{folder}/a.png", unique())
    assert client.get(url).status_code == 404


def test_a_list_is_answered_item_by_item(client: httpx.Client, folder: str) -> None:
    good = save(client, f"{folder}/a.png", unique())
    text = save(client, f"{folder}/a.txt", b"no image")
    keys = [good, text, f"compute/{folder}/none.png", "media/x", "compute/../x", good]

    answer = client.post(
        f"{LIBRARY}/ingest", json={"items": [{"storage_key": key} for key in keys]}
    )

    assert answer.status_code == 200
    results = answer.json()["results"]
    assert [result["storage_key"] for result in results] == keys
    assert [result.get("code") for result in results] == [
        None, "unsupported_media", "not_found", "invalid_path", "invalid_path", None,
    ]  # fmt: skip
    assert results[0]["resource"]["id"] == results[5]["resource"]["id"]


@pytest.mark.parametrize(
    ("key", "status"),
    [
        ("", 422),
        ("a.png", 422),
        ("compute/", 422),
        ("compute/../secret", 422),
        ("compute//etc/passwd", 422),
        ("media/0/file.png", 422),
        (".stillroom/secret", 422),
        ("compute/a\0.png", 422),
        ("compute/\ud800", 422),
        ("compute/no/such.png", 404),
    ],
)
def test_a_bad_key_is_refused(client: httpx.Client, key: str, status: int) -> None:
    answer = client.post(  # by hand: httpx sends no lone surrogate
        f"{LIBRARY}/ingest",
        content=json.dumps({"storage_key": key}),
        headers={"Content-Type": "application/json"},
    )

    assert answer.status_code == status, answer.text


@pytest.mark.parametrize(
    "body",
    [
        "", "[]", "null", "{}", '{"storage_key": 1}', '{"storage_key": "compute/a", "x": 1}',
        '{"items": []}', '{"items": [{}]}', '{"storage_key": "compute/a", "relocate": "yes"}',
        '{"storage_key": "compute/a", "storage_key": "compute/b"}', "[" * 100_000,
    ],
)  # fmt: skip
def test_a_body_of_another_form_is_422(client: httpx.Client, body: str) -> None:
    answer = client.post(
        f"{LIBRARY}/ingest", content=body, headers={"Content-Type": "application/json"}
    )

    assert answer.status_code == 422, answer.text


def test_what_is_not_json_is_415_and_what_is_too_large_413(client: httpx.Client) -> None:
    assert client.post(f"{LIBRARY}/ingest", content=b"{}").status_code == 415
    long = {"storage_key": "compute/" + "a" * 2_000_000}
    assert client.post(f"{LIBRARY}/ingest", json=long).status_code == 413


@pytest.mark.workers
def test_pages_are_linked_and_filtered(client: httpx.Client, folder: str) -> None:
    made = [
        ingest(client, save(client, f"{folder}/{number}", unique("WEBP"))).json()
        for number in range(3)
    ]

    seen: list[Any] = []
    url = f"{LIBRARY}?limit=2&content_type=image%2Fwebp&created_from={made[0]['created_at'][:19]}Z"
    while url:
        page = client.get(url)
        assert page.status_code == 200, page.text
        seen += page.json()
        link = page.links.get("next", {}).get("url", "")
        url = f"{LIBRARY}{link}" if link else ""

    ours = [settled(resource) for resource in seen]
    assert [one for one in ours if one in map(settled, made)] == list(map(settled, made[::-1]))
    assert all(resource["content_type"] == "image/webp" for resource in seen)
    found = client.get(LIBRARY, params={"content_hash": made[0]["content_hash"].upper()})
    assert list(map(settled, found.json())) == [settled(made[0])]
    keys = [f"compute/{folder}/{number}" for number in (0, 2)]
    url = f"{LIBRARY}?{urlencode([('source_key', key) for key in keys])}&limit=1"
    page = client.get(url)
    rest = client.get(f"{LIBRARY}{page.links['next']['url']}")
    assert list(map(settled, page.json() + rest.json())) == [settled(made[2]), settled(made[0])]


@pytest.mark.parametrize(
    "query",
    [
        "limit=0", "limit=x", "start_after=x", "content_hash=abc", "created_from=yesterday",
        "created_before=2026-11-24", "created_from=0001-01-01T00:00:00%2B23:59", "limit=1&limit=2",
        "content_type=%00", "resource_type=%FF", "source_key=media/a", "source_key=compute/..",
        "source_key=compute/%00", "&".join(["source_key=compute/a"] * 51),
        "start_after=%7B00000000-0000-7000-8000-000000000000%7D",
    ],
)  # fmt: skip
def test_a_parameter_of_another_form_is_422(client: httpx.Client, query: str) -> None:
    assert client.get(f"{LIBRARY}?{query}").status_code == 422


def test_texts_are_set_and_taken_away_and_a_protected_resource_stays(
    client: httpx.Client, folder: str
) -> None:
    resource = ingest(client, save(client, f"{folder}/a.png", unique())).json()
    url = f"{LIBRARY}/{resource['id']}"

    changed = client.patch(url, json={"alt_text": "A cat", "caption": "猫", "protected": True})
    assert settled(changed.json()) == {
        **settled(resource), "alt_text": "A cat", "caption": "猫", "protected": True,
    }  # fmt: skip
    assert client.patch(url, json={"alt_text": None}).json()["alt_text"] is None
    assert client.get(url).json()["caption"] == "猫"
    refused = client.delete(url)
    assert (refused.status_code, refused.json()["code"]) == (409, "resource_protected")
    for bad in ({"caption": "\0"}, {"protected": None}, {"id": 1}, {"caption": "x" * 10_001}):
        assert client.patch(url, json=bad).status_code == 422
    client.patch(url, json={"protected": False})
    assert client.delete(url).json() == {"id": resource["id"]}


def test_a_change_of_what_was_changed_meanwhile_is_refused(
    client: httpx.Client, folder: str
) -> None:
    resource = ingest(client, save(client, f"{folder}/a.png", unique())).json()
    url = f"{LIBRARY}/{resource['id']}"
    seen = client.get(url).headers["etag"]
    # Computed seconds after the ingest; from here on nothing else changes it.
    client.patch(url, json={"dominant_color": "#112233"})

    def change(etag: str, **values: object) -> httpx.Response:
        return client.patch(url, json=values, headers={"If-Match": etag})

    stale = change(seen, caption="theirs is lost")
    assert (stale.status_code, stale.json()["code"]) == (412, "precondition_failed")
    changed = change(client.get(url).headers["etag"], caption="first")
    assert changed.json()["caption"] == "first"
    assert changed.headers["etag"] == client.get(url).headers["etag"]
    client.post(f"{url}/tags", json={"tags": ["cat"]})
    for etag in (changed.headers["etag"], 'W/"x"', "x"):
        assert change(etag, caption="second").status_code == 412
    assert change("*", alt_text="A cat").status_code == 200
    assert client.get(url).json()["caption"] == "first"
    missing = client.patch(f"{LIBRARY}/{uuid.uuid4()}", json={}, headers={"If-Match": "*"})
    assert missing.status_code == 404


def test_a_guard_is_kept_or_refused_and_never_passed_over(
    client: httpx.Client, folder: str
) -> None:
    resource = ingest(client, save(client, f"{folder}/a.png", unique())).json()
    url = f"{LIBRARY}/{resource['id']}"
    client.patch(url, json={"dominant_color": "#112233"})  # from here on nothing is computed

    stale = {"If-Match": '"stale"'}
    refused = client.delete(url, headers=stale)
    assert (refused.status_code, refused.json()["code"]) == (412, "precondition_failed")
    assert client.delete(url, headers={"If-None-Match": "*"}).status_code == 412
    assert client.patch(url, json={}, headers={"If-None-Match": "*"}).status_code == 412
    for method in ("POST", "PUT", "DELETE"):
        tags = client.request(method, f"{url}/tags", json={"tags": ["cat"]}, headers=stale)
        assert (tags.status_code, tags.json()["code"]) == (422, "invalid_parameter")
    assert client.get(f"{url}/tags").json() == {"tags": []}
    now = {"If-Match": client.get(url).headers["etag"]}
    assert client.delete(url, headers=now).json() == {"id": resource["id"]}


@pytest.mark.workers
def test_a_deleted_resource_is_gone_until_equal_bytes_come(
    client: httpx.Client, folder: str
) -> None:
    data = unique()
    resource = ingest(client, save(client, f"{folder}/a.png", data)).json()
    url = f"{LIBRARY}/{resource['id']}"

    assert client.delete(url).status_code == 200
    for again in (client.get(url), client.get(f"{url}/file"), client.delete(url)):
        assert (again.status_code, again.json()["code"]) == (404, "resource_not_found")

    again = ingest(client, save(client, f"{folder}/a.png", data)).json()
    assert settled(again) == settled(resource)
    assert client.get(f"{url}/file").content == data


@pytest.mark.parametrize(
    ("options", "status"),
    [
        ([], 404),
        (["--scope", "media"], 404),
        (["--scope", "storage:read", "--scope", "storage:write"], 403),
        (["--scope", "media", "--prefix", "a"], 403),
    ],
)
def test_the_library_takes_the_scope_media_and_no_folder(
    server: Server, options: list[str], status: int
) -> None:
    url = f"{LIBRARY}/{uuid.uuid4()}"
    with server.client(*options) as client:
        for method, path in (("GET", url), ("GET", f"{url}/file"), ("DELETE", url)):
            assert client.request(method, path).status_code == status
        assert client.patch(url, json={}).status_code == status
        assert client.get(LIBRARY).status_code == (200 if status == 404 else 403)
    for method, path in (("GET", url), ("GET", LIBRARY), ("POST", f"{LIBRARY}/ingest")):
        assert httpx.request(method, f"{server.url}{path}").status_code == 401


def test_a_token_with_a_prefix_ingests_what_lies_below_it_and_nothing_else(
    server: Server, client: httpx.Client, folder: str
) -> None:
    ours = save(client, f"{folder}/in/a.png", unique())
    others = save(client, f"{folder}/in-not.png", unique())
    with server.client(*KEEPS, "--prefix", f"{folder}/in") as confined:
        assert ingest(confined, ours).status_code == 200
        assert ingest(confined, others).status_code == 403
        both = {"items": [{"storage_key": key} for key in (others, ours)]}
        results = confined.post(f"{LIBRARY}/ingest", json=both).json()["results"]
    assert [result.get("code") for result in results] == ["forbidden", None]


def test_a_token_with_a_folder_sees_and_changes_nothing_of_the_rest_of_the_library(
    server: Server, client: httpx.Client, folder: str
) -> None:
    data = unique()
    theirs = ingest(client, save(client, f"{folder}/theirs/secret.png", data), relocate=False)
    url = f"{LIBRARY}/{theirs.json()['id']}"
    before = client.patch(url, json={"caption": "secret", "alt_text": "secret"}).json()
    ours = save(client, f"{folder}/ours/a.png", data)
    with server.client(*KEEPS, "--prefix", f"{folder}/ours") as confined:
        for relocate in (True, False):
            got = ingest(confined, ours, relocate=relocate)
            assert (got.status_code, got.json()["id"]) == (200, before["id"])
            assert got.json()["content_hash"] == before["content_hash"]
            assert got.json()["storage_key"] == ours
            assert "secret" not in got.text
        assert settled(client.get(url).json()) == settled(before)

        client.delete(url)
        kept = ingest(client, save(client, f"{folder}/theirs/secret.png", data)).json()
        client.delete(f"{LIBRARY}/{kept['id']}")
        refused = ingest(confined, ours)
        assert (refused.status_code, refused.json()["code"]) == (409, "resource_conflict")
        assert "secret" not in refused.text
        both = {"items": [{"storage_key": ours}]}
        answer = confined.post(f"{LIBRARY}/ingest", json=both)
        assert answer.json()["results"][0]["code"] == "resource_conflict"
    assert client.get(f"{LIBRARY}/{kept['id']}").status_code == 404


@pytest.mark.parametrize("prefix", [[], ["--prefix", "{folder}"]], ids=["everywhere", "a folder"])
def test_relocating_takes_the_right_to_delete(
    server: Server, client: httpx.Client, folder: str, prefix: list[str]
) -> None:
    key = save(client, f"{folder}/a.png", unique())
    confined = [option.format(folder=folder) for option in prefix]
    with server.client("--scope", "media", *confined) as keeper:
        refused = ingest(keeper, key)
        assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")
        assert "storage:delete" in refused.json()["detail"]
        items = {"items": [{"storage_key": key}, {"storage_key": key, "relocate": False}]}
        results = keeper.post(f"{LIBRARY}/ingest", json=items).json()["results"]
        assert [result.get("code") for result in results] == ["forbidden", None]
    with server.client(*KEEPS, *confined) as keeper:
        assert ingest(keeper, key).json()["storage_key"].startswith("media/")


def test_a_resource_remembers_where_it_came_from(client: httpx.Client, folder: str) -> None:
    data = unique()
    key = save(client, f"{folder}/a red cat.png", data)

    resource = ingest(client, key).json()

    assert resource["source_key"] == key
    assert client.get(f"{LIBRARY}/{resource['id']}").json()["source_key"] == key
    assert client.get(LIBRARY, params={"limit": 1}).json()[0]["source_key"] == key


@pytest.mark.parametrize("target", ["%69ngest", "x%2F..", "..", "{}", "0%0a", "%00"])
def test_an_odd_target_is_refused(server: Server, target: str) -> None:
    head = f"GET {LIBRARY}/{target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
    answer = exchange(server.port, f"{head}Authorization: Bearer {server.token()}\r\n\r\n".encode())

    assert parsed(answer).status in (404, 405, 422)


def test_other_methods_are_405(client: httpx.Client) -> None:
    for method, url, allowed in (
        ("PUT", LIBRARY, "GET"),
        ("GET", f"{LIBRARY}/ingest", "POST"),
        ("POST", f"{LIBRARY}/{uuid.uuid4()}", "GET, PATCH, DELETE"),
        ("DELETE", f"{LIBRARY}/{uuid.uuid4()}/file", "GET"),
    ):
        answer = client.request(method, url)
        assert (answer.status_code, answer.headers["allow"]) == (405, allowed)


@pytest.mark.hosts("disk")
def test_the_command_ingests_what_the_server_serves(
    server: Server, client: httpx.Client, folder: str
) -> None:
    data = unique()
    key = save(client, f"{folder}/a.png", data)

    out = subprocess.run(
        [STILLROOM, "media", "ingest", key],
        env=server.environment,
        capture_output=True,
        text=True,
        check=True,
    ).stdout

    resource_id, media_key, source = out.split()
    assert (media_key, source) == (f"media/{resource_id}/file.png", key)
    assert client.get(f"{LIBRARY}/{resource_id}/file").content == data
    assert (server.data / media_key).read_bytes() == data
    assert ingest(client, key).json()["id"] == resource_id


def test_without_its_database_the_library_is_503_and_everything_else_works(
    tmp_path: Path,
) -> None:
    url = f"postgresql://someone:s3cret@127.0.0.1:{free_port()}/rows"
    with running(tmp_path, database_url=url) as server, server.client() as client:
        key = save(client, "a.png", unique())

        for answer in (ingest(client, key), client.get(LIBRARY)):
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
            assert answer.json()["code"] == "backend_unavailable"

        assert client.get(f"{IMAGES}/a.png").status_code == 200
        ready = client.get("/readyz")
        assert (ready.status_code, ready.json()["status"]) == (200, "degraded")
        assert ready.json()["parts"]["storage"] == {"state": "ok"}
        assert ready.json()["parts"]["database"]["state"] == "backend_unavailable"
        assert "s3cret" not in ready.text
        while "the media library cannot serve yet" not in server.logged():
            time.sleep(0.05)  # a condition: the test's time-out ends it
    assert "s3cret" not in server.logged()


@pytest.fixture
def shared(
    tmp_path: Path,
    seaweed: SeaweedFS,
    operator: Operator,
    database_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Server]:
    """Bytes in a bucket behind a CDN, rows in PostgreSQL, two workers."""
    del operator
    with nginx_cdn(tmp_path, seaweed.endpoint_url) as cdn:
        for name, value in {
            "R2_ENDPOINT_URL": seaweed.endpoint_url,
            "R2_ACCESS_KEY_ID": KEY_ID,
            "R2_SECRET_ACCESS_KEY": SECRET,
            "R2_BUCKET_NAME": BUCKET,
            "R2_PUBLIC_URL": cdn,
        }.items():
            monkeypatch.setenv(name, value)
        with running(tmp_path, "--workers", "2", database_url=database_url) as server:
            yield server
        assert database_url not in server.logged()
        seaweed.empty()


def test_with_a_bucket_and_postgresql_a_cdn_serves_the_library(shared: Server) -> None:
    data = unique()
    with shared.client() as client:
        key = save(client, "a.png", data)

        resource = ingest(client, key).json()
        out = subprocess.run(
            [STILLROOM, "media", "ingest", key],
            env=shared.environment,
            capture_output=True,
            text=True,
            check=True,
        ).stdout

        assert out.split()[0] == resource["id"]
        again = save(client, "b.png", data)
        assert settled(ingest(client, again).json()) == settled(resource)
        redirect = client.get(f"{LIBRARY}/{resource['id']}/file")
    assert redirect.status_code == 302
    assert redirect.headers["location"] == resource["url"]
    served = httpx.get(resource["url"])
    assert served.content == data
    assert served.headers["cache-control"] == "public, max-age=31536000, immutable"
