"""The media library over HTTP and on the command line: ingest, files, and where its rows are."""

import json
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from acceptance.library import LIBRARY, ingest, save, settled, unique
from running import IMAGES, STILLROOM, Server, exchange, free_port, parsed, running
from services.nginx import nginx_cdn
from services.s3 import Operator
from services.seaweedfs import BUCKET, KEY_ID, SECRET, SeaweedFS
from waiting import until

pytestmark = pytest.mark.hosts


@pytest.mark.hosts("disk")
@pytest.mark.workers(whole=True)
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
        until(lambda: "cannot open the database of the media library" in server.logged())
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


@pytest.mark.whole  # four servers
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
    assert served.headers["cache-control"] == "public, max-age=86400, immutable"
