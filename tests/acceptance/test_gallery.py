"""The page at `/` as it is served: what a browser is told, and how little it is."""

import re
from pathlib import Path

import httpx
import pytest

from running import IMAGES, Server, running

BATCH = "/api/v1/batch"
SCRIPT = re.compile(r"<script(?![^>]* src=)|\son\w+=|javascript:|<style|\sstyle=", re.IGNORECASE)


def files_of(page: httpx.Response) -> set[str]:
    """What the page refers to."""
    return set(re.findall(r'(?:href|src)="(gallery/[^"]+)"', page.text))


def test_the_page_needs_no_token_and_says_what_it_may_load(server: Server) -> None:
    page = httpx.get(f"{server.url}/")

    assert page.status_code == 200
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert page.headers["content-security-policy"] == (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
        "img-src 'self' blob:; media-src 'self' blob:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
        "require-trusted-types-for 'script'; trusted-types 'none'"
    )
    assert page.headers["x-content-type-options"] == "nosniff"
    assert page.headers["referrer-policy"] == "no-referrer"
    assert page.headers["cross-origin-opener-policy"] == "same-origin"
    assert not SCRIPT.search(page.text)
    assert httpx.head(f"{server.url}/").headers["etag"] == page.headers["etag"]


def test_the_page_is_asked_for_each_time_and_its_files_once(server: Server) -> None:
    page = httpx.get(f"{server.url}/")
    assert page.headers["cache-control"] == "no-cache"
    again = httpx.get(f"{server.url}/", headers={"If-None-Match": page.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["content-security-policy"] == page.headers["content-security-policy"]

    names = files_of(page)
    assert {name.rpartition(".")[2] for name in names} == {"css", "js", "svg"}
    for name in names:
        file = httpx.get(f"{server.url}/{name}")
        assert file.status_code == 200
        assert file.headers["cache-control"] == "public, max-age=31536000, immutable"
        assert file.headers["x-content-type-options"] == "nosniff"
        known = httpx.get(f"{server.url}/{name}", headers={"If-None-Match": file.headers["etag"]})
        assert known.status_code == 304


@pytest.mark.parametrize(
    ("takes", "packed"),
    [("gzip, br", True), ("br, gzip;q=0.5", True), ("gzip;q=0", False), ("br", False), ("", False)],
)
def test_it_is_compressed_for_clients_that_accept_gzip(
    server: Server, takes: str, packed: bool
) -> None:
    page = httpx.get(f"{server.url}/", headers={"Accept-Encoding": takes})

    assert page.headers.get("content-encoding") == ("gzip" if packed else None)
    assert page.headers["vary"] == "accept-encoding"
    assert page.text.startswith("<!doctype html>")
    if packed:
        plain = httpx.get(f"{server.url}/", headers={"Accept-Encoding": "identity"})
        assert plain.text == page.text
        assert plain.headers["etag"] != page.headers["etag"]


def test_no_other_file_is_served_below_it(server: Server) -> None:
    (script,) = [name for name in files_of(httpx.get(f"{server.url}/")) if name.endswith("app.js")]
    version = script.split("/")[1]
    for target in (
        f"gallery/{version}/index.html",
        f"gallery/{version}/..%2fpage.py",
        f"gallery/{version}/%2e%2e/page.py",
        f"gallery/{version}/",
        f"gallery/{version[::-1]}/app.js",
        "gallery/app.js",
    ):
        assert httpx.get(f"{server.url}/{target}").status_code == 404, target
    assert httpx.post(f"{server.url}/").status_code == 405


def test_all_of_it_weighs_less_than_335_kb_and_117_as_sent(server: Server) -> None:
    page = httpx.get(f"{server.url}/")
    answers = [page, *(httpx.get(f"{server.url}/{name}") for name in files_of(page))]
    files = [answer.content for answer in answers]

    assert sum(map(len, files)) < 335_000
    assert sum(answer.num_bytes_downloaded for answer in answers) < 117_000
    asked = {name.rpartition("/")[2] for name in files_of(page)}
    imported = {name for file in files for name in re.findall(r'from "\./([^"]+)"', file.decode())}
    assert imported <= asked, "each module is asked for with the page, not one after the other"


def test_a_batch_of_reads_is_answered_by_one_response(server: Server, folder: str) -> None:
    with server.client() as client:
        for name in ("a", "b c"):
            client.post(
                f"{IMAGES}/{folder}/{name}.txt", files={"file": b"words"}
            ).raise_for_status()
        reads = [
            f"storage/images?prefix={folder}/b%20&limit=9",
            f"storage/runs?prefix={folder}/&limit=1",
            "storage/search?limit=none",
        ]
        answer = client.post(BATCH, json={"targets": reads})
        assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-store")
        listed, runs, refused = answer.json()["results"]
        assert listed == {"status": 200, "body": [f"{folder}/b c.txt"]}
        assert (runs["status"], runs["body"][0]["folder"]) == (200, folder)
        assert (refused["status"], refused["body"]["code"]) == (422, "invalid_parameter")

        for target in (
            f"storage/images/{folder}/a.txt",
            "storage/images/../runs",
            "batch",
            "storage/signed-urls?x",
            "media-resources/ingest",
            "storage/images?prefix=é",
        ):
            assert client.post(BATCH, json={"targets": [target]}).status_code == 422, target
        assert client.post(BATCH, json={"targets": reads * 30}).status_code == 422
        assert "/batch" not in client.get("/openapi.json").text
    without_token = httpx.post(f"{server.url}{BATCH}", json={"targets": reads})
    assert (without_token.status_code, without_token.json()["code"]) == (401, "unauthenticated")
    with server.client("--prefix", "elsewhere/") as confined:
        (forbidden,) = confined.post(BATCH, json={"targets": reads[:1]}).json()["results"]
        assert (forbidden["status"], forbidden["body"]["code"]) == (403, "forbidden")


def test_a_setting_switches_it_off(tmp_path: Path) -> None:
    with running(tmp_path, gallery="false") as server:
        page = httpx.get(f"{server.url}/")
        assert (page.status_code, page.headers["content-type"]) == (404, "application/json")
        assert httpx.post(f"{server.url}{BATCH}", json={"targets": []}).status_code == 404
