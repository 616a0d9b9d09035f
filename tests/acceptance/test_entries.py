"""The listing with facts, over HTTP."""

import hashlib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import psycopg
import pytest

from generation.carriers import iptc, png, with_xmp
from running import IMAGES, Server, exchange, parsed, running
from waiting import until, until_equal

pytestmark = pytest.mark.hosts

ENTRIES = "/api/v1/storage/entries"
PNG = b"\x89PNG\r\n\x1a\n" + bytes(100)
UNKNOWN = dict.fromkeys(["size", "modified", "content_type", "etag", "sha256", "ai_mark"])


@pytest.fixture
def filled(client: httpx.Client, folder: str) -> Iterator[list[str]]:
    """The paths of some images, in the order of a listing."""
    paths = [f"{folder}/{name}" for name in ("a!", "a-b", "a/b", "a/c/d", "a0", "é +&.png")]
    for path in reversed(paths):
        client.post(f"{IMAGES}/{quote(path)}", files={"file": PNG})
    yield paths
    for path in paths:
        client.delete(f"{IMAGES}/{quote(path)}")


def paths_of(answer: httpx.Response) -> list[str]:
    assert answer.status_code == 200, answer.text
    return [entry["path"] for entry in answer.json()]


@pytest.mark.hosts("disk")
def test_an_entry_says_what_saving_and_reading_say(client: httpx.Client, folder: str) -> None:
    path = f"{folder}/tom & jérôme.txt"
    saved = client.post(f"{IMAGES}/{quote(path)}", files={"file": PNG}).json()

    answer = client.get(ENTRIES, params={"prefix": f"{folder}/"})

    assert answer.headers["content-type"] == "application/json"
    assert "link" not in answer.headers
    (entry,) = answer.json()
    modified = datetime.fromisoformat(entry.pop("modified"))
    assert entry.pop("ai_mark") in (None, "none")  # the search index comes behind the answer
    assert entry == {
        "path": path,
        "size": len(PNG),
        "content_type": "image/png",
        "etag": saved["etag"],
        "sha256": hashlib.sha256(PNG).hexdigest(),
    }
    assert timedelta(seconds=-5) < datetime.now(UTC) - modified < timedelta(minutes=1)
    read = client.get(f"{IMAGES}/{quote(path)}", headers={"If-None-Match": entry["etag"]})
    assert read.status_code == 304
    seconds = modified.replace(microsecond=0)
    assert read.headers["last-modified"] == seconds.strftime("%a, %d %b %Y %H:%M:%S GMT")


def test_an_entry_says_soon_whether_the_image_says_that_ai_made_it(
    client: httpx.Client, folder: str
) -> None:
    def marks() -> dict[str, str | None]:
        entries = client.get(ENTRIES, params={"prefix": f"{folder}/"}).json()
        return {entry["path"].rpartition("/")[2]: entry["ai_mark"] for entry in entries}

    def save(name: str, data: bytes) -> None:
        client.post(f"{IMAGES}/{folder}/{name}", files={"file": data}).raise_for_status()

    def wait_for(expected: dict[str, str | None]) -> None:
        until_equal(marks, expected)

    save("a.png", with_xmp("PNG", iptc()))
    save("b.png", png({}))
    save("c.txt", b"a text")
    wait_for({"a.png": "iptc", "b.png": "none", "c.txt": None})
    save("a.png", png({"Title": "another image"}))
    assert marks()["a.png"] in (None, "none")  # never that of the image before
    wait_for({"a.png": "none", "b.png": "none", "c.txt": None})


@pytest.mark.hosts("none")  # it has servers of its own
def test_entries_are_listed_without_a_database(tmp_path: Path) -> None:
    away = "postgresql://stillroom@127.0.0.1:1/none"
    with running(tmp_path, database_url=away) as server, server.client() as client:
        client.post(f"{IMAGES}/a.png", files={"file": PNG}).raise_for_status()

        (entry,) = client.get(ENTRIES).json()

    assert (entry["path"], entry["ai_mark"]) == ("a.png", None)


@pytest.mark.hosts("none")  # it has servers of its own
def test_a_database_that_is_slow_does_not_hold_a_listing_up(
    tmp_path: Path, database_url: str
) -> None:
    with running(tmp_path, database_url=database_url) as server, server.client() as client:
        client.post(f"{IMAGES}/a.png", files={"file": png({})}).raise_for_status()
        until(lambda: client.get(ENTRIES).json()[0]["ai_mark"] == "none")
        with psycopg.connect(database_url) as other:
            other.execute("LOCK TABLE search_images IN ACCESS EXCLUSIVE MODE")

            (entry,) = client.get(ENTRIES).raise_for_status().json()

    assert (entry["path"], entry["ai_mark"]) == ("a.png", None)


