"""GET /storage/search: found within a second of the save, exact, and confined."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest

from acceptance.conftest import Servers, Way
from generation.carriers import iptc, png, with_xmp
from running import Server, free_port, running
from waiting import until, until_equal

SEARCH = "/api/v1/storage/search"
LIBRARY = "/api/v1/media-resources"


@pytest.fixture
def server(started_as: Way, servers: Servers) -> Server:
    return servers.started(started_as)


def save(client: httpx.Client, path: str, prompt: str, seed: int = 7) -> None:
    parameters = f"{prompt}\nSteps: 20, Sampler: Euler a, Seed: {seed}, Model: ink_v2"
    client.post(
        f"/api/v1/storage/images/{path}", files={"file": ("x", png({"parameters": parameters}))}
    ).raise_for_status()


def paths(client: httpx.Client, **asked: Any) -> list[str]:
    answer = client.get(SEARCH, params=asked).raise_for_status()
    return [item["path"] for item in answer.json()["items"]]


def wait_for(client: httpx.Client, expected: list[str], **asked: Any) -> None:
    until_equal(lambda: paths(client, **asked), expected)


@pytest.mark.workers(whole=True)
@pytest.mark.both_paths(whole=True)
@pytest.mark.hosts
def test_a_save_is_found_by_its_prompt_soon_after_its_answer(
    client: httpx.Client, folder: str
) -> None:
    save(client, f"{folder}/1.png", "a red fox, in the snow", 2**64 - 1)
    save(client, f"{folder}/2.png", "a blue whale")

    wait_for(client, [f"{folder}/2.png", f"{folder}/1.png"], prefix=f"{folder}/")
    assert paths(client, prefix=folder, q='"red fox" ink_v2') == [f"{folder}/1.png"]
    assert paths(client, prefix=folder, seed=2**64 - 1) == [f"{folder}/1.png"]
    (item,) = client.get(SEARCH, params={"prefix": folder, "prompt": "whale"}).json()["items"]
    assert item["content_type"] == "image/png"
    assert item["generation"]["prompt"] == "a blue whale"
    assert item["generation"]["raw"] is None
    entry = client.get("/api/v1/storage/entries", params={"prefix": item["path"]}).json()[0]
    saved, listed = (datetime.fromisoformat(one["modified"]) for one in (item, entry))
    assert abs(saved - listed) < timedelta(minutes=1)  # a bucket tells its own, in whole seconds
    told = {"modified": item["modified"], "generation": item["generation"], "ai_mark": "none"}
    assert item == {**entry, **told}

    client.delete(f"/api/v1/storage/images/{folder}/1.png").raise_for_status()
    wait_for(client, [f"{folder}/2.png"], prefix=f"{folder}/")


def test_what_does_not_say_that_ai_made_it_is_found_and_counted(
    client: httpx.Client, folder: str
) -> None:
    def counted(mark: str) -> float:
        text = client.get("/metrics").text
        found = re.search(rf'stillroom_ai_mark_saved_total{{mark="{mark}"}} (\S+)', text)
        return float(found[1]) if found else 0

    save(client, f"{folder}/first.png", "what was saved before it is counted, too")
    wait_for(client, [f"{folder}/first.png"], prefix=f"{folder}/")
    before = {mark: counted(mark) for mark in ("none", "iptc", "unknown")}
    given = {"plain.png": png({}), "marked.png": with_xmp("PNG", iptc()), "text.txt": b"a text"}
    for name, data in given.items():
        client.post(f"/api/v1/storage/images/{folder}/{name}", files={"file": ("x", data)})

    saved = [f"{folder}/{name}" for name in reversed(given)]
    wait_for(client, [*saved, f"{folder}/first.png"], prefix=f"{folder}/")
    plain = [f"{folder}/plain.png", f"{folder}/first.png"]
    assert paths(client, prefix=f"{folder}/", ai_mark="none") == plain
    assert paths(client, prefix=f"{folder}/", ai_mark="iptc") == [f"{folder}/marked.png"]
    assert {mark: counted(mark) - before[mark] for mark in before} == dict.fromkeys(before, 1)


def test_pages_follow_each_other_to_the_end(client: httpx.Client, folder: str) -> None:
    names = [f"{folder}/{number}.png" for number in range(5)]
    for name in names:
        save(client, name, "a fox")
    wait_for(client, names[::-1], prefix=f"{folder}/")

    for sort, expected in (
        ("-saved", names[::-1]),
        *(("path", names), ("-path", names[::-1])),
        *(("size", names), ("-size", names[::-1])),  # of one size: by the time of the save
    ):
        asked = {"prefix": f"{folder}/", "limit": "2", "sort": sort, "q": "fox"}
        found: list[str] = []
        cursor: str | None = ""
        while cursor is not None:
            page = client.get(SEARCH, params=asked | {"cursor": cursor}).json()
            found += [item["path"] for item in page["items"]]
            cursor = page["next"]
        assert found == expected


def test_a_confined_token_finds_its_folder_only_and_learns_no_more(
    server: Server, client: httpx.Client, folder: str
) -> None:
    for name in ("a/1.png", "b/1.png", "a/2.png", "b/2.png"):
        save(client, f"{folder}/{name}", "a fox")
    wait_for(client, [f"{folder}/a/2.png", f"{folder}/a/1.png"], prefix=f"{folder}/a/")
    wait_for(client, [f"{folder}/b/2.png", f"{folder}/b/1.png"], prefix=f"{folder}/b/")

    with server.client("--prefix", f"{folder}/a") as confined:
        assert paths(confined, q="fox") == [f"{folder}/a/2.png", f"{folder}/a/1.png"]
        assert confined.get(SEARCH, params={"prefix": f"{folder}/b/"}).status_code == 403
        page = client.get(SEARCH, params={"prefix": folder, "limit": 1, "sort": "-path"}).json()
        assert page["items"][0]["path"] == f"{folder}/b/2.png"
        foreign = confined.get(SEARCH, params={"cursor": page["next"], "sort": "-path"}).json()
        assert [item["path"] for item in foreign["items"]] == [
            f"{folder}/a/2.png",
            f"{folder}/a/1.png",
        ]
        assert foreign["next"] is None
        last = confined.get(SEARCH, params={"limit": 2}).json()
        assert last["next"] is None, "two images, and nothing of the others"
        counted = confined.get(f"{SEARCH}/facets").json()
        assert (counted["counted"], "tag" in counted) == (2, False)
        assert confined.get(f"{SEARCH}/facets", params={"prefix": folder}).json() == counted
        assert confined.get(f"{SEARCH}/facets", params={"prefix": "b/"}).status_code == 403


@pytest.mark.hosts
def test_the_values_of_images_are_counted(client: httpx.Client, folder: str) -> None:
    def counted(**asked: str) -> Any:
        return client.get(f"{SEARCH}/facets", params=asked).raise_for_status().json()

    began = datetime.now(UTC)
    for name in ("a.png", "b.png"):
        save(client, f"{folder}/{name}", "a fox")
    save(client, f"{folder}/c.png", "a whale")
    wait_for(client, [f"{folder}/{name}.png" for name in "cba"], prefix=folder)
    asked = {"storage_key": f"compute/{folder}/a.png", "relocate": False}
    made = client.post(f"{LIBRARY}/ingest", json=asked).raise_for_status().json()
    client.post(f"{LIBRARY}/{made['id']}/tags", json={"tags": [folder]}).raise_for_status()

    found = counted(prefix=f"{folder}/", q="fox")
    days = found.pop("day")
    assert sum(day["count"] for day in days) == 2
    possible = {moment.strftime("%Y-%m-%d") for moment in (began, datetime.now(UTC))}
    assert {day["value"] for day in days} <= possible
    assert found == {
        "model": [{"value": "ink_v2", "count": 2}],
        "lora": [],
        "sampler": [{"value": "Euler a", "count": 2}],
        "tool": [{"value": "A1111", "count": 2}],
        "tag": [{"value": folder, "count": 1}],
        "counted": 2,
        "complete": True,
    }
    everything = counted()
    assert everything["complete"]
    assert everything["counted"] >= 3
    assert {"value": folder, "count": 1} in everything["tag"]
    before = sum(one["count"] for one in everything["model"] if one["value"] == "ink_v2")
    client.delete(f"/api/v1/storage/images/{folder}/c.png").raise_for_status()
    wait_for(client, [f"{folder}/b.png", f"{folder}/a.png"], prefix=folder)
    model = {one["value"]: one["count"] for one in counted()["model"]}
    assert model["ink_v2"] == before - 1
    assert client.get(f"{SEARCH}/facets", params={"q": "colour:red"}).status_code == 422


def ids(client: httpx.Client, **asked: Any) -> list[str]:
    return [one["id"] for one in client.get(LIBRARY, params=asked).raise_for_status().json()]


def wait_for_ids(client: httpx.Client, expected: list[str], **asked: Any) -> None:
    until_equal(lambda: ids(client, **asked), expected)


@pytest.mark.workers(whole=True)
@pytest.mark.hosts
def test_the_library_is_searched_by_how_its_images_were_made(
    client: httpx.Client, folder: str
) -> None:
    made = []
    for number, relocate in enumerate((True, False)):
        save(client, f"{folder}/{number}.png", f"a fox, {folder} number{number}", number)
        key = f"compute/{folder}/{number}.png"
        asked = {"storage_key": key, "relocate": relocate}
        made.append(client.post(f"{LIBRARY}/ingest", json=asked).raise_for_status().json())
        assert made[-1]["generation"]["prompt"] == f"a fox, {folder} number{number}"
        one = client.get(f"{LIBRARY}/{made[-1]['id']}")
        assert one.json()["generation"] == made[-1]["generation"]
        assert one.json()["generation"]["raw"] is None
    first, second = (one["id"] for one in made)

    wait_for_ids(client, [second, first], q=folder)
    assert ids(client, q=f'"fox {folder}"', seed=0) == [first]
    assert ids(client, prompt=folder, model="ink_v2", sampler="euler a", limit=1) == [second]
    assert ids(client, prompt=folder, model="ink_v2", start_after=second) == [first]
    assert ids(client, q=folder, tool="ComfyUI") == []
    client.post(f"{LIBRARY}/{first}/tags", json={"tags": ["kept"]}).raise_for_status()
    assert ids(client, q=folder, tag="kept") == [first]
    assert ids(client, q=folder, tag="-kept") == [second]

    save(client, f"{folder}/1.png", "other bytes in the place of what was recorded there")
    wait_for_ids(client, [first], q=folder)
    client.delete(f"{LIBRARY}/{first}").raise_for_status()
    assert ids(client, q=folder) == []


def test_the_facts_of_a_resource_change_no_etag_and_no_page(
    server: Server, client: httpx.Client, folder: str
) -> None:
    save(client, f"{folder}/a.png", f"a fox, {folder}")
    asked = {"storage_key": f"compute/{folder}/a.png"}
    url = f"{LIBRARY}/{client.post(f'{LIBRARY}/ingest', json=asked).json()['id']}"
    changed = client.patch(url, json={"caption": "now", "dominant_color": "#000000"})
    wait_for_ids(client, [changed.json()["id"]], q=folder)

    assert changed.json()["generation"]["prompt"] == f"a fox, {folder}"
    assert client.get(url).headers["etag"] == changed.headers["etag"]
    page = client.get(LIBRARY, params={"q": folder}).json()
    assert page == [client.get(url).json()]
    with server.client("--prefix", folder) as confined:
        assert confined.get(LIBRARY, params={"q": folder}).status_code == 403


BAD: tuple[dict[str, Any], ...] = (
    {"seed": "-1"},
    {"seed": str(2**64)},
    {"seed": "1e3"},
    {"seed": "9" * 500},
    {"sort": "colour"},
    {"limit": "0"},
    {"cursor": "!"},
    {"cursor": "Li4vYQ", "sort": "path"},
    {"cursor": "YS5wbmc"},
    {"cursor": "A" * 5000},
    {"cursor": "MS4y"},
    {"cursor": "NQ", "sort": "size"},
    {"cursor": "OTk5OTk5OTk5OTk5OTk5OTk5OS4x", "sort": "size"},
    {"cursor": "OTk5OTk5OTk5OTk5OTk5OTk5OQ"},  # later than any row can be
    {"saved_from": "yesterday"},
    {"q": "x" * 1001},
    {"q": "!?"},
    {"q": " ".join("abcdefghijklmnopqrstuvwxyz0123456789")},
    {"model": "-"},
    {"prefix": "../"},
    {"content_type": "a b"},
    {"ai_mark": "unknown"},
    {"q": b"\xff"},
    {"q": "fox colour:red"},
    {"q": "size:2MB"},
    {"q": "before:tomorrow"},
    {"tag": "-"},
)


def test_a_bad_value_is_422_and_says_where(client: httpx.Client) -> None:
    for query in BAD:
        refused = client.get(f"{SEARCH}?{urlencode(query)}")
        assert refused.status_code == 422, query
        assert "detail" in refused.json()
    for query in ({"seed": "-1"}, {"q": "!?"}, {"model": "-"}, {"q": "x" * 1001}):
        assert client.get(LIBRARY, params=query).status_code == 422


HOSTILE = (
    '" OR 1=1 --',
    "fox') OR ('",
    "NEAR(a b) AND * ^fox {prompt}: x",
    "\0fox\0",
    "a & b | !c <-> d:*",
    '"unclosed',
    "%_\\ x",
    "\U0001f98a fox \ufdfa",
    "\u202efox\u0000\ufffe",
    "fox " * 20 + '"',
    "x" * 1000,
    "\\'fox'' \\",
    '""""fox""""*',
    "-fox +fox ~fox fox^2 fox:1 :A <2>",
)


@pytest.fixture(params=["sqlite", "postgresql"])
def database(
    request: pytest.FixtureRequest, tmp_path: Path, client: httpx.Client
) -> Iterator[httpx.Client]:
    """A client of a server with this database."""
    if request.param == "sqlite":
        yield client
        return
    url = request.getfixturevalue("database_url")
    with running(tmp_path, database_url=url) as server, server.client() as opened:
        yield opened


def test_what_means_something_to_a_database_is_words_here(
    database: httpx.Client, folder: str
) -> None:
    client = database
    save(client, f"{folder}-beside/a.png", "fox or wolf, near the 1 b")
    wait_for(client, [f"{folder}-beside/a.png"], prefix=f"{folder}-beside/")
    for text in ("fox OR wolf", 'wolf NEAR "the 1', "fox* ^wolf", "1 AND b OR fox' --"):
        found = [] if "AND" in text else [f"{folder}-beside/a.png"]
        assert paths(client, q=text, prefix=f"{folder}-beside/") == found, text
    for text in HOSTILE:
        for name in ("q", "prompt", "model", "lora", "sampler", "tool"):
            if name == "q" and "filter" in client.get(SEARCH, params={"q": text}).text:
                continue  # `d:*` and `fox:1` are refused
            answer = client.get(SEARCH, params={name: text, "prefix": f"{folder}/"})
            assert (answer.status_code, answer.json()) == (200, {"items": [], "next": None})
            assert client.get(LIBRARY, params={name: text}).status_code == 200


def test_without_its_database_saves_go_on_and_a_search_says_so(tmp_path: Path) -> None:
    url = f"postgresql://someone:s3cret@127.0.0.1:{free_port()}/rows"
    with running(tmp_path, database_url=url) as server, server.client() as client:
        save(client, "before.png", "a fox")
        for _ in range(3):
            refused = client.get(SEARCH, params={"q": "fox"})
            assert (refused.status_code, refused.headers["retry-after"]) == (503, "5")
            assert refused.json()["code"] == "backend_unavailable"
            assert "the media library's database is out of reach" in refused.json()["detail"]
            save(client, "meanwhile.png", "a wolf")
        assert (
            client.get("/api/v1/storage/metadata/meanwhile.png").json()["generation"]["seed"] == 7
        )
        assert "s3cret" not in server.logged()


def test_times_bound_a_search(client: httpx.Client, folder: str) -> None:
    save(client, f"{folder}/a.png", "fox")
    wait_for(client, [f"{folder}/a.png"], prefix=folder)

    for asked, is_found in (
        ({"saved_from": "0001-01-01T00:00:00Z", "saved_before": "9999-12-31T23:59:59Z"}, True),
        ({"saved_from": "2999-01-01T00:00:00Z"}, False),
        ({"saved_before": "2000-01-01T00:00:00+14:00"}, False),
    ):
        assert bool(paths(client, prefix=folder, **asked)) is is_found


def test_one_text_has_words_filters_and_what_is_left_out(client: httpx.Client, folder: str) -> None:
    save(client, f"{folder}/The-Fisherman_1.png", "a storm")
    save(client, f"{folder}/2.png", "fish in a calm sea")
    both = [f"{folder}/2.png", f"{folder}/The-Fisherman_1.png"]
    wait_for(client, both, prefix=folder)

    for text, expected in (
        ("fish", both),
        ("fish -calm", both[1:]),
        ("name:FISHER", both[1:]),
        ("fish model:ink-v2 seed:7 size:<1MB after:2020", both),
        ("fish size:>1MB", []),
        ("fish before:2020-01", []),
    ):
        assert paths(client, prefix=folder, q=text) == expected, text
    refused = client.get(SEARCH, params={"q": "fish colour:red"}).json()
    assert 'There is no filter "colour:"' in refused["detail"][0]["msg"]
    assert refused["detail"][0]["loc"] == ["query", "q"]


def test_tags_and_captions_are_found_by_those_who_may_see_the_library(
    server: Server, client: httpx.Client, folder: str
) -> None:
    save(client, f"{folder}/a.png", f"a picture {folder}")
    asked = {"storage_key": f"compute/{folder}/a.png", "relocate": False}
    made = client.post(f"{LIBRARY}/ingest", json=asked).raise_for_status().json()
    client.patch(f"{LIBRARY}/{made['id']}", json={"caption": "A lighthouse"}).raise_for_status()
    tags = {"tags": ["sea", "deep storm", '12" disc']}
    client.post(f"{LIBRARY}/{made['id']}/tags", json=tags).raise_for_status()
    wait_for(client, [f"{folder}/a.png"], prefix=folder)

    for text in (
        "tag:sea",
        "storm",
        "lighth",
        'tag:"Deep storm" picture',
        'tag:"12"" disc"',
        "-tag:draft",
    ):
        assert ids(client, q=f"{folder} {text}") == [made["id"]], text
        assert paths(client, prefix=folder, q=text) == [f"{folder}/a.png"], text
    assert paths(client, prefix=folder, tag=["sea", "-draft"]) == [f"{folder}/a.png"]
    assert paths(client, prefix=folder, tag="-sea") == []
    for options in (("--prefix", folder), ("--scope", "storage:read")):
        with server.client(*options) as confined:
            assert paths(confined, prefix=folder, q="picture") == [f"{folder}/a.png"]
            assert paths(confined, prefix=folder, q="lighthouse") == []
            for query in ({"q": "tag:sea"}, {"tag": "sea"}):
                assert confined.get(SEARCH, params=query).status_code == 403


def test_an_image_that_is_saved_again_is_found_by_its_tags_until_its_bytes_differ(
    client: httpx.Client, folder: str
) -> None:
    path = f"{folder}/a.png"
    asked = {"storage_key": f"compute/{path}", "relocate": False}
    save(client, path, f"a picture {folder}")
    made = client.post(f"{LIBRARY}/ingest", json=asked).raise_for_status().json()
    described = {"caption": f"lighthouse {folder}"}
    client.patch(f"{LIBRARY}/{made['id']}", json=described).raise_for_status()
    client.post(f"{LIBRARY}/{made['id']}/tags", json={"tags": ["sea"]}).raise_for_status()
    wait_for(client, [path], prefix=folder, q="tag:sea")

    def saved_at() -> str:
        (item,) = client.get(SEARCH, params={"prefix": folder}).raise_for_status().json()["items"]
        return str(item["modified"])

    for is_ingested_again in (False, True):
        before = saved_at()

        def is_saved_again(before: str = before) -> bool:
            return saved_at() != before

        save(client, path, f"a picture {folder}")
        until(is_saved_again)
        if is_ingested_again:
            client.post(f"{LIBRARY}/ingest", json=asked).raise_for_status()
        assert paths(client, prefix=folder, tag="sea") == [path]
        assert paths(client, prefix=folder, q="lighthouse") == [path]
        assert ids(client, q=f"{folder} tag:sea") == [made["id"]]
        (listed,) = client.get(LIBRARY, params={"q": folder}).raise_for_status().json()
        assert listed["generation"]["prompt"] == f"a picture {folder}"

    save(client, path, f"a painting {folder}")
    wait_for(client, [path], prefix=folder, q="painting")
    assert paths(client, prefix=folder, q="lighthouse") == []
    assert paths(client, prefix=folder, tag="sea") == []
