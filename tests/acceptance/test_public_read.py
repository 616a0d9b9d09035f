"""STILLROOM_PUBLIC_READ: anybody reads an image whose path they know, and does nothing else."""

from urllib.parse import quote

import httpx
import pytest

from acceptance.conftest import Servers, Way
from running import IMAGES, Server, exchange, parsed
from waiting import until

STORAGE = "/api/v1/storage"
PUBLIC = "public, max-age=0, must-revalidate"
PNG = b"\x89PNG\r\n\x1a\n" + bytes(100)
PATH = "a b/tom & jérôme.png"


@pytest.fixture
def public(started_as: Way, servers: Servers) -> Server:
    started = servers.started(started_as, public_read="true")
    with started.client() as client:
        client.post(f"{IMAGES}/{quote(PATH)}", files={"file": PNG}).raise_for_status()
    return started


@pytest.fixture
def url(public: Server) -> str:
    return f"{public.images}/{quote(PATH)}"


def bearer(server: Server, *options: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {server.token(*options)}"}


def sign(server: Server, path: str, expires_in: int = 60) -> str:
    with server.client() as client:
        asked = {"path": path, "expires_in": expires_in}
        return str(client.post(f"{STORAGE}/signed-urls", json=asked).json()["url"])


@pytest.mark.both_paths(whole=True)
def test_anybody_reads_an_image_and_may_keep_it_if_they_ask_each_time(url: str) -> None:
    got = httpx.get(url)
    assert (got.status_code, got.content) == (200, PNG)
    headed = httpx.head(url)
    assert (headed.status_code, headed.headers["content-length"]) == (200, str(len(PNG)))
    part = httpx.get(url, headers={"Range": "bytes=0-3"})
    assert (part.status_code, part.content) == (206, PNG[:4])
    current = httpx.get(url, headers={"If-None-Match": got.headers["etag"]})
    headed_again = httpx.head(url, headers={"If-None-Match": got.headers["etag"]})
    assert (current.status_code, headed_again.status_code) == (304, 304)
    outside = httpx.get(url, headers={"Range": "bytes=1000-"})
    assert outside.status_code == 416
    for answer in (got, headed, part, current, headed_again, outside):
        assert answer.headers["cache-control"] == PUBLIC
    assert got.headers["x-content-type-options"] == "nosniff"
    assert "sandbox" in got.headers["content-security-policy"]


@pytest.mark.both_paths(whole=True)
def test_a_missing_image_is_a_404_that_no_cache_keeps(public: Server) -> None:
    for method in ("GET", "HEAD"):
        answer = httpx.request(method, f"{public.images}/soon.png")
        assert (answer.status_code, answer.headers["cache-control"]) == (404, "no-store")


@pytest.mark.both_paths(whole=True)
def test_whoever_shows_a_token_reads_everything_whatever_it_covers(
    public: Server, url: str
) -> None:
    for options in (
        (),
        ("--scope", "storage:write"),
        ("--scope", "storage:read", "--prefix", "elsewhere"),
    ):
        for method in ("GET", "HEAD"):
            answer = httpx.request(method, url, headers=bearer(public, *options))
            assert (answer.status_code, answer.headers["cache-control"]) == (200, PUBLIC)


@pytest.mark.both_paths(whole=True)
@pytest.mark.parametrize("authorization", ["", "Bearer", "Bearer x.y.z", "Basic dTpw"])
def test_whoever_shows_what_is_no_valid_token_is_told(
    public: Server, url: str, authorization: str
) -> None:
    for method in ("GET", "HEAD"):
        answer = httpx.request(method, url, headers={"Authorization": authorization})
        assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
    other = httpx.get(f"{public.images}/soon.png", headers={"Authorization": authorization})
    assert other.status_code == 401, "before anything is looked up"


def test_signed_urls_keep_working_and_keep_ending(public: Server, url: str) -> None:
    signed = sign(public, PATH)
    got = httpx.get(signed)
    assert (got.status_code, got.headers["cache-control"]) == (200, PUBLIC)
    assert got.headers["referrer-policy"] == "no-referrer"
    assert httpx.head(signed).status_code == 200
    assert httpx.get(f"{signed}x").status_code == 401
    assert httpx.get(signed, headers={"Authorization": "Bearer x.y.z"}).status_code == 401

    brief = sign(public, PATH, 1)
    until(lambda: httpx.get(brief).status_code != 200)
    assert httpx.get(brief).status_code == 401
    assert httpx.get(url).status_code == 200


def test_anybody_does_nothing_but_read_an_image(public: Server, url: str) -> None:
    for method, target in (
        ("GET", public.images),
        ("GET", f"{public.images}?prefix={quote(PATH)}"),
        ("GET", f"{public.url}{STORAGE}/entries"),
        ("POST", f"{public.url}{STORAGE}/signed-urls"),
        ("POST", url),
        ("POST", f"{public.images}/new.png"),
        ("DELETE", url),
        ("DELETE", f"{public.images}/missing.png"),
    ):
        files = {"file": b"x"} if method == "POST" else None
        answer = httpx.request(method, target, files=files)
        assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer"), target
    assert httpx.get(url).content == PNG
    assert httpx.get(f"{public.images}/new.png").status_code == 404


def test_a_zip_file_needs_a_token_or_a_link_even_if_its_images_do_not(public: Server) -> None:
    archive = f"{public.url}{STORAGE}/archive"
    body = {"archive": {"prefix": "a b/"}}
    with public.client() as client:
        link = client.post(f"{STORAGE}/signed-urls", json=body).json()["url"]
    query = link.partition("?")[2]

    assert (httpx.get(link).status_code, link.partition("?")[0]) == (200, archive)
    for target in (archive, f"{archive}?prefix=a", f"{link}x", f"{archive}?prefix=&{query}"):
        assert httpx.get(target).status_code == 401


def test_tokens_cover_no_more_than_before_but_for_reading(public: Server, url: str) -> None:
    elsewhere = bearer(public, "--scope", "storage:read", "--prefix", "elsewhere")
    writer = bearer(public, "--scope", "storage:write")
    for method, target, headers in (
        ("GET", public.images, writer),
        ("GET", f"{public.url}{STORAGE}/entries", writer),
        ("GET", f"{public.images}?prefix=a", elsewhere),
        ("GET", f"{public.url}{STORAGE}/entries?prefix=a", elsewhere),
        ("DELETE", url, writer),
        ("DELETE", url, elsewhere),
    ):
        assert httpx.request(method, target, headers=headers).status_code == 403, target
    for headers in (writer, elsewhere):
        signing = httpx.post(
            f"{public.url}{STORAGE}/signed-urls", json={"path": PATH}, headers=headers
        )
        assert signing.status_code == 403
    assert httpx.get(public.images, headers=elsewhere).json() == []
    assert httpx.get(url).content == PNG


@pytest.mark.both_paths(whole=True)
@pytest.mark.parametrize("path", ["", "../secret", "..%2f.stillroom/secret", "a%00", "a//b", "/a"])
def test_a_hostile_path_is_refused_to_anybody_as_to_all(public: Server, path: str) -> None:
    for method in ("GET", "HEAD"):
        request = f"{method} {IMAGES}/{path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
        assert parsed(exchange(public.port, request.encode())).status == 422


@pytest.mark.workers(whole=True)
def test_the_start_says_once_that_images_are_public(public: Server) -> None:
    assert public.logged().count("images are public: they can be read without a token") == 1


@pytest.mark.both_paths(whole=True)
def test_by_default_nobody_reads_without_a_token_and_nothing_is_said(
    server: Server, client: httpx.Client, folder: str
) -> None:
    target = f"{server.images}/{folder}/a.png"
    client.post(target, files={"file": PNG})

    assert httpx.get(target).status_code == 401
    assert httpx.head(target).status_code == 401
    assert client.get(target).headers["cache-control"] == "private, max-age=0, must-revalidate"
    assert "public" not in server.logged()
