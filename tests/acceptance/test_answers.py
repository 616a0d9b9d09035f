"""Each row of the contract's table of answers, over plain sockets and httpx."""

import socket
from datetime import timedelta
from pathlib import Path

import httpx
import pytest

from running import IMAGES, Server, exchange, parsed
from stillroom.store.auth.tokens import mint_token
from waiting import until

BOUNDARY = "b0undary"


def form(*parts: tuple[str, bytes], closed: bool = True) -> bytes:
    body = b""
    for name, data in parts:
        named = f'name="{name}"; filename="x.png"'
        head = f"--{BOUNDARY}\r\nContent-Disposition: form-data; {named}\r\n\r\n"
        body += head.encode() + data + b"\r\n"
    return body + (f"--{BOUNDARY}--\r\n".encode() if closed else b"")


def post(client: httpx.Client, path: str, body: bytes, **headers: str) -> httpx.Response:
    fields = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}", **headers}
    return client.post(f"{IMAGES}/{path}", content=body, headers=fields)


def is_absent(client: httpx.Client, path: str) -> bool:
    listed = client.get(IMAGES, params={"prefix": path}).json()
    return client.head(f"{IMAGES}/{path}").status_code == 404 and listed == []


@pytest.mark.both_paths
@pytest.mark.parametrize(
    "body",
    [
        form(("file", b"x"), closed=False),
        form(("file", b"x"))[:-6],
        b"",
        b"no form at all",
        form(("file", b"x")).replace(b"\r\n", b"\n"),
        form(("file", b"x"), *[("other", b"y")] * 17),
        form(("other", b"y" * 65_537), ("file", b"x")),
    ],
    ids=["unclosed", "cut", "empty", "no form", "bare LF", "too many parts", "too much beside"],
)
def test_400_for_a_malformed_body(client: httpx.Client, folder: str, body: bytes) -> None:
    answer = post(client, f"{folder}/a.png", body)

    assert answer.status_code == 400
    assert isinstance(answer.json()["detail"], str)
    assert is_absent(client, f"{folder}/a.png")


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"nonsense\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /\xc3\xa9 HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET http:///x HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET http://a:b/x HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET http://[::1/x HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost : a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: \x00\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxy",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\nx",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n",
        b"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        (
            b"POST / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: x\r\n"
            b"Content-Length: 1\r\n\r\nx"
        ),
    ],
)
def test_400_for_malformed_http_and_the_connection_is_closed(
    server: Server, request_bytes: bytes
) -> None:
    answer = parsed(exchange(server.port, request_bytes))

    assert answer.status == 400
    assert answer.headers["connection"] == "close"
    assert isinstance(answer.json["detail"], str)


@pytest.mark.parametrize("authorization", [None, "Bearer x.y.z", "Basic dTpw", "Bearer"])
def test_401_is_the_same_for_every_cause_and_operation(
    server: Server, authorization: str | None
) -> None:
    headers = {} if authorization is None else {"Authorization": authorization}
    answers = [
        httpx.request(method, f"{server.images}{path}", headers=headers)
        for method, path in [
            ("GET", ""),
            ("GET", "?limit=0"),
            ("GET", "/a.png"),
            ("GET", "/a%00"),
            ("DELETE", "/a.png"),
            ("POST", "/a.png"),
        ]
    ]
    assert {
        (answer.status_code, answer.text, answer.headers["www-authenticate"]) for answer in answers
    } == {
        (
            401,
            '{"detail": "a valid bearer token is required", "code": "unauthenticated"}',
            "Bearer",
        )
    }
    assert httpx.head(f"{server.images}/a.png", headers=headers).status_code == 401


@pytest.mark.both_paths
def test_401_says_so_where_a_token_has_expired_and_nothing_else_is_wrong(server: Server) -> None:
    secret = (server.data / ".stillroom/secret").read_text().strip()
    expired = mint_token(secret, expires_in=timedelta(seconds=-1))
    for token, code in ((expired, "token_expired"), (expired[:-3] + "AAA", "unauthenticated")):
        with httpx.Client(headers={"Authorization": f"Bearer {token}"}) as client:
            for method, path in [("GET", ""), ("GET", "/a.png"), ("POST", "/a.png")] * 2:
                answer = client.request(method, f"{server.images}{path}")
                said = answer.json()
                assert (answer.status_code, said["code"]) == (401, code)
                assert (said["detail"] == "the token has expired") == (token is expired)
                assert answer.headers["www-authenticate"] == "Bearer"


