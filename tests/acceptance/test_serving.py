"""Ranges, conditions and safe headers over HTTP; the rules themselves are tested in unit/."""

import httpx
import pytest

from running import IMAGES

pytestmark = [pytest.mark.both_paths, pytest.mark.hosts("disk")]

DATA = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 4000


@pytest.fixture
def url(client: httpx.Client, folder: str) -> str:
    saved = client.post(f"{IMAGES}/{folder}/big.png", files={"file": DATA})
    return str(saved.json()["url"])


@pytest.mark.parametrize(
    ("asked", "part"),
    [
        ("bytes=0-0", DATA[:1]),
        ("bytes=100-70000", DATA[100:70001]),
        ("bytes=1000000-", DATA[1000000:]),
        ("bytes=-5", DATA[-5:]),
    ],
)
def test_a_range_is_answered_with_its_bytes(
    client: httpx.Client, url: str, asked: str, part: bytes
) -> None:
    answer = client.get(url, headers={"Range": asked})
    assert (answer.status_code, answer.content) == (206, part)


@pytest.mark.parametrize("asked", ["bytes=0-1,5-6", "lines=1-2", "bytes=15-,0-5"])
def test_what_is_no_single_byte_range_is_answered_in_full(
    client: httpx.Client, url: str, asked: str
) -> None:
    answer = client.get(url, headers={"Range": asked})
    assert (answer.status_code, answer.content) == (200, DATA)


def test_a_cached_copy_is_revalidated_without_the_bytes(client: httpx.Client, url: str) -> None:
    etag = client.head(url).headers["etag"]

    for method in ("GET", "HEAD"):
        answer = client.request(method, url, headers={"If-None-Match": etag})
        assert (answer.status_code, answer.content) == (304, b"")
        assert answer.headers["etag"] == etag
        assert answer.headers["cache-control"] == "private, max-age=0, must-revalidate"


def test_head_has_the_headers_of_get(client: httpx.Client, url: str) -> None:
    got, headed = client.get(url).headers, client.head(url, headers={"Range": "bytes=0-1"}).headers
    for headers in (got, headed):
        del headers["date"]
    assert got == headed


@pytest.mark.parametrize(
    ("name", "data", "content_type", "disposition"),
    [
        ("a.png", b"\x89PNG\r\n\x1a\n", "image/png", None),
        ("a.svg", b"<svg/>", "image/svg+xml", "attachment"),
        ("a.png", b"<svg xmlns='x'><script>1</script></svg>", "image/svg+xml", "attachment"),
        ("a.jpg", b"<!DOCTYPE html><p>", "text/html", "attachment"),
        ("a.bin", b"\x00", "application/octet-stream", "attachment"),
    ],
)
def test_stored_content_is_served_so_that_nothing_in_it_runs(
    client: httpx.Client,
    folder: str,
    name: str,
    data: bytes,
    content_type: str,
    disposition: str | None,
) -> None:
    client.post(f"{IMAGES}/{folder}/{name}", files={"file": (name, data, "text/html")})

    headers = client.get(f"{IMAGES}/{folder}/{name}").headers

    assert headers["content-type"] == content_type
    assert headers.get("content-disposition") == disposition
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["content-security-policy"] == "default-src 'none'; sandbox"


@pytest.mark.hosts("none")  # their Date is the ASGI server's, and uvicorn's is up to a second old
def test_last_modified_is_never_in_the_future(client: httpx.Client, folder: str) -> None:
    from email.utils import parsedate_to_datetime

    for _ in range(5):
        client.post(f"{IMAGES}/{folder}/a.png", files={"file": b"x"})
        headers = client.get(f"{IMAGES}/{folder}/a.png").headers
        assert parsedate_to_datetime(headers["last-modified"]) <= parsedate_to_datetime(
            headers["date"]
        )
