"""A ZIP of many images over HTTP: complete, or visibly broken off."""

import io
import zipfile

import httpx
import pytest

from generation import carriers as at
from pictures import picture
from running import IMAGES, Server

pytestmark = pytest.mark.hosts("disk")

ARCHIVE = "/api/v1/storage/archive"
INGEST = "/api/v1/media-resources/ingest"
SETTINGS = "Steps: 20, Sampler: Euler a, CFG scale: 7, Seed: 7, Size: 512x512"
PNG = b"\x89PNG\r\n\x1a\n" + bytes(100)


def save(client: httpx.Client, path: str, data: bytes) -> None:
    client.post(f"{IMAGES}/{path}", files={"file": data}).raise_for_status()


def contents(answer: httpx.Response) -> dict[str, bytes]:
    """The entries of a ZIP, their checksums compared."""
    assert answer.status_code == 200, answer.text
    with zipfile.ZipFile(io.BytesIO(answer.content)) as found:
        assert all(one.compress_type == zipfile.ZIP_STORED for one in found.infolist())
        return {one.filename: found.read(one) for one in found.infolist()}


def test_a_prefix_is_one_file_with_all_that_is_below(client: httpx.Client, folder: str) -> None:
    given = {f"{folder}/{name}": PNG + name.encode() for name in ("a.png", "d/é ü.png", "z")}
    for path, data in given.items():
        save(client, path, data)
    save(client, f"{folder}x/other.png", PNG)

    answer = client.get(ARCHIVE, params={"prefix": f"{folder}/"})

    assert contents(answer) == given
    assert answer.headers["content-type"] == "application/zip"
    assert answer.headers["content-disposition"] == f'attachment; filename="{folder}.zip"'
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "no-store" in answer.headers["cache-control"]


def test_paths_are_one_file_with_all_of_them(client: httpx.Client, folder: str) -> None:
    for name in ("a", "b", "c"):
        save(client, f"{folder}/{name}", PNG + name.encode())
    a, b = f"{folder}/a", f"{folder}/b"

    some = client.post(ARCHIVE, json={"paths": [b, a, b]})
    missing = client.post(ARCHIVE, json={"paths": [a, f"{folder}/none"]})

    assert contents(some) == {a: PNG + b"a", b: PNG + b"b"}
    assert missing.status_code == 404
    assert missing.json()["detail"] == f"{folder}/none: no such image"


def test_images_that_the_library_has_moved_are_in_it_for_those_who_may_see_them(
    client: httpx.Client, server: Server, folder: str
) -> None:
    save(client, f"{folder}/a", PNG)
    save(client, f"{folder}/b.png", picture(7))
    ingested = client.post(INGEST, json={"storage_key": f"compute/{folder}/b.png"})
    key = ingested.raise_for_status().json()["storage_key"]
    asked = {"paths": [f"{folder}/a"], "storage_keys": [key]}

    assert contents(client.post(ARCHIVE, json=asked)) == {f"{folder}/a": PNG, key: picture(7)}
    for wrong in ("media/../secret", f"compute/{folder}/a", key.replace("file", "..")):
        assert client.post(ARCHIVE, json={"storage_keys": [wrong]}).status_code == 422
    assert client.post(ARCHIVE, json={}).status_code == 422
    for options in (("--prefix", folder), ("--scope", "storage:read")):
        with server.client(*options) as confined:
            assert confined.post(ARCHIVE, json=asked).status_code == 403


def test_a_token_with_a_folder_gets_its_own(
    client: httpx.Client, server: Server, folder: str
) -> None:
    save(client, f"{folder}/mine/a", PNG)
    save(client, f"{folder}/yours/b", PNG)

    with server.client("--prefix", f"{folder}/mine") as mine:
        whole = mine.get(ARCHIVE)
        above = mine.get(ARCHIVE, params={"prefix": f"{folder}/"})
        yours = mine.get(ARCHIVE, params={"prefix": f"{folder}/yours/"})
        named = mine.post(ARCHIVE, json={"paths": [f"{folder}/mine/a", f"{folder}/yours/b"]})
    with server.client("--scope", "storage:write") as writer:
        unread = writer.get(ARCHIVE), writer.post(ARCHIVE, json={"paths": ["a"]})

    assert contents(whole) == contents(above) == {f"{folder}/mine/a": PNG}
    assert (yours.status_code, named.status_code) == (403, 403)
    assert [answer.status_code for answer in unread] == [403, 403]
    assert httpx.get(f"{server.url}{ARCHIVE}").status_code == 401


def test_a_signed_url_leads_to_the_archive_wherever_the_app_is_mounted(
    client: httpx.Client, server: Server, folder: str
) -> None:
    save(client, f"{folder}/a", PNG)
    body = {"archive": {"prefix": f"{folder}/"}}

    url = client.post("/api/v1/storage/signed-urls", json=body).json()["url"]

    assert url.startswith(f"{server.url}{ARCHIVE}?prefix={folder}/&expires=")
    assert contents(httpx.get(url)) == {f"{folder}/a": PNG}
    for altered in (f"{url}&sidecars=captions", url.replace(folder, ""), f"{url}A"):
        assert httpx.get(altered).status_code == 401


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("prefix=../", 422),
        ("prefix=%ff", 422),
        ("prefix=a&prefix=b", 422),
        ("sidecars=faces", 422),
        ("prefix=there-is-nothing/", 404),
    ],
)
def test_what_cannot_be_an_archive_is_refused(
    client: httpx.Client, query: str, status: int
) -> None:
    assert client.get(f"{ARCHIVE}?{query}").status_code == status


@pytest.mark.parametrize(
    "form", [{}, {"paths": []}, {"paths": ["../x"]}, {"paths": ["a"] * 1001}, {"paths": ["a\0"]}]
)
def test_paths_that_are_none_are_refused(client: httpx.Client, form: object) -> None:
    assert client.post(ARCHIVE, json=form).status_code == 422


def test_captions_go_along_and_take_no_name_of_an_image(client: httpx.Client, folder: str) -> None:
    told = at.png({"parameters": f"a red fox\n{SETTINGS}"})
    given = {
        f"{folder}/a.jpg.png": told,
        f"{folder}/b.png": told,
        f"{folder}/b.x.png": told,
        f"{folder}/c.png": told,
        f"{folder}/c.txt": b"an image's own",
        f"{folder}/d.PNG": told,
        f"{folder}/d.png": told,
        f"{folder}/e.png": PNG,
    }
    for path, data in given.items():
        save(client, path, data)

    answer = client.get(ARCHIVE, params={"prefix": f"{folder}/", "sidecars": "captions"})

    texts = {path: data for path, data in contents(answer).items() if given.get(path) != data}
    names = ["a.jpg.txt", "b.txt", "b.x.txt", "c.png.txt", "d.txt", "d.png.txt"]
    assert texts == {f"{folder}/{name}": b"a red fox" for name in names}