@pytest.mark.both_paths
def test_403_for_a_scope_or_a_folder_that_the_token_does_not_cover(
    server: Server, client: httpx.Client, folder: str
) -> None:
    post(client, f"{folder}/a.png", form(("file", b"x")))
    with server.client("--scope", "storage:read", "--prefix", folder) as reader:
        assert reader.get(f"{IMAGES}/{folder}/a.png").content == b"x"
        assert reader.get(IMAGES).json() == [f"{folder}/a.png"]
        assert reader.get(IMAGES, params={"delimiter": "/"}).json() == [f"{folder}/"]
        assert (
            reader.get(IMAGES, params={"delimiter": "/", "start_after": f"{folder}/"}).json() == []
        )
        for answer in (
            reader.get(f"{IMAGES}/elsewhere/a.png"),
            reader.get(f"{IMAGES}/{folder}"),
            reader.get(IMAGES, params={"prefix": "elsewhere/"}),
            reader.delete(f"{IMAGES}/{folder}/a.png"),
            post(reader, f"{folder}/b.png", form(("file", b"x"))),
        ):
            assert answer.status_code == 403
            scope = "storage:delete" if "delete" in answer.text else "storage:write"
            lacking = f', scope="{scope}"' if "scope" in answer.text else ""
            challenge = f'Bearer error="insufficient_scope"{lacking}'
            assert answer.headers["www-authenticate"] == challenge
            assert isinstance(answer.json()["detail"], str)
        assert reader.get(f"{IMAGES}/{folder}/a%00").status_code == 422, "the path comes before 403"
    assert client.get(f"{IMAGES}/{folder}/a.png").content == b"x"


@pytest.mark.both_paths
def test_404_for_what_is_not_there(client: httpx.Client, folder: str) -> None:
    for method in ("GET", "DELETE"):
        answer = client.request(method, f"{IMAGES}/{folder}/missing.png")
        assert (answer.status_code, answer.json()["detail"]) == (404, "no such image")
    assert client.head(f"{IMAGES}/{folder}/missing.png").status_code == 404
    for path in ("/nothing/here", "/api/v1/api/v1/storage/images/a.png"):
        answer = client.get(path)
        assert (answer.status_code, answer.json()["code"]) == (404, "route_not_found")
        assert "/docs" in answer.json()["detail"]
    assert client.put("/healthz").json()["code"] == "method_not_allowed"


def test_405_names_what_is_allowed(client: httpx.Client) -> None:
    one = client.put(f"{IMAGES}/a.png")
    assert (one.status_code, one.headers["allow"]) == (405, "GET, HEAD, POST, DELETE")
    all_of_them = client.post(IMAGES)
    assert (all_of_them.status_code, all_of_them.headers["allow"]) == (405, "GET")
    assert isinstance(one.json()["detail"], str)


@pytest.mark.whole  # ten seconds of waiting; test_bounds.py sets shorter ones
def test_408_for_a_head_that_does_not_arrive(server: Server) -> None:
    answer = parsed(exchange(server.port, b"GET / HTTP/1.1\r\nHost: a\r\n"))
    assert (answer.status, answer.headers["connection"]) == (408, "close")


@pytest.mark.whole  # ten seconds of waiting; test_bounds.py sets shorter ones
def test_a_connection_that_says_nothing_is_closed(server: Server) -> None:
    assert exchange(server.port, b"") == b""


@pytest.mark.both_paths
def test_409_for_a_file_and_a_folder_of_one_name(client: httpx.Client, folder: str) -> None:
    post(client, f"{folder}/a", form(("file", b"file")))
    post(client, f"{folder}/b/c", form(("file", b"below")))

    for path in (f"{folder}/a/below", f"{folder}/b"):
        answer = post(client, path, form(("file", b"x")))
        assert answer.status_code == 409
        assert isinstance(answer.json()["detail"], str)
    assert client.get(f"{IMAGES}/{folder}/a").content == b"file"
    assert client.get(f"{IMAGES}/{folder}/b/c").content == b"below"


@pytest.mark.both_paths
@pytest.mark.parametrize("chunked", [False, True])
def test_413_for_more_than_allowed(client: httpx.Client, folder: str, chunked: bool) -> None:
    body = form(("file", bytes(8 * 1024**2 + 1)))
    fields = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}

    answer = client.post(
        f"{IMAGES}/{folder}/a.png", content=iter([body]) if chunked else body, headers=fields
    )

    assert answer.status_code == 413
    assert is_absent(client, f"{folder}/a.png")
    largest = post(client, f"{folder}/a.png", form(("file", bytes(8 * 1024**2))))
    assert largest.status_code == 200


def test_414_for_a_target_that_is_too_long(server: Server) -> None:
    target = b"/" + b"a" * 9000
    answer = parsed(exchange(server.port, b"GET " + target + b" HTTP/1.1\r\nHost: a\r\n\r\n"))
    assert (answer.status, answer.headers["connection"]) == (414, "close")


@pytest.mark.both_paths
def test_415_for_what_is_no_form(client: httpx.Client, folder: str) -> None:
    answer = client.post(
        f"{IMAGES}/{folder}/a.png", content=b"\x89PNG", headers={"Content-Type": "image/png"}
    )
    assert answer.status_code == 415
    assert "-F file=@" in answer.json()["detail"], "it says what to do"
    assert client.post(f"{IMAGES}/{folder}/a.png").status_code == 415


