"""What is added to resources over HTTP: facts, tags, colours in the background, filters."""

import io
import itertools
import json
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from PIL import Image

from pictures import picture
from running import IMAGES, Server
from waiting import until

LIBRARY = "/api/v1/media-resources"


@pytest.fixture
def made(client: httpx.Client, folder: str) -> str:
    """The URL of a new resource."""
    return resource_of(client, f"{folder}/a.png", picture(uuid.uuid4().int))


def resource_of(client: httpx.Client, path: str, data: bytes) -> str:
    saved = client.post(f"{IMAGES}/{path}", files={"file": data})
    assert saved.status_code == 200, saved.text
    answer = client.post(f"{LIBRARY}/ingest", json={"storage_key": f"compute/{path}"})
    assert answer.status_code == 200, answer.text
    return f"{LIBRARY}/{answer.json()['id']}"


def sample(client: httpx.Client, name: str) -> float:
    lines = client.get("/metrics").text.splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith(name))


@pytest.mark.workers(whole=True)
def test_a_colour_comes_in_the_background_and_is_counted(client: httpx.Client, folder: str) -> None:
    one = uuid.uuid4().bytes
    image = Image.new("RGB", (40, 30), (one[0], one[1], one[2]))
    image.putpixel((0, 0), (one[3], one[4], one[5]))
    out = io.BytesIO()
    image.save(out, "PNG")
    before = sample(client, "stillroom_media_healed_total")

    url = resource_of(client, f"{folder}/a.png", out.getvalue())
    broken = resource_of(client, f"{folder}/b.png", picture(uuid.uuid4().int)[:-200])

    until(lambda: client.get(url).json()["dominant_color"] is not None)
    assert client.get(url).json()["dominant_color"] == f"#{one[:3].hex()}"
    until(lambda: client.get(f"{LIBRARY}/heal").json() == {"count": 0})
    assert client.get(broken).json()["dominant_color"] is None
    until(lambda: sample(client, "stillroom_media_healed_total") >= before + 2)
    until(lambda: sample(client, "stillroom_media_healing") == 0)


def test_healing_is_asked_for_and_answered_with_a_number(client: httpx.Client, made: str) -> None:
    until(lambda: client.get(made).json()["dominant_color"] is not None)
    assert client.patch(made, json={"dominant_color": None}).json()["dominant_color"] is None

    ids = [made.rpartition("/")[2], str(uuid.uuid4())]
    asked = client.post(f"{LIBRARY}/heal", json={"ids": ids})

    assert (asked.status_code, asked.json()) == (202, {"count": 1})
    until(lambda: client.get(made).json()["dominant_color"] is not None)
    for everything in (client.post(f"{LIBRARY}/heal", json={}), client.post(f"{LIBRARY}/heal")):
        assert everything.status_code == 202
        assert everything.json()["count"] >= 0


@pytest.mark.workers(whole=True)
def test_what_is_unset_is_filled_and_the_rest_is_left_alone(
    client: httpx.Client, made: str
) -> None:
    fill = f"{made}?only_unset=true"
    facts = {
        "alt_text": "A cat", "caption": "Tom", "dominant_color": "#8A6D3B", "width": 5,
        "height": 6, "duration": 4, "color_profile": "Display P3",
    }  # fmt: skip
    client.patch(made, json={"dominant_color": "#000000"})

    filled = client.patch(fill, json=facts)
    again = client.patch(fill, json=dict.fromkeys(facts) | {"caption": "Jim", "width": 1})

    assert filled.status_code == 200, filled.text
    expected = {
        **facts, "dominant_color": "#000000", "width": 24, "height": 16,
    }  # fmt: skip
    assert {name: filled.json()[name] for name in facts} == expected
    assert again.status_code == 422, "a width is never null"
    again = client.patch(fill, json={"caption": "Jim", "alt_text": None, "protected": True})
    assert again.json() == filled.json()
    assert client.patch(f"{made}?only_unset=false", json=facts).json()["width"] == 5
    assert client.get(made).json()["dominant_color"] == "#8a6d3b"


BAD_FACTS = [
    '{"width": 0}', '{"width": -1}', '{"width": 2147483648}', '{"width": null}',
    '{"height": 1.5}', '{"height": "1"}', '{"duration": 0}', '{"duration": -1}',
    '{"duration": 1e999}', '{"duration": NaN}', '{"duration": "1"}', '{"duration": true}',
    '{"duration": 1' + "0" * 400 + "}", '{"dominant_color": "red"}',
    '{"dominant_color": "#12345"}', '{"dominant_color": "#1234567"}',
    '{"dominant_color": "#12345g"}', '{"dominant_color": "#123456\\n"}',
    '{"dominant_color": "<b>"}', '{"dominant_color": 1}', '{"color_profile": ""}',
    '{"color_profile": "a\\u0000"}', '{"caption": "\\ud800"}', '{"tags": ["a"]}',
    '{"resource_type": "video"}', '{"content_hash": "00"}',
]  # fmt: skip


