"""`DELETE …?now=true`: nothing of a resource is left when the response arrives."""

import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from pictures import picture
from purge.conftest import Edge
from purge.serving import LIBRARY, started
from running import IMAGES, Server, running
from services.s3 import Operator
from waiting import until

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Server:  # type: ignore[misc]
    with running(tmp_path_factory.mktemp("server"), deletion_grace_seconds="3600") as server:
        yield server


@pytest.fixture
def client(server: Server) -> httpx.Client:  # type: ignore[misc]
    with server.client() as client:
        yield client


def ingested(client: httpx.Client, path: str, image: bytes, *, relocate: bool = True) -> dict:  # type: ignore[type-arg]
    client.post(f"{IMAGES}/{path}", files={"file": image}).raise_for_status()
    asked = {"storage_key": f"compute/{path}", "relocate": relocate}
    return client.post(f"{LIBRARY}/ingest", json=asked).raise_for_status().json()  # type: ignore[no-any-return]


def erase(client: httpx.Client, resource: str) -> httpx.Response:
    return client.delete(f"{LIBRARY}/{resource}?now=true")


def bytes_in(server: Server, image: bytes) -> list[str]:
    """Names of the files that have these bytes."""
    files = [path for path in server.data.rglob("*") if path.is_file()]
    return [str(path) for path in files if image in path.read_bytes()]


def test_the_copy_and_the_source_that_waits_for_its_deletion_are_gone(
    server: Server, client: httpx.Client, folder: str
) -> None:
    image = picture(1)
    resource = ingested(client, f"{folder}/a.png", image)
    ingested(client, f"{folder}/b.png", image)
    assert len(bytes_in(server, image)) == 3

    assert erase(client, resource["id"]).json() == {"id": resource["id"]}

    assert bytes_in(server, image) == []
    assert client.get(f"{LIBRARY}/{resource['id']}").status_code == 404
    assert client.get(f"{IMAGES}/{folder}/a.png").status_code == 404
    assert erase(client, resource["id"]).status_code == 404
    search = "/api/v1/storage/search"
    assert "a.png" not in client.get(search, params={"prefix": f"{folder}/"}).text


def test_bytes_that_were_recorded_in_place_are_gone(
    server: Server, client: httpx.Client, folder: str
) -> None:
    image, other = picture(2), picture(3)
    resource = ingested(client, f"{folder}/a.png", image, relocate=False)
    replaced = ingested(client, f"{folder}/b.png", other, relocate=False)
    # The same bytes again are another save, but the same image.
    client.post(f"{IMAGES}/{folder}/a.png", files={"file": image}).raise_for_status()
    client.post(f"{IMAGES}/{folder}/b.png", files={"file": picture(4)}).raise_for_status()

    assert erase(client, resource["id"]).status_code == 200
    assert erase(client, replaced["id"]).status_code == 200

    assert bytes_in(server, image) == []
    assert client.get(f"{IMAGES}/{folder}/b.png").content == picture(4)
    assert client.get(f"{LIBRARY}/{resource['id']}").status_code == 404


def test_a_resource_that_was_deleted_before_is_erased(
    server: Server, client: httpx.Client, folder: str
) -> None:
    image = picture(5)
    resource = ingested(client, f"{folder}/a.png", image)
    assert client.delete(f"{LIBRARY}/{resource['id']}").status_code == 200
    assert len(bytes_in(server, image)) == 2

    assert erase(client, resource["id"]).status_code == 200

    assert bytes_in(server, image) == []


def test_thumbnails_in_the_cache_are_gone(
    server: Server, client: httpx.Client, folder: str
) -> None:
    def thumbnails() -> set[Path]:
        return {path for path in server.data.glob(".stillroom/derived/*/*") if path.is_file()}

    before = thumbnails()
    resource = ingested(client, f"{folder}/a.png", picture(6, size=(400, 300)))
    ingested(client, f"{folder}/kept.png", picture(7, size=(400, 300)))
    for name in ("a.png", "kept.png"):
        for width in (50, 100):
            client.get(f"{IMAGES}/{folder}/{name}?width={width}").raise_for_status()
    until(lambda: len(thumbnails() - before) == 4, said=thumbnails)

    assert erase(client, resource["id"]).status_code == 200

    assert len(thumbnails() - before) == 2


