"""The facts about an image's generation, over HTTP."""

import json
import re
import struct
import zlib
from urllib.parse import quote

import httpx
import pytest

from acceptance.conftest import Servers, Way
from generation import carriers as at
from generation.comfy_graphs import basic
from pictures import picture
from running import IMAGES, Server
from waiting import until

METADATA = "/api/v1/storage/metadata"
ENTRIES = "/api/v1/storage/entries"
PARAMETERS = (
    "a red fox <lora:ink:0.8>\nNegative prompt: blurry\nSteps: 20, Sampler: Euler a, "
    "Schedule type: Karras, CFG scale: 7, Seed: 965400086, Size: 512x768, Model: dream"
)
FACTS = {
    "tool": "A1111",
    "prompt": "a red fox <lora:ink:0.8>",
    "negative_prompt": "blurry",
    "seed": 965400086,
    "steps": 20,
    "cfg_scale": 7.0,
    "sampler": "Euler a",
    "scheduler": "Karras",
    "model": "dream",
    "loras": [{"name": "ink", "weight": 0.8}],
    "width": 512,
    "height": 768,
    "derived_from": None,
    "raw": {"parameters": PARAMETERS},
}


def saved(client: httpx.Client, path: str, data: bytes) -> None:
    answer = client.post(f"{IMAGES}/{quote(path)}", files={"file": ("a", data)})
    assert answer.status_code == 200, answer.text


@pytest.mark.hosts
def test_the_facts_stand_beside_the_entry_of_a_listing(client: httpx.Client, folder: str) -> None:
    path = f"{folder}/tom & jérôme.png"
    saved(client, path, at.png({"parameters": PARAMETERS}))

    answer = client.get(f"{METADATA}/{quote(path)}")

    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    (entry,) = client.get(ENTRIES, params={"prefix": f"{folder}/"}).json()
    known = {"ai_mark": "none", "generation": FACTS, "expires_at": None}
    found = answer.json()
    assert found.pop("derived_from") in (None, [])  # it may not be indexed yet
    assert found == {**entry, **known, "derivatives": 0}


def test_an_image_without_facts_has_none(client: httpx.Client, folder: str) -> None:
    for name, data in {"a.png": picture(), "b.txt": b"text", "c": b"\x89PNG\r\n\x1a\n"}.items():
        saved(client, f"{folder}/{name}", data)

        answer = client.get(f"{METADATA}/{folder}/{name}")

        assert (answer.status_code, answer.json()["generation"]) == (200, None)


def test_a_client_that_has_the_facts_is_told_that_they_are_current(
    client: httpx.Client, folder: str
) -> None:
    saved(client, f"{folder}/a.png", at.png({"parameters": PARAMETERS}))
    url = f"{METADATA}/{folder}/a.png"
    until(lambda: client.get(url).json()["derived_from"] is not None)  # the index adds this
    etag = client.get(url).headers["etag"]

    again = client.get(url, headers={"If-None-Match": etag})
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", etag)
    assert etag != client.head(f"{IMAGES}/{folder}/a.png").headers["etag"]

    saved(client, f"{folder}/a.png", picture())
    assert client.get(url, headers={"If-None-Match": etag}).status_code == 200


def test_rights_are_those_of_reading_the_image(server: Server, client: httpx.Client) -> None:
    saved(client, "rights/in/a.png", at.png({"parameters": PARAMETERS}))
    url = f"{server.url}{METADATA}/rights/in/a.png"
    cases = {
        server.token(): 200,
        server.token("--scope", "storage:read", "--prefix", "rights/in"): 200,
        server.token("--scope", "storage:read", "--prefix", "rights/i"): 403,
        server.token("--scope", "storage:write"): 403,
    }

    for token, status in cases.items():
        answer = httpx.get(url, headers={"Authorization": f"Bearer {token}"})
        assert answer.status_code == status
    assert httpx.get(url).status_code == 401
    missing = client.get(f"{METADATA}/rights/in/none.png")
    assert (missing.status_code, missing.json()["code"]) == (404, "not_found")
    assert client.get(f"{METADATA}/a/%2e%2e/b").status_code == 422
    assert client.get(f"{METADATA}/").status_code == 422


def test_a_signed_url_of_a_small_picture_does_not_show_how_it_was_made(
    client: httpx.Client, folder: str
) -> None:
    saved(client, f"{folder}/a.png", at.png({"parameters": PARAMETERS}))
    for transform in (None, {"width": 64}):
        asked = {"path": f"{folder}/a.png", "expires_in": 60}
        if transform is not None:
            asked["transform"] = transform
        signed = client.post("/api/v1/storage/signed-urls", json=asked).json()["url"]

        assert httpx.get(signed).status_code == 200
        assert httpx.get(signed.replace("/images/", "/metadata/")).status_code == 401


