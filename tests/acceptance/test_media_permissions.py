"""What a token may do in the media library."""

import uuid

import httpx
import pytest

from acceptance.library import KEEPS, LIBRARY, ingest, save, settled, unique
from running import Server

pytestmark = pytest.mark.hosts


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
