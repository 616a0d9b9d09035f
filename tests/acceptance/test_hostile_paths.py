"""Paths that HTTP clients would clean, sent as they are."""

from pathlib import Path

import httpx
import pytest

from acceptance.hostile import REFUSED
from running import IMAGES, Server, exchange, parsed

pytestmark = pytest.mark.hosts

METHODS = (b"GET", b"HEAD", b"POST", b"DELETE")


def ask(server: Server, token: str, method: bytes, target: bytes) -> tuple[int, bytes]:
    request = (
        method + b" " + target + b" HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"
        b"Authorization: Bearer " + token.encode() + b"\r\n\r\n"
    )
    answer = parsed(exchange(server.port, request))
    return answer.status, answer.body


def files_of(server: Server) -> list[Path]:
    """What is stored; the sweeper makes the library's files, and one of its own, when it comes."""
    found = server.data.rglob("*")
    return sorted(path for path in found if not path.name.startswith(("library.", "tidied")))


@pytest.mark.both_paths
@pytest.mark.parametrize("path", REFUSED, ids=lambda path: path[:40].decode("latin-1") or "empty")
def test_a_hostile_path_is_422_for_every_method(server: Server, path: bytes) -> None:
    token = server.token()
    before = files_of(server)

    for method in METHODS:
        status, body = ask(server, token, method, f"{server.root}{IMAGES}/".encode() + path)
        if server.root and b"%0a" in path:
            assert status == 404  # no line feed passes the mount of an app
            continue
        assert status == 422
        assert body == b"" if method == b"HEAD" else b'"invalid_path"' in body

    assert files_of(server) == before


@pytest.mark.both_paths
@pytest.mark.parametrize(
    "target",
    [
        b"/api/v1/storage/im%61ges/a",
        b"/api/v1/storage%2fimages/a",
        b"/api/v1/storage/images%2fa",
        b"/%61pi/v1/storage/images/a",
        b"//api/v1/storage/images/a",
        b"/api/v1//storage/images/a",
        b"/API/v1/storage/images/a",
        b"/api/v1/storage/images%0a",
        b"/api/v1/storage/images%0A?limit=1",
        b"/api/v1/storage%2fimages",
    ],
)
def test_a_prefix_that_is_not_literally_the_routes_is_404(server: Server, target: bytes) -> None:
    assert ask(server, server.token(), b"GET", target)[0] == 404


@pytest.mark.hosts("corn")  # granian takes no brackets in a target
@pytest.mark.both_paths
@pytest.mark.parametrize(
    ("raw", "listed"),
    [
        (b"a%2Fb", "a/b"),
        (b"sp%20ace+plus", "sp ace+plus"),
        (b"percent%25", "percent%"),
        (b"hash%23q%3F", "hash#q?"),
        (b"..two", "..two"),
        (b"%7E~!$&'()*,;=:@", "~~!$&'()*,;=:@"),
        (b'"<>[]{}|^`', '"<>[]{}|^`'),
    ],
)
def test_an_allowed_path_is_the_same_name_in_every_spelling(
    server: Server, client: httpx.Client, folder: str, raw: bytes, listed: str
) -> None:
    body = b'--B\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\nx\r\n--B--\r\n'
    target = f"{server.root}{IMAGES}/{folder}/".encode() + raw
    request = (
        b"POST " + target + b" HTTP/1.1\r\nHost: a\r\nConnection: close\r\nAuthorization: Bearer "
        + server.token().encode()
        + b"\r\nContent-Type: multipart/form-data; boundary=B\r\n"
        + f"Content-Length: {len(body)}\r\n\r\n".encode()
        + body
    )  # fmt: skip
    answer = parsed(exchange(server.port, request))

    assert (answer.status, answer.json["path"]) == (200, f"{folder}/{listed}")
    assert client.get(answer.json["url"]).content == b"x"
    assert client.get(IMAGES, params={"prefix": f"{folder}/"}).json() == [f"{folder}/{listed}"]


@pytest.mark.hosts("disk")
@pytest.mark.both_paths
def test_a_planted_link_leads_nowhere(server: Server, client: httpx.Client, folder: str) -> None:
    inside = server.data / "compute" / folder
    inside.mkdir(parents=True)
    (inside / "secret").symlink_to(server.data / ".stillroom/secret")
    (inside / "private").symlink_to(server.data / ".stillroom")

    for path in ("secret", "private/secret"):
        assert client.get(f"{IMAGES}/{folder}/{path}").status_code == 404
        assert client.delete(f"{IMAGES}/{folder}/{path}").status_code == 404
    assert client.get(IMAGES, params={"prefix": folder}).json() == []
    assert (server.data / ".stillroom/secret").exists()
    assert "in the data directory is a symbolic link or device" in server.logged()


@pytest.mark.both_paths
def test_a_url_is_never_built_from_what_the_client_says(
    server: Server, client: httpx.Client, folder: str
) -> None:
    answer = client.post(
        f"{IMAGES}/{folder}/a.png",
        files={"file": b"x"},
        headers={
            "Host": "evil.example",
            "X-Forwarded-Host": "evil.example",
            "X-Forwarded-Proto": "ftp",
        },
    )
    assert answer.json()["url"] == f"{server.images}/{folder}/a.png"


@pytest.mark.hosts("none")  # the server's own
@pytest.mark.parametrize("path", ["/healthz/", "/docs/", "/api/v1/storage/signed-urls/"])
def test_no_redirect_is_built_from_what_the_client_says(server: Server, path: str) -> None:
    answer = httpx.get(f"{server.url}{path}", headers={"Host": "evil.example"})
    assert answer.status_code == 404
    assert "location" not in answer.headers
