"""From which images an image was made, and which were made from it: metadata and searches."""

import functools
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from acceptance.conftest import Servers, Way
from generation import carriers as at
from generation.comfy_graphs import basic, node
from running import IMAGES, Server, running
from stillroom.generation.writing.embed import with_generation
from waiting import until, until_equal

METADATA = "/api/v1/storage/metadata"
LIBRARY = "/api/v1/media-resources"
SEARCH = "/api/v1/storage/search"


def save(client: httpx.Client, path: str, data: bytes) -> str:
    client.post(f"{IMAGES}/{path}", files={"file": ("a", data)}).raise_for_status()
    return hashlib.sha256(data).hexdigest()


def picture(text: str, *origins: str) -> bytes:
    """Return an image that no other test saves, made from these origins."""
    plain = at.png({"comment": text})
    return with_generation(plain, {"prompt": text, "derived_from": [*origins]})


def lineage(client: httpx.Client, path: str) -> tuple[list[str] | None, int | None]:
    found = client.get(f"{METADATA}/{path}").raise_for_status().json()
    return found["derived_from"], found["derivatives"]


def found(client: httpx.Client, **asked: Any) -> list[str]:
    answer = client.get(SEARCH, params={"sort": "path", **asked}).raise_for_status()
    return [item["path"] for item in answer.json()["items"]]


def loaded(**images: str) -> Mapping[str, Any]:
    """Return a graph whose sampler begins with an image that is loaded."""
    graph = basic("a fox", "", 7)
    graph["20"] = node("LoadImage", **images)
    graph["21"] = node("VAEEncode", pixels=["20", 0], vae=["4", 2])
    graph["3"]["inputs"]["latent_image"] = ["21", 0]
    return graph


@pytest.mark.hosts
def test_an_image_has_its_origins_and_counts_what_was_made_from_it(
    client: httpx.Client, folder: str
) -> None:
    base = f"{folder}/base.png"
    sha256 = save(client, base, picture(f"{folder} base"))
    save(client, f"{folder}/path.png", picture("a", base, f"{folder}/missing.png"))
    save(client, f"{folder}/hash.png", picture("b", sha256.upper()))
    save(client, f"{folder}/other.png", picture("c", base.upper(), f"{base}x"))
    made = [f"{folder}/hash.png", f"{folder}/path.png"]

    until_equal(lambda: lineage(client, base), ([], 2))
    until_equal(lambda: lineage(client, made[0]), ([base], 0))
    until_equal(lambda: lineage(client, made[1]), ([base], 0))
    until_equal(lambda: lineage(client, f"{folder}/other.png"), ([], 0))
    for asked in (base, sha256, sha256.upper()):
        assert found(client, derived_from=asked) == made, asked
        assert found(client, q=f'derived_from:"{asked}"', prefix=folder) == made, asked
    assert found(client, q=f'-derived_from:"{base}"', prefix=f"{folder}/") == [
        base,
        f"{folder}/other.png",
    ]

    client.delete(f"{IMAGES}/{base}").raise_for_status()
    until_equal(lambda: lineage(client, made[0]), ([], 0))
    assert found(client, derived_from=base) == [f"{folder}/path.png"]
    assert found(client, derived_from=sha256) == [f"{folder}/hash.png"]


def test_the_media_library_is_searched_by_origin(client: httpx.Client, folder: str) -> None:
    sha256 = save(client, f"{folder}/base.png", picture(f"{folder} base"))
    keys = [f"compute/{folder}/{name}.png" for name in ("made", "other")]
    save(client, f"{folder}/made.png", picture(f"{folder} made", sha256))
    save(client, f"{folder}/other.png", picture(f"{folder} other"))
    for key in keys:
        body = {"storage_key": key, "relocate": False}
        client.post(f"{LIBRARY}/ingest", json=body).raise_for_status()

    def listed(asked: str) -> list[str]:
        answer = client.get(LIBRARY, params={"derived_from": asked}).raise_for_status()
        return [resource["source_key"] for resource in answer.json()]

    until_equal(lambda: listed(f"{folder}/base.png"), keys[:1])
    assert listed(sha256) == keys[:1]
    assert lineage(client, f"{folder}/base.png") == ([], 1), "resources are not counted"


def test_what_comfyui_loaded_is_found_in_the_folder_of_the_image_and_from_the_root(
    client: httpx.Client, folder: str
) -> None:
    save(client, f"{folder}/in/fox.png", picture(f"{folder} fox"))
    save(client, f"{folder}/fox.png", picture(f"{folder} fox 2"))
    cases = {
        "a.png": ("in/fox.png [input]", [f"{folder}/in/fox.png"]),
        "b.png": ("in\\fox.png", [f"{folder}/in/fox.png"]),
        "in/c.png": ("fox.png [output]", [f"{folder}/in/fox.png"]),
        "other/d.png": (f"{folder}/fox.png", [f"{folder}/fox.png"]),
        "other/e.png": ("../fox.png", []),
        "other/f.png": (f"/{folder}/fox.png", []),
        "other/g.png": ("fox.png", []),
    }
    for name, (image, _) in cases.items():
        data = at.png({"prompt": json.dumps(loaded(image=image))})
        save(client, f"{folder}/{name}", data)

    for name, (_, origins) in cases.items():
        until_equal(functools.partial(lineage, client, f"{folder}/{name}"), (origins, 0))
    assert lineage(client, f"{folder}/in/fox.png") == ([], 3)
    assert lineage(client, f"{folder}/fox.png") == ([], 1)