@pytest.mark.parametrize("query", ["", "?only_unset=true"])
def test_a_fact_that_can_be_none_is_422_and_changes_nothing(
    client: httpx.Client, made: str, query: str
) -> None:
    before = client.patch(made, json={"dominant_color": "#000000"}).json()
    headers = {"Content-Type": "application/json"}
    for body in BAD_FACTS:
        answer = client.patch(f"{made}{query}", content=body, headers=headers)

        assert (answer.status_code, answer.json()["code"]) == (422, "invalid_parameter"), body
    assert client.get(made).json() == before


def test_a_flag_of_another_form_is_422(client: httpx.Client, made: str) -> None:
    for query in ("1", "", "true&only_unset=true", "%FF"):
        refused = client.patch(f"{made}?only_unset={query}", json={"caption": "x"})
        assert refused.status_code == 422, query
    assert client.get(made).json()["caption"] is None


@pytest.mark.workers(whole=True)
def test_ten_enrichers_that_race_leave_the_first_value_of_each_field(
    client: httpx.Client, made: str
) -> None:
    def enrich(number: int) -> Any:
        facts = {"caption": f"{number}", "duration": number + 1.0, "color_profile": f"{number}"}
        answer = client.patch(f"{made}?only_unset=true", json=facts)
        tagged = client.post(f"{made}/tags", json={"tags": [f"tag {number}"]})
        assert (answer.status_code, tagged.status_code) == (200, 200)
        return answer.json()

    with ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(enrich, range(10)))

    after = client.get(made).json()
    for name in ("caption", "duration", "color_profile"):
        assert {answer[name] for answer in answers} == {after[name]}
    assert after["tags"] == [f"tag {number}" for number in range(10)]


