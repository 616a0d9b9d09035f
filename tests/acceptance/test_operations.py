"""The five operations, as the seed has them."""

import hashlib
from urllib.parse import quote

import httpx
import pytest

from running import IMAGES, Server
from services.process import paused
from waiting import until

pytestmark = pytest.mark.hosts(test=True)

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(200))


def save(
    client: httpx.Client, path: str, data: bytes = PNG, headers: dict[str, str] | None = None
) -> httpx.Response:
    return client.post(
        f"{IMAGES}/{quote(path)}", files={"file": ("name.png", data)}, headers=headers
    )


@pytest.mark.both_paths
@pytest.mark.workers
def test_an_image_is_saved_listed_read_checked_and_deleted(
    client: httpx.Client, server: Server, folder: str
) -> None:
    path = f"{folder}/cats/tom & jérôme.png"

    saved = save(client, path)
    assert saved.status_code == 200
    assert saved.json() == {
        "path": path,
        "url": f"{server.images}/{quote(path)}",
        "size": len(PNG),
        "content_type": "image/png",
        "sha256": hashlib.sha256(PNG).hexdigest(),
        "etag": saved.json()["etag"],
    }

    listed = client.get(IMAGES, params={"prefix": f"{folder}/"})
    assert (listed.status_code, listed.json()) == (200, [path])

    read = client.get(saved.json()["url"])
    assert (read.status_code, read.content) == (200, PNG)
    assert read.headers["etag"] == saved.json()["etag"]
    assert read.headers["content-type"] == "image/png"

    checked = client.head(saved.json()["url"])
    assert (checked.status_code, checked.content) == (200, b"")
    assert checked.headers["content-length"] == str(len(PNG))

    deleted = client.delete(saved.json()["url"])
    assert (deleted.status_code, deleted.json()) == (200, {"path": path})

    assert client.get(saved.json()["url"]).status_code == 404
    gone = client.head(saved.json()["url"])
    assert (gone.status_code, gone.content) == (404, b"")
    assert client.delete(saved.json()["url"]).status_code == 404
    assert client.get(IMAGES, params={"prefix": f"{folder}/"}).json() == []


@pytest.mark.hosts("disk", test=True)
def test_the_bytes_lie_at_their_own_path_on_the_disk(
    client: httpx.Client, server: Server, folder: str
) -> None:
    save(client, f"{folder}/a.png")

    assert (server.data / "compute" / folder / "a.png").read_bytes() == PNG


@pytest.mark.hosts("disk", test=True)
@pytest.mark.workers
def test_a_listing_is_paged_by_its_link(client: httpx.Client, folder: str) -> None:
    names = [f"{folder}/{name}" for name in ("a!", "a-b", "a/b", "a/c", "a0", "é +&")]
    for name in reversed(names):
        save(client, name)

    seen: list[str] = []
    url = f"{IMAGES}?prefix={quote(folder)}%2F&limit=2"
    while url:
        page = client.get(url)
        seen += page.json()
        url = page.links.get("next", {}).get("url", "")
        url = f"{IMAGES}{url}" if url else ""

    assert seen == names
    assert client.get(IMAGES, params={"prefix": f"{folder}/a"}).json() == names[:5]


def test_a_listing_folds_at_slashes(client: httpx.Client, folder: str) -> None:
    for name in ("top.png", "a/1", "a/2", "b/c/3"):
        save(client, f"{folder}/{name}")
    ask = {"prefix": f"{folder}/", "delimiter": "/"}

    assert client.get(IMAGES, params=ask).json() == [
        f"{folder}/{entry}" for entry in ("a/", "b/", "top.png")
    ]
    assert client.get(IMAGES, params={**ask, "start_after": f"{folder}/a/"}).json() == [
        f"{folder}/{entry}" for entry in ("b/", "top.png")
    ]


@pytest.mark.both_paths
@pytest.mark.workers
def test_a_save_can_be_told_to_create_only_or_to_replace_a_known_image(
    client: httpx.Client, folder: str
) -> None:
    path = f"{folder}/a.png"
    first = save(client, path, headers={"If-None-Match": "*"})
    assert first.status_code == 200

    taken = save(client, path, b"x", headers={"If-None-Match": "*"})
    assert taken.status_code == 412
    assert taken.json()["detail"] == "If-None-Match failed: an image already exists here"
    assert save(client, path, b"x", headers={"If-Match": '"other"'}).status_code == 412
    assert client.get(f"{IMAGES}/{path}").content == PNG

    second = save(client, path, b"y", headers={"If-Match": first.json()["etag"]})
    assert second.status_code == 200
    assert client.get(f"{IMAGES}/{path}").content == b"y"

    refused = client.delete(f"{IMAGES}/{path}", headers={"If-Match": first.json()["etag"]})
    assert refused.status_code == 412
    accepted = client.delete(f"{IMAGES}/{path}", headers={"If-Match": second.json()["etag"]})
    assert accepted.status_code == 200


@pytest.mark.both_paths
@pytest.mark.parametrize("where", ["request", "part"])
def test_an_announced_digest_is_held_to(client: httpx.Client, folder: str, where: str) -> None:
    def announce(digest: bytes) -> httpx.Response:
        import base64

        field = {"Repr-Digest": f"sha-256=:{base64.b64encode(digest).decode()}:"}
        return client.post(
            f"{IMAGES}/{folder}/a.png",
            files={"file": ("a", PNG, "image/png", field if where == "part" else {})},
            headers=field if where == "request" else {},
        )

    wrong = announce(bytes(32))
    assert wrong.status_code == 422
    assert wrong.json()["detail"][0]["type"] == "digest_mismatch"
    assert client.head(f"{IMAGES}/{folder}/a.png").status_code == 404

    assert announce(hashlib.sha256(PNG).digest()).status_code == 200


@pytest.mark.hosts("none")  # the server's own
def test_the_probes_and_the_documents_are_served_without_a_token(server: Server) -> None:
    assert httpx.get(f"{server.url}/healthz").json() == {"status": "alive"}
    assert httpx.get(f"{server.url}/readyz").json() == {
        "status": "ready",
        "parts": {"storage": {"state": "ok"}, "database": {"state": "ok"}},
    }
    assert httpx.get(f"{server.url}/openapi.json").json()["info"]["title"] == "Stillroom"
    page = httpx.get(f"{server.url}/docs").text
    assert "swagger-ui" in page
    assert "https://" not in page, "the documents need no internet"
    for asset in ("swagger-ui-bundle.js", "swagger-ui.css"):
        assert httpx.get(f"{server.url}/static-offline-docs/{asset}").status_code == 200


@pytest.mark.hosts("none")  # the server's own
@pytest.mark.both_paths
@pytest.mark.workers
def test_requests_are_counted_over_all_workers(server: Server) -> None:
    def counted() -> float:
        lines = httpx.get(f"{server.url}/metrics").text.splitlines()
        wanted = 'stillroom_requests_total{operation="check_image_exists",status="412"} '
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(wanted))

    with server.client() as client:
        save(client, "counted").raise_for_status()
    before = counted()
    workers = server.children()
    for number in range(20):
        # An idle server's connections would all be one worker's.
        others = workers[number % 2 :: 2] if len(workers) > 1 else []
        with paused(others), server.client() as another:
            guard = {"If-Match": '"another"'}  # a status that no other test gives this operation
            another.head(f"{IMAGES}/counted", headers=guard)
    until(lambda: counted() >= before + 20)  # each worker hands its numbers on once a second
    assert counted() == before + 20