def test_metadata_that_a_client_has_is_current_until_its_lineage_changes(
    client: httpx.Client, folder: str
) -> None:
    base, url = f"{folder}/base.png", f"{METADATA}/{folder}/made.png"
    save(client, f"{folder}/made.png", picture("a", base))
    until_equal(lambda: lineage(client, f"{folder}/made.png"), ([], 0))
    etags = [client.get(url).headers["etag"]]
    assert client.get(url, headers={"If-None-Match": etags[0]}).status_code == 304

    save(client, base, picture(f"{folder} base"))
    until_equal(lambda: lineage(client, f"{folder}/made.png"), ([base], 0))
    etags.append(client.get(url).headers["etag"])
    save(client, f"{folder}/again.png", picture("b", f"{folder}/made.png"))
    until_equal(lambda: lineage(client, f"{folder}/made.png"), ([base], 1))

    for etag in etags:
        answer = client.get(url, headers={"If-None-Match": etag})
        assert (answer.status_code, answer.headers["etag"] in etags) == (200, False)
    assert "max-age=0" in answer.headers["cache-control"]


def test_a_token_sees_only_lineage_in_its_folder(
    server: Server, client: httpx.Client, folder: str
) -> None:
    inside, outside = f"{folder}/in", f"{folder}/out"
    secret = save(client, f"{outside}/base.png", picture(f"{folder} secret"))
    save(client, f"{inside}/a.png", picture("a", f"{outside}/base.png"))
    save(client, f"{inside}/b.png", picture("b", secret, f"{inside}/a.png"))
    save(client, f"{outside}/c.png", picture("c", f"{inside}/a.png"))
    until_equal(lambda: lineage(client, f"{inside}/a.png"), ([f"{outside}/base.png"], 2))
    until_equal(lambda: lineage(client, f"{outside}/base.png"), ([], 2))

    token = server.token("--scope", "storage:read", "--prefix", inside)
    headers = {"Authorization": f"Bearer {token}"}
    with httpx.Client(base_url=server.url, headers=headers) as limited:
        assert lineage(limited, f"{inside}/a.png") == ([], 1)
        assert lineage(limited, f"{inside}/b.png") == ([f"{inside}/a.png"], 0)
        # It does not learn that the hash is that of the path.
        assert found(limited, derived_from=f"{outside}/base.png") == [f"{inside}/a.png"]
        assert found(limited, derived_from=secret) == [f"{inside}/b.png"]
        url = f"{METADATA}/{inside}/a.png"
        assert limited.get(url).headers["etag"] != client.get(url).headers["etag"]


def test_public_images_show_their_lineage_to_tokens_alone(
    servers: Servers, started_as: Way, folder: str
) -> None:
    server = servers.started(started_as, public_read="true")
    with server.client() as client:
        save(client, f"{folder}/a.png", picture(f"{folder} a"))
        save(client, f"{folder}/b.png", picture("b", f"{folder}/a.png"))
        until_equal(lambda: lineage(client, f"{folder}/b.png"), ([f"{folder}/a.png"], 0))
        private = client.get(f"{METADATA}/{folder}/b.png")
    writer = {"Authorization": f"Bearer {server.token('--scope', 'storage:write')}"}

    for headers in ({}, writer):
        public = httpx.get(f"{server.url}{METADATA}/{folder}/b.png", headers=headers)
        assert (public.json()["derived_from"], public.json()["derivatives"]) == (None, None)
        assert public.json()["generation"]["derived_from"] == [f"{folder}/a.png"]
        assert public.headers["cache-control"].startswith("public")
        assert public.headers["etag"] != private.headers["etag"]
    assert private.headers["cache-control"].startswith("private")


def test_a_database_that_does_not_respond_leaves_the_lineage_unknown(
    tmp_path: Path, database_url: str
) -> None:
    with running(tmp_path, database_url=database_url) as server, server.client() as client:
        save(client, "a.png", picture("a"))
        save(client, "b.png", picture("b", "a.png"))
        until_equal(lambda: lineage(client, "b.png"), (["a.png"], 0))
        with psycopg.connect(database_url) as locking:
            locking.execute("LOCK TABLE search_images IN ACCESS EXCLUSIVE MODE")
            answer = client.get(f"{METADATA}/b.png", timeout=60)
            assert (answer.status_code, answer.json()["derived_from"]) == (200, None)
            assert answer.json()["derivatives"] is None
            assert answer.json()["generation"]["derived_from"] == ["a.png"]
        until(lambda: lineage(client, "b.png") == (["a.png"], 0))
        again = client.get(f"{METADATA}/b.png", headers={"If-None-Match": answer.headers["etag"]})
        assert again.status_code == 200
