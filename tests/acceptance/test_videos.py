"""Videos over HTTP: saved, listed, read in parts and ingested, and what is broken refused."""

import os
from collections import Counter

import httpx
import pytest

from damaged import damaged
from running import IMAGES, Server
from videos import SIZE, Mp4, frames, webm

LIBRARY = "/api/v1/media-resources"
ENTRIES = IMAGES.replace("images", "entries")


LENGTH_S = Mp4(frames()).length_ms / 1000


def unique(seed: int) -> bytes:
    """A video that no other test has."""
    return Mp4(frames()).file(before=1000 + seed)


@pytest.mark.both_paths(whole=True)
@pytest.mark.parametrize(
    ("name", "data", "content_type"),
    [
        ("clip.mp4", unique(1), "video/mp4"),
        ("clip.webm", webm(frames()), "video/webm"),
        ("clip.mov", Mp4(frames()).file(brand=b"qt  "), "video/quicktime"),
        ("clip.png", unique(2), "video/mp4"),
        ("no-clip.mp4", b"not a video", "application/octet-stream"),
    ],
)
def test_a_video_is_known_by_its_content_and_read_in_parts(
    client: httpx.Client, folder: str, name: str, data: bytes, content_type: str
) -> None:
    url = f"{IMAGES}/{folder}/{name}"
    saved = client.post(url, files={"file": (name, data, "video/mp4")}).json()

    part = client.get(url, headers={"Range": "bytes=4-7", "If-Range": saved["etag"]})
    (entry,) = client.get(ENTRIES, params={"prefix": f"{folder}/{name}"}).json()

    assert saved["content_type"] == entry["content_type"] == content_type
    assert (part.status_code, part.content) == (206, data[4:8])
    assert part.headers["content-type"] == content_type
    is_video = content_type.startswith("video/")
    assert part.headers.get("content-disposition") == (None if is_video else "attachment")
    assert client.get(url).content == data


def test_a_video_becomes_a_resource(client: httpx.Client, folder: str) -> None:
    data = unique(3 + os.getpid())
    client.post(f"{IMAGES}/{folder}/a", files={"file": data})

    answer = client.post(f"{LIBRARY}/ingest", json={"storage_key": f"compute/{folder}/a"})

    assert answer.status_code == 200, answer.text
    resource = answer.json()
    assert (resource["content_type"], resource["extension"]) == ("video/mp4", "mp4")
    assert (resource["resource_type"], resource["duration"]) == ("video", LENGTH_S)
    assert (resource["width"], resource["height"]) == SIZE
    listed = client.get(LIBRARY, params={"resource_type": "video", "limit": 1}).json()
    assert [one["id"] for one in listed] == [resource["id"]]
    file = client.get(f"{LIBRARY}/{resource['id']}/file", headers={"Range": "bytes=4-7"})
    assert file.content == b"ftyp"
    assert "content-disposition" not in file.headers


def test_a_damaged_video_is_taken_or_refused_and_nothing_else(
    client: httpx.Client, server: Server, folder: str
) -> None:
    """See `unit/test_video_headers.py` for two thousand of them."""
    statuses: Counter[int] = Counter()
    for name, data in damaged(60):
        path = f"{folder}/{name.replace(' ', '-')}"
        if client.post(f"{IMAGES}/{path}", files={"file": data}).status_code == 422:
            continue  # nothing is left of it
        asked = {"storage_key": f"compute/{path}", "relocate": False}
        answer = client.post(f"{LIBRARY}/ingest", json=asked)
        statuses[answer.status_code] += 1

    assert set(statuses) == {200, 415}, statuses
    assert client.get(f"{server.url}/healthz").status_code == 200