@pytest.mark.workers(whole=True)
def test_tags_are_added_replaced_and_taken_away(client: httpx.Client, made: str) -> None:
    url = f"{made}/tags"

    def sent(method: str, tags: list[str] | None = None, query: str = "") -> Any:
        body = None if tags is None else {"tags": tags}
        answer = client.request(method, url + query, json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    assert sent("GET") == {"tags": []}
    assert sent("POST", ["b", "Katze 🐈", "b"]) == {"tags": ["Katze 🐈", "b"]}
    assert sent("POST", ["a", "b"]) == sent("POST", []) == {"tags": ["Katze 🐈", "a", "b"]}
    assert client.get(made).json()["tags"] == ["Katze 🐈", "a", "b"]
    assert sent("DELETE", query="?tag=b&tag=none") == {"tags": ["Katze 🐈", "a"]}
    assert sent("DELETE", ["Katze 🐈"]) == {"tags": ["a"]}
    assert sent("DELETE", []) == {"tags": ["a"]}, "none of these is there"
    assert sent("PUT", ["x", "y"]) == sent("GET") == {"tags": ["x", "y"]}
    assert sent("DELETE") == {"tags": []}
    assert sent("PUT", [f"{number:02}" for number in range(50)])["tags"][49] == "49"
    refused = client.post(url, json={"tags": ["one more"]})
    assert (refused.status_code, refused.json()["code"]) == (422, "invalid_parameter")
    assert len(sent("GET")["tags"]) == 50
    assert client.put(url, json={"tags": ["a"] * 51}).status_code == 422
    for method in ("POST", "PUT", "DELETE"):
        guarded = client.request(method, url, json={"tags": ["00"]}, headers={"If-Match": '"x"'})
        assert (guarded.status_code, guarded.json()["detail"][0]["loc"][1]) == (422, "if-match")
    assert len(sent("GET")["tags"]) == 50


BAD_TAGS = [
    "", "-", "-a", " a", "a ", "a\n", "a\0", "\x1f", "a\u0085", "\u202ea", "\ufeff", "x" * 65,
    "é" * 33, "e\u0301", "\ud800",
]  # fmt: skip


def test_what_can_be_no_tag_is_422_and_changes_nothing(client: httpx.Client, made: str) -> None:
    client.put(f"{made}/tags", json={"tags": ["a"]})
    for method, tag in itertools.product(("POST", "PUT", "DELETE"), BAD_TAGS):
        answer = client.request(
            method,
            f"{made}/tags",
            content=json.dumps({"tags": ["b", tag]}),  # by hand: httpx sends no lone surrogate
            headers={"Content-Type": "application/json"},
        )

        assert (answer.status_code, answer.json()["code"]) == (422, "invalid_parameter"), tag
    assert client.get(f"{made}/tags").json() == {"tags": ["a"]}


def test_tags_of_another_form_are_422(client: httpx.Client, made: str) -> None:
    forms = ('{"tags": "a"}', '{"tags": [1]}', "{}", '["a"]', "null", "x")
    for method, body in itertools.product(("POST", "PUT", "DELETE"), forms):
        answer = client.request(
            method, f"{made}/tags", content=body, headers={"Content-Type": "application/json"}
        )
        assert answer.status_code == 422, answer.text


def test_a_wish_for_healing_of_another_form_is_422(client: httpx.Client) -> None:
    headers = {"Content-Type": "application/json"}
    for body in ('{"ids": "a"}', '{"ids": ["a"]}', '{"all": true}', "[]"):
        answer = client.post(f"{LIBRARY}/heal", content=body, headers=headers)
        assert answer.status_code == 422, body
    many = {"ids": [str(uuid.uuid4())] * 1001}
    assert client.post(f"{LIBRARY}/heal", json=many).status_code == 422


def test_listings_are_filtered_by_tags_also_on_later_pages(
    client: httpx.Client, folder: str
) -> None:
    ours, spare = f"{folder} & é", f"{folder}-spare"
    urls = []
    for number in range(6):
        urls.append(resource_of(client, f"{folder}/{number}", picture(uuid.uuid4().int)))
        tags = [ours, f"n{number}"] + ([spare] if number % 3 == 0 else [])
        client.put(f"{urls[-1]}/tags", json={"tags": tags})

    def listed(**query: Any) -> list[int]:
        found, target = [], str(httpx.URL(LIBRARY, params=query))
        while target:
            answer = client.get(target)
            assert answer.status_code == 200, answer.text
            found += [urls.index(f"{LIBRARY}/{one['id']}") for one in answer.json()]
            link = answer.links.get("next", {}).get("url", "")
            target = f"{LIBRARY}{link}" if link else ""
        return found

    assert listed(tag=ours, limit=1) == [5, 4, 3, 2, 1, 0]
    assert listed(tag=[ours, f"-{spare}"], limit=1) == [5, 4, 2, 1]
    assert listed(tag=[ours, spare], resource_type="image") == [3, 0]
    assert listed(tag=[spare, "n3", "-n0"]) == [3]
    assert listed(tag=[ours], resource_type="video") == []


@pytest.mark.parametrize(
    "query",
    ["tag=", "tag=-", "tag=--a", "tag=%FF", "tag=a%00", "tag=e%CC%81", "&".join(["tag=a"] * 51)],
)
def test_a_filter_that_can_be_no_tag_is_422(client: httpx.Client, query: str) -> None:
    assert client.get(f"{LIBRARY}?{query}").status_code == 422


@pytest.mark.parametrize(
    ("options", "status"),
    [
        (["--scope", "media"], 404),
        (["--scope", "storage:read", "--scope", "storage:write"], 403),
        (["--scope", "media", "--prefix", "a"], 403),
    ],
)
def test_all_of_it_takes_the_scope_media_and_no_folder(
    server: Server, options: list[str], status: int
) -> None:
    url = f"{LIBRARY}/{uuid.uuid4()}"
    with server.client(*options) as client:
        assert client.patch(f"{url}?only_unset=true", json={"caption": "x"}).status_code == status
        for method in ("POST", "PUT", "DELETE"):
            answer = client.request(method, f"{url}/tags", json={"tags": ["a"]})
            assert answer.status_code == status
        assert client.get(f"{url}/tags").status_code == status
        for method in ("GET", "POST"):
            answer = client.request(method, f"{LIBRARY}/heal")
            assert answer.is_success == (status == 404)
    for method, path in (
        ("GET", f"{url}/tags"),
        ("PUT", f"{url}/tags"),
        ("POST", f"{LIBRARY}/heal"),
    ):
        assert httpx.request(method, f"{server.url}{path}").status_code == 401


def test_other_methods_are_405(client: httpx.Client, made: str) -> None:
    for method, url, allowed in (
        ("PATCH", f"{made}/tags", "GET, POST, PUT, DELETE"),
        ("DELETE", f"{LIBRARY}/heal", "GET, POST"),
    ):
        answer = client.request(method, url)
        assert (answer.status_code, answer.headers["allow"]) == (405, allowed)