@pytest.mark.hosts("disk")
def test_a_file_copied_in_by_hand_is_an_entry_without_a_hash(
    server: Server, client: httpx.Client, folder: str
) -> None:
    (server.data / "compute" / folder).mkdir()
    (server.data / "compute" / folder / "by-hand.bin").write_bytes(PNG)

    (entry,) = client.get(ENTRIES, params={"prefix": f"{folder}/"}).json()

    assert (entry["size"], entry["content_type"], entry["sha256"]) == (len(PNG), "image/png", None)


@pytest.mark.hosts("disk")
@pytest.mark.parametrize("delimiter", ["", "/"])
@pytest.mark.parametrize("limit", [1, 2, 100])
def test_entries_are_paged_by_their_link_as_the_listing_is(
    client: httpx.Client, folder: str, filled: list[str], limit: int, delimiter: str
) -> None:
    query = f"?prefix={folder}%2F&limit={limit}&delimiter={quote(delimiter, safe='')}"
    seen: list[str] = []
    while query:
        page = client.get(ENTRIES + query)
        names = client.get(IMAGES + query)
        assert paths_of(page) == names.json()
        assert page.headers.get("link") == names.headers.get("link")
        seen += names.json()
        query = page.links.get("next", {}).get("url", "")

    assert seen == filled if not delimiter else len(seen) == len(set(seen)) == 5


@pytest.mark.usefixtures("filled")
def test_of_a_folder_only_its_path_is_known(client: httpx.Client, folder: str) -> None:
    answer = client.get(ENTRIES, params={"prefix": f"{folder}/a", "delimiter": "/"})

    entries: dict[str, Any] = {entry["path"]: entry for entry in answer.json()}
    assert entries[f"{folder}/a/"] == {"path": f"{folder}/a/", **UNKNOWN}
    assert entries[f"{folder}/a0"]["size"] == len(PNG)


@pytest.mark.usefixtures("filled")
def test_a_token_with_a_folder_sees_the_entries_of_its_folder_alone(
    server: Server, folder: str
) -> None:
    with server.client("--scope", "storage:read", "--prefix", f"{folder}/a") as reader:
        assert paths_of(reader.get(ENTRIES)) == [f"{folder}/a/b", f"{folder}/a/c/d"]
        top = reader.get(ENTRIES, params={"delimiter": "/"})
        assert top.json() == [{"path": f"{folder}/", **UNKNOWN}]
        assert reader.get(ENTRIES, params={"prefix": "elsewhere/"}).status_code == 403
    with server.client("--scope", "storage:write") as writer:
        assert writer.get(ENTRIES).status_code == 403


@pytest.mark.parametrize(
    "query",
    [
        "limit=0",
        "limit=-1",
        "limit=x",
        "limit=1&limit=2",
        "prefix=/a",
        "prefix=../",
        "prefix=%00",
        "prefix=%ff",
        "start_after=%zz",
        "delimiter=a",
    ],
)
def test_a_query_is_refused_as_the_listing_refuses_it(client: httpx.Client, query: str) -> None:
    answer, names = (client.get(f"{url}?{query}") for url in (ENTRIES, IMAGES))

    assert (answer.status_code, answer.json()) == (422, names.json())


def test_entries_need_a_token_and_take_nothing_but_get(
    server: Server, client: httpx.Client
) -> None:
    for query in ("", "?limit=0", "?expires=1&kid=0&signature=0"):
        answer = httpx.get(f"{server.url}{ENTRIES}{query}")
        assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
    refused = client.post(ENTRIES)
    assert (refused.status_code, refused.headers["allow"]) == (405, "GET")


@pytest.mark.hosts("none")  # an app of one's own may redirect to another spelling
@pytest.mark.parametrize("target", ["/%65ntries", "/entries%0a", "/entries/", "/entries/a"])
def test_another_spelling_is_no_entries(server: Server, target: str) -> None:
    request = (
        f"GET /api/v1/storage{target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"
        f"Authorization: Bearer {server.token()}\r\n\r\n"
    )
    answer = parsed(exchange(server.port, request.encode()))
    assert answer.status == 404


def test_a_page_of_ten_thousand_is_whole_and_leaves_no_file_open(tmp_path: Path) -> None:
    images = tmp_path / "data/compute/many"
    images.mkdir(parents=True)
    for number in range(12_000):
        (images / f"{number:06}.png").touch()

    with running(tmp_path) as server, server.client() as client:
        page = client.get(ENTRIES, params={"limit": 20_000})
        entries = page.json()
        assert len(entries) == 10_000
        assert {entry["size"] for entry in entries} == {0}
        assert httpx.URL(page.links["next"]["url"]).params["start_after"] == entries[-1]["path"]
        rest = client.get(ENTRIES, params={"limit": 20_000, "start_after": entries[-1]["path"]})
        assert len(rest.json()) == 2000
        descriptors = len(list(Path(f"/proc/{server.pid}/fd").iterdir()))
        assert descriptors < 100