@pytest.mark.both_paths
def test_416_for_a_range_outside_of_the_image(client: httpx.Client, folder: str) -> None:
    post(client, f"{folder}/a.png", form(("file", b"0123456789")))
    answer = client.get(f"{IMAGES}/{folder}/a.png", headers={"Range": "bytes=10-"})
    assert (answer.status_code, answer.headers["content-range"]) == (416, "bytes */10")


@pytest.mark.both_paths
@pytest.mark.parametrize(
    "body",
    [
        form(("other", b"x")),
        form(("file", b"x"), ("file", b"y")),
        form(),
        form(("file", b"x.png")).replace(b'; filename="x.png"', b""),
    ],
    ids=["no file", "two files", "no parts", "a text"],
)
def test_422_for_a_form_without_exactly_one_file(
    client: httpx.Client, folder: str, body: bytes
) -> None:
    answer = post(client, f"{folder}/a.png", body)

    assert answer.status_code == 422
    assert answer.json()["detail"][0]["loc"] == ["body", "file"]
    assert is_absent(client, f"{folder}/a.png")


def test_422_for_an_empty_file_and_the_old_image_stays(client: httpx.Client, folder: str) -> None:
    post(client, f"{folder}/a.png", form(("file", b"old")))

    answer = post(client, f"{folder}/a.png", form(("file", b"")))

    message = "the file is empty: if you send a stream, rewind it first"
    fault = {"loc": ["body", "file"], "msg": message, "type": "empty_file"}
    assert (answer.status_code, answer.json()) == (422, {"detail": [fault], "code": "empty_file"})
    assert client.get(f"{IMAGES}/{folder}/a.png").content == b"old"


def test_a_text_that_is_called_an_image_is_none(client: httpx.Client, folder: str) -> None:
    saved = post(client, f"{folder}/a.png", form(("file", b"# README"))).json()

    assert saved["content_type"] == "application/octet-stream"
    assert client.get(f"{IMAGES}/{folder}/a.png").headers["content-type"] == saved["content_type"]


@pytest.mark.parametrize("query", ["limit=0", "limit=x", "prefix=%2F", "prefix=%ff", "delimiter=-"])
def test_422_for_a_bad_parameter(client: httpx.Client, query: str) -> None:
    answer = client.get(f"{IMAGES}?{query}")

    assert answer.status_code == 422
    (fault,) = answer.json()["detail"]
    assert fault["loc"][0] == "query"
    assert {"loc", "msg", "type"} <= fault.keys()


@pytest.mark.parametrize(
    "fields",
    [
        b"X: " + b"y" * 40_000 + b"\r\n",
        b"X: y\r\n" * 101,
        b"".join(b"X%d: %s\r\n" % (n, b"y" * 1000) for n in range(60)),
    ],
    ids=["one large field", "too many fields", "too much in all"],
)
def test_431_for_a_head_that_is_too_large(server: Server, fields: bytes) -> None:
    request = b"GET / HTTP/1.1\r\nHost: a\r\n" + fields + b"\r\n"
    answer = parsed(exchange(server.port, request))
    assert (answer.status, answer.headers["connection"]) == (431, "close")


def test_431_comes_before_an_endless_head_ends(server: Server) -> None:
    answer = parsed(exchange(server.port, b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"y" * 500_000))
    assert answer.status == 431


@pytest.mark.both_paths
@pytest.mark.workers
def test_an_upload_that_breaks_off_leaves_nothing(
    server: Server, client: httpx.Client, folder: str
) -> None:
    body = form(("file", bytes(2_000_000)))
    token = client.headers["authorization"]
    head = (
        f"POST {IMAGES}/{folder}/a.png HTTP/1.1\r\nHost: a\r\nAuthorization: {token}\r\n"
        f"Content-Type: multipart/form-data; boundary={BOUNDARY}\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    ).encode()
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        ours = connection.getsockname()[1]
        connection.sendall(head + body[:1_500_000])
    until(lambda: not is_held(server, ours) and not open_staging_files(server))

    assert list((server.data / ".stillroom/staging").iterdir()) == []
    assert is_absent(client, f"{folder}/a.png")


def is_held(server: Server, port: int) -> bool:
    """Whether the server's end of the connection from this port is there, accepted or not."""
    ends = [f"0100007F:{server.port:04X}", f"0100007F:{port:04X}"]
    lines = Path("/proc/net/tcp").read_text().splitlines()
    return any(line.split()[1:3] == ends for line in lines)


def open_staging_files(server: Server) -> list[str]:
    found = []
    for pid in [server.process.pid, *server.children()]:
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            try:
                target = str(descriptor.readlink())
            except FileNotFoundError:
                continue
            if "/staging/" in target:
                found.append(target)
    return found
