"""Resources of the media library over HTTP: listed, changed and deleted."""

import uuid
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest

from acceptance.library import LIBRARY, ingest, save, settled, unique

pytestmark = pytest.mark.hosts


@pytest.mark.workers(whole=True)
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
        "source_key=compute/%00", "source_prefix=media/", "source_prefix=compute/../",
        "source_prefix=compute/a&source_prefix=compute/b", "&".join(["source_key=compute/a"] * 51),
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


@pytest.mark.workers(whole=True)
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


def test_a_resource_remembers_where_it_came_from(client: httpx.Client, folder: str) -> None:
    data = unique()
    key = save(client, f"{folder}/a red cat.png", data)

    resource = ingest(client, key).json()

    assert resource["source_key"] == key
    assert client.get(f"{LIBRARY}/{resource['id']}").json()["source_key"] == key
    assert client.get(LIBRARY, params={"limit": 1}).json()[0]["source_key"] == key
