"""Signed URLs over HTTP, as browsers and as attackers send them."""

import json
import time
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from issuing import issuer, public_key_file
from running import IMAGES, Server, exchange, parsed, running
from waiting import until

pytestmark = pytest.mark.hosts

SIGN = "/api/v1/storage/signed-urls"
PNG = b"\x89PNG\r\n\x1a\n" + bytes(100)


def sign(client: httpx.Client, path: str, **fields: Any) -> str:
    answer = client.post(SIGN, json={"path": path, **fields})
    assert answer.status_code == 200, answer.text
    return str(answer.json()["url"])


@pytest.fixture
def image(client: httpx.Client, folder: str) -> str:
    path = f"{folder}/tom & jérôme +%.png"
    client.post(f"{IMAGES}/{quote(path)}", files={"file": PNG})
    return path


def ask(server: Server, method: str, target: str, *fields: str) -> int:
    lines = [f"{method} {target} HTTP/1.1", "Host: a", "Connection: close", *fields]
    request = "\r\n".join(lines).encode() + b"\r\n\r\n"
    return parsed(exchange(server.port, request)).status


@pytest.mark.hosts("disk")
@pytest.mark.workers(whole=True)
def test_a_signed_url_reads_one_image_without_a_token(
    server: Server, client: httpx.Client, image: str
) -> None:
    before = time.time()
    answer = client.post(SIGN, json={"path": image, "expires_in": 60})
    after = time.time()
    signed = answer.json()

    assert answer.headers["cache-control"] == "no-store"
    assert signed.keys() == {"path", "url", "expires_at"}
    assert signed["path"] == image
    assert signed["url"].startswith(f"{server.images}/{quote(image)}?expires=")
    assert before + 58 < datetime.fromisoformat(signed["expires_at"]).timestamp() < after + 62

    for _ in range(4):  # so that any worker may take it
        got = httpx.get(signed["url"])
        assert (got.status_code, got.content) == (200, PNG)
    assert got.headers["referrer-policy"] == "no-referrer"
    assert got.headers["cache-control"] == "private, max-age=0, must-revalidate"
    headed = httpx.head(signed["url"])
    assert (headed.status_code, headed.headers["referrer-policy"]) == (200, "no-referrer")
    part = httpx.get(signed["url"], headers={"Range": "bytes=0-3"})
    assert (part.status_code, part.headers["referrer-policy"]) == (206, "no-referrer")
    current = httpx.get(signed["url"], headers={"If-None-Match": got.headers["etag"]})
    assert (current.status_code, current.headers["referrer-policy"]) == (304, "no-referrer")
    assert "referrer-policy" not in client.get(f"{IMAGES}/{quote(image)}").headers


def test_a_signed_url_of_a_missing_image_is_404(client: httpx.Client, folder: str) -> None:
    answer = httpx.get(sign(client, f"{folder}/later.png"))

    assert (answer.status_code, answer.headers["referrer-policy"]) == (404, "no-referrer")


def test_a_signed_url_is_good_for_nothing_else(
    server: Server, client: httpx.Client, image: str, folder: str
) -> None:
    url = sign(client, image)
    query = url.partition("?")[2]
    client.post(f"{IMAGES}/{folder}/b.png", files={"file": b"secret"})

    assert httpx.delete(url).status_code == 401
    assert httpx.post(url, files={"file": b"x"}).status_code == 401
    assert httpx.get(f"{server.images}?{query}").status_code == 401
    assert httpx.get(f"{server.images}/?{query}").status_code == 401
    assert httpx.get(f"{server.images}/{folder}/b.png?{query}").status_code == 401
    assert httpx.get(f"{server.images}/{folder}?{query}").status_code == 401
    assert httpx.post(f"{server.url}{SIGN}?{query}", json={"path": image}).status_code == 401
    assert client.get(f"{IMAGES}/{quote(image)}").content == PNG


# Other servers read an absolute form, or a line feed below a mount, in their own way.
@pytest.mark.hosts("uvicorn", "disk")
def test_another_spelling_is_another_url(server: Server, client: httpx.Client, image: str) -> None:
    target = sign(client, image).removeprefix(f"http://127.0.0.1:{server.port}")
    path, _, query = target.partition("?")
    assert ask(server, "GET", target) == 200
    assert ask(server, "GET", f"http://elsewhere{target}") == 200, "absolute form, the same path"

    folder, _, name = path.rpartition("/")
    for altered in (
        f"{folder}%2F{name}",
        f"{folder}/./{name}",
        f"{folder}/x/../{name}",
        f"{folder}//{name}",
        f"{folder}/%74{name[1:]}",
        path.replace("%20", "+"),
        path.replace("%2B", "+"),
        path.replace("%25", "%"),
        path.replace("%C3", "%c3"),
        path + "%00",
        path + "%3F",
        path + "/",
        path + "%0a",
    ):
        assert altered != path
        assert ask(server, "GET", f"{altered}?{query}") == 401, altered
        assert ask(server, "HEAD", f"{altered}?{query}") == 401, altered
    misspelt = path.replace("images", "im%61ges")
    assert ask(server, "GET", f"{misspelt}?{query}") == 404, "no such route, signed or not"