def test_public_images_have_public_facts(servers: Servers, started_as: Way, folder: str) -> None:
    server = servers.started(started_as, public_read="true")
    with server.client() as client:
        saved(client, f"{folder}/a.png", at.png({"parameters": PARAMETERS}))

    answer = httpx.get(f"{server.url}{METADATA}/{folder}/a.png")

    assert (answer.status_code, answer.json()["generation"]["seed"]) == (200, 965400086)
    assert answer.headers["cache-control"].startswith("public")


@pytest.mark.parametrize("size", [200_000, 900_000])
def test_a_large_graph_is_read_whole_and_one_beyond_the_bound_is_none(
    client: httpx.Client, folder: str, size: int
) -> None:
    graph = basic("a fox", "blurry", 7)
    graph["100"] = {"class_type": "Note", "inputs": {"text": "x" * size}}
    for name, more in (("a.png", 0), ("b.png", 1024**2)):
        graph["101"] = {"class_type": "Note", "inputs": {"text": "y" * more}}
        saved(client, f"{folder}/{name}", at.png({"prompt": json.dumps(graph)}))

    whole = client.get(f"{METADATA}/{folder}/a.png").json()["generation"]
    assert (whole["prompt"], whole["seed"]) == ("a fox", 7)
    assert whole["raw"]["prompt"]["100"]["inputs"]["text"] == "x" * size
    assert client.get(f"{METADATA}/{folder}/b.png").json()["generation"] is None


def test_hostile_texts_are_answered_as_plain_json(client: httpx.Client, folder: str) -> None:
    graph = basic('<img src=x onerror="alert(1)">', "\ud800 \0 \x1b[31m", 7)
    said = json.dumps(graph).replace('"cfg": 7.5', '"cfg": 1e999')
    said = said.replace('"denoise": 1.0', '"denoise": NaN, "n": ' + "9" * 5000)
    saved(client, f"{folder}/a.png", at.png({"prompt": said}))

    answer = client.get(f"{METADATA}/{folder}/a.png")

    assert (answer.status_code, answer.headers["x-content-type-options"]) == (200, "nosniff")
    found = json.loads(answer.content.decode("utf-8"), parse_constant=pytest.fail)["generation"]
    assert found["negative_prompt"] == "\ufffd \ufffd \x1b[31m"
    assert found["cfg_scale"] is None
    assert found["raw"]["prompt"]["3"]["inputs"]["n"] is None


def test_what_is_malformed_is_counted_and_no_error(client: httpx.Client, folder: str) -> None:
    def counted(outcome: str) -> float:
        text = client.get("/metrics").text
        name = rf'stillroom_generation_readings_total{{outcome="{outcome}"}} (\S+)'
        found = re.search(name, text)
        return float(found[1]) if found else 0

    bomb = zlib.compress(bytes(20 * 1024**2))
    chunks = (b"zTXt", b"parameters\0\0" + bomb), (b"tEXt", b"sd-metadata\0{" + b"[" * 100_000)
    before = counted("broken")
    for kind, content in chunks:
        saved(client, f"{folder}/a.png", at.png_with(at.chunk(kind, content)))
        answer = client.get(f"{METADATA}/{folder}/a.png")
        assert (answer.status_code, answer.json()["generation"]) == (200, None)
    saved(client, f"{folder}/a.png", b"\x89PNG\r\n\x1a\n" + struct.pack(">I4s", 2**31, b"tEXt"))
    assert client.get(f"{METADATA}/{folder}/a.png").json()["generation"] is None

    assert counted("broken") - before == 3


def test_an_image_says_whether_ai_made_it(client: httpx.Client, folder: str) -> None:
    def counted() -> dict[str, float]:
        text = client.get("/metrics").text
        found = re.findall(r'stillroom_ai_mark_readings_total{mark="(\w+)"} (\S+)', text)
        return {mark: float(number) for mark, number in found}

    given = {
        "none.png": (at.PLAIN["PNG"], "none"),
        "iptc.webp": (at.with_xmp("WEBP", at.iptc()), "iptc"),
        "c2pa.jpg": (at.with_c2pa("JPEG", at.jumbf()), "c2pa"),
        "both.png": (at.with_c2pa("PNG", at.jumbf(), at.with_xmp("PNG", at.iptc())), "both"),
        "malformed.png": (at.with_xmp("PNG", at.iptc()[:-9]), None),
        "large.webp": (at.with_xmp("WEBP", at.iptc() + " " * 7 * 1024**2), None),
        "no-jumbf.avif": (at.with_c2pa("AVIF", bytes(300)), None),
    }
    before = counted()
    for name, (data, mark) in given.items():
        saved(client, f"{folder}/{name}", data)

        answer = client.get(f"{METADATA}/{folder}/{name}")

        assert (answer.status_code, answer.json()["ai_mark"]) == (200, mark), name
        assert client.get(f"{IMAGES}/{folder}/{name}").content == data

    after = counted()
    grown = {mark: after[mark] - before.get(mark, 0) for mark in after}
    assert grown == {"none": 1, "iptc": 1, "c2pa": 1, "both": 1, "unknown": 3}