def test_it_needs_a_permission_and_keeps_what_is_protected(
    server: Server, client: httpx.Client, folder: str
) -> None:
    image = picture(8)
    resource = ingested(client, f"{folder}/a.png", image)
    with server.client("--scope", "media") as limited:
        assert erase(limited, resource["id"]).status_code == 403
    client.patch(f"{LIBRARY}/{resource['id']}", json={"protected": True}).raise_for_status()
    assert erase(client, resource["id"]).status_code == 409
    changed = client.delete(f"{LIBRARY}/{resource['id']}?now=true", headers={"If-Match": '"other"'})
    assert changed.status_code == 412
    assert len(bytes_in(server, image)) == 2
    assert erase(client, str(uuid.uuid4())).status_code == 404
    assert client.delete(f"{LIBRARY}/{resource['id']}?now=yes").status_code == 422


def test_a_bucket_and_its_edge_have_nothing_left(
    edge: Edge, operator: Operator, tmp_path: Path
) -> None:
    with started(tmp_path, edge.seaweed, edge.api, STILLROOM_DELETION_GRACE_SECONDS="3600") as site:
        copied, in_place = site.save("a/copied.png"), site.save("a/kept.png")
        assert copied != in_place
        resources = [site.ingest("a/copied.png"), site.ingest("a/kept.png", relocate=False)]
        keys = [resources[0]["storage_key"], "compute/a/copied.png", "compute/a/kept.png"]
        for key in keys:
            assert site.api.read(key).status_code == 200

        assert [site.delete(one, "?now=true").status_code for one in resources] == [200, 200]

        assert operator.keys("") == []
        for key in keys:
            site.until_purged(key)
            assert site.api.read(key).status_code == 404
    edge.seaweed.empty()


def test_with_the_bucket_away_the_deletion_stays_due(
    edge: Edge, operator: Operator, tmp_path: Path
) -> None:
    hour = "3600"
    with started(tmp_path, edge.seaweed, edge.api, STILLROOM_DELETION_GRACE_SECONDS=hour) as site:
        site.save("a/copied.png")
        site.save("a/kept.png")
        resources = [site.ingest("a/copied.png"), site.ingest("a/kept.png", relocate=False)]

        with ThreadPoolExecutor() as pool, edge.seaweed.hanging():
            refused = pool.map(lambda one: site.delete(one, "?now=true"), resources)
            assert [one.status_code for one in refused] == [503, 503]
            assert site.client.get(f"{LIBRARY}/{resources[0]['id']}").status_code == 404

        # The sweeper may delete them first (404), or have planned to try again in a minute (503).
        until(
            lambda: {site.delete(one, "?now=true").status_code for one in resources} <= {200, 404}
        )
        until(lambda: operator.keys("") == [])
    edge.seaweed.empty()


def test_files_in_the_trash_with_the_same_bytes_are_gone(
    folder: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    image = picture(8)
    folder_of_data = tmp_path_factory.mktemp("trash")
    with running(folder_of_data, trash="7d") as server, server.client() as client:
        resource = ingested(client, f"{folder}/a.png", image, relocate=False)
        client.post(f"{IMAGES}/{folder}/b.png", files={"file": image}).raise_for_status()
        client.post(f"{IMAGES}/{folder}/other.png", files={"file": picture(9)}).raise_for_status()
        ids = [
            client.delete(f"{IMAGES}/{folder}/{name}.png").json()["trash_id"]
            for name in ("a", "b", "other")
        ]
        assert len(bytes_in(server, image)) == 2

        assert erase(client, resource["id"]).status_code == 200

        assert bytes_in(server, image) == []
        trash = "/api/v1/storage/trash"
        restored = client.post(f"{trash}/restore", json={"ids": ids}).json()["results"]
        assert [one.get("code") for one in restored] == ["trash_not_found"] * 2 + [None]