def test_every_altered_signature_is_the_same_401(client: httpx.Client, image: str) -> None:
    url = sign(client, image)
    expires, kid, signature = url.partition("?")[2].split("&")
    base = url.partition("?")[0]
    queries = [
        f"{expires}&{kid}&{signature[:-1]}{'A' if signature[-1] != 'A' else 'B'}",
        f"{expires}0&{kid}&{signature}",
        f"expires=1&{kid}&{signature}",
        f"{expires}&kid={'0' * 16}&{signature}",
        f"{expires}&{kid}&{signature}&{signature}",
        f"{expires}&{expires}&{kid}&{signature}",
        f"{signature}&{kid}&{expires}",
        f"{expires}&{kid}&{signature}&width=64",
        f"width=64&{expires}&{kid}&{signature}",
        signature,
        "signature=",
    ]
    answers = [httpx.get(f"{base}?{query}") for query in queries]
    unsigned = [httpx.get(f"{base}?{expires}&{kid}"), httpx.get(base)]

    for found, detail in (
        (answers, "this link has expired or was changed: ask for a new one"),
        (unsigned, "a valid bearer token is required"),
    ):
        assert {
            (answer.status_code, answer.text, answer.headers["www-authenticate"])
            for answer in found
        } == {(401, f'{{"detail": "{detail}", "code": "unauthenticated"}}', "Bearer")}


@pytest.mark.hosts("disk")
def test_an_expired_url_is_refused(client: httpx.Client, image: str) -> None:
    url = sign(client, image, expires_in=1)
    until(lambda: httpx.get(url).status_code != 200)
    refused = httpx.get(url)
    assert (refused.status_code, "link has expired" in refused.text) == (401, True)


def test_a_token_beside_a_signature_decides_alone(
    server: Server, client: httpx.Client, image: str
) -> None:
    url = sign(client, image)
    with server.client("--scope", "storage:write") as writer:
        assert writer.get(url).status_code == 403
    assert httpx.get(url, headers={"Authorization": "Bearer x.y.z"}).status_code == 401
    assert httpx.get(url, headers={"Authorization": ""}).status_code == 401
    assert client.get(url + "x").status_code == 200


def test_only_who_may_read_may_sign(server: Server, image: str, folder: str) -> None:
    for options, path, status in (
        (["--scope", "storage:read", "--prefix", folder], image, 200),
        (["--scope", "storage:read", "--prefix", folder], "elsewhere/a.png", 403),
        (["--scope", "storage:write", "--scope", "storage:delete"], image, 403),
    ):
        with server.client(*options) as signer:
            assert signer.post(SIGN, json={"path": path}).status_code == status
    for headers in ({}, {"Authorization": "Bearer x.y.z"}):
        answer = httpx.post(f"{server.url}{SIGN}", json={"path": "../x"}, headers=headers)
        assert answer.status_code == 401, "the token comes before the path"
    with server.client("--scope", "storage:write") as signer:
        answer = signer.post(SIGN, content=b"{", headers={"Content-Type": "application/json"})
        assert answer.status_code == 403, "the scope comes before the body"


@pytest.mark.parametrize(
    ("body", "loc"),
    [
        ({"path": "../x"}, ["body", "path"]),
        ({"path": ""}, ["body", "path"]),
        ({"path": "a\x00"}, ["body", "path"]),
        ({"path": 1}, ["body", "path"]),
        ({}, ["body", "path"]),
        ({"path": "a", "expires_in": 0}, ["body", "expires_in"]),
        ({"path": "a", "expires_in": 604_801}, ["body", "expires_in"]),
        ({"path": "a", "expires_in": "60"}, ["body", "expires_in"]),
        ({"path": "a", "expires_in": True}, ["body", "expires_in"]),
        ({"path": "a", "expires_in": 1.5}, ["body", "expires_in"]),
        ({"path": "a", "expires_in": None}, ["body", "expires_in"]),
        ({"path": "a", "expire_in": 60}, ["body", "expire_in"]),
        ({"path": "a", "paths": ["b"]}, ["body", "path"]),
        ({"paths": []}, ["body", "paths"]),
        ({"paths": ["a"] * 1001}, ["body", "paths"]),
        ({"paths": ["a", 1]}, ["body", "paths", "1"]),
        ([], ["body"]),
        (1, ["body"]),
    ],
)
def test_422_says_where(client: httpx.Client, body: Any, loc: list[str]) -> None:
    answer = client.post(SIGN, json=body)

    assert answer.status_code == 422
    assert answer.json()["detail"][0]["loc"] == loc


@pytest.mark.parametrize(
    "body", [b"", b"{", b"\xff", b'{"path": "a", "path": "b"}', b"[" * 100_000, b'{"path": NaN}']
)
def test_what_is_no_json_is_422(client: httpx.Client, body: bytes) -> None:
    answer = client.post(SIGN, content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 422


@pytest.mark.hosts("uvicorn")  # hypercorn may leave a refused body without an answer
def test_another_type_is_415_and_too_much_is_413(client: httpx.Client) -> None:
    assert client.post(SIGN, data={"path": "a"}).status_code == 415
    large = b'{"path": "' + b"a" * 5 * 1024**2
    fields = {"Content-Type": "application/json"}
    for body in (large, iter([large])):
        assert client.post(SIGN, content=body, headers=fields).status_code == 413
    assert client.get(SIGN).status_code == 405
    assert client.get(SIGN).headers["allow"] == "POST"


def test_many_paths_are_answered_one_by_one(server: Server, folder: str) -> None:
    good = [f"{folder}/{number}.png" for number in range(997)]
    bad = ["../x", "elsewhere/a.png", "\ud800"]
    with server.client("--scope", "storage:read", "--prefix", folder) as client:
        body = json.dumps({"paths": good + bad})
        answer = client.post(SIGN, content=body, headers={"Content-Type": "application/json"})

    results = answer.json()["results"]
    assert [result["path"] for result in results] == good + bad
    assert [result["code"] for result in results[997:]] == [
        "invalid_path",
        "forbidden",
        "invalid_path",
    ]
    assert len({result["url"] for result in results[:997]}) == 997
    assert httpx.get(results[0]["url"]).status_code == 404


def test_signatures_are_in_no_log(tmp_path: Path) -> None:
    with running(tmp_path, access_log="true") as server, server.client() as client:
        client.post(f"{IMAGES}/a.png", files={"file": PNG})
        (server.data / "compute/link.png").symlink_to("a.png")
        signature = ""
        for path in ("a.png", "missing.png", "link.png"):
            url = sign(client, path)
            signature = url.partition("&signature=")[2]
            for method in ("GET", "HEAD", "DELETE"):
                httpx.request(method, url)
            httpx.get(url + "x")
            exchange(server.port, f"GET {url} HTTP/1.1\r\n\r\n".encode())
            exchange(server.port, f"GET {url}\xe9 HTTP/1.1\r\nHost: a\r\n\r\n".encode())
            assert signature
            assert signature not in server.logged()
        assert "in the data directory is a symbolic link or device" in server.logged()
        assert "GET /api/v1/storage/images/a.png 200" in server.logged()


def test_urls_outlive_a_change_of_the_secret(tmp_path: Path) -> None:
    old, new = "o" * 32, "n" * 32
    with running(tmp_path, jwt_secret=old) as server, server.client() as client:
        client.post(f"{IMAGES}/a.png", files={"file": PNG})
        target = sign(client, "a.png").removeprefix(server.url)
    for secrets, status in (
        ({"jwt_secret": new, "jwt_previous_secrets": old}, 200),
        ({"jwt_secret": new}, 401),
    ):
        with running(tmp_path, data=server.data, **dict(secrets)) as later:
            assert httpx.get(later.url + target).status_code == status


@pytest.mark.parametrize("workers", ["1", pytest.param("2", marks=pytest.mark.whole)])
@pytest.mark.parametrize(
    "secret", [{}, pytest.param({"jwt_secret": "s" * 32}, marks=pytest.mark.whole)]
)
def test_who_signs_tokens_elsewhere_still_gets_signed_urls(
    tmp_path: Path, workers: str, secret: dict[str, Any]
) -> None:
    settings = {
        "jwt_algorithm": "ES256",
        "jwt_public_key_file": str(public_key_file(tmp_path, issuer("ES256"))),
    }
    given: dict[str, Any] = {**settings, **secret}
    with running(tmp_path, "--workers", workers, **given) as server:
        headers = {"Authorization": f"Bearer {issuer('ES256').token()}"}
        with httpx.Client(base_url=server.url, headers=headers, timeout=60) as client:
            client.post(f"{IMAGES}/a.png", files={"file": PNG})
            url = sign(client, "a.png")
        for _ in range(4):
            assert httpx.get(url).content == PNG
        assert (server.data / ".stillroom/secret").exists() != bool(secret)


def test_a_public_url_with_another_path_can_be_signed(tmp_path: Path) -> None:
    with running(tmp_path, public_base_url="https://img.example.com/x") as server:
        with server.client() as client:
            client.post(f"{IMAGES}/a b.png", files={"file": PNG})
            url = sign(client, "a b.png")
        assert url.startswith(f"https://img.example.com/x{IMAGES}/a%20b.png?expires=")
        behind_the_proxy = url.replace("https://img.example.com/x", server.url)
        assert httpx.get(behind_the_proxy).content == PNG
