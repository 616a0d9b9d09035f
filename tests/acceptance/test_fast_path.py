"""Both paths of a request give the same answers; one of two servers may take the fast one."""

import re
import time
from typing import Any

import pytest

from acceptance.raw_requests import LARGE, PNG, ask, connected, one_answer
from running import IMAGES, Server, exchange, parsed


def comparable(answer: bytes) -> tuple[int, dict[str, str], bytes]:
    found = parsed(answer)
    del found.headers["date"]
    if "x-request-id" in found.headers:
        found.headers["x-request-id"] = "one of its own"
    return found.status, found.headers, found.body


REQUESTS = [
    ("GET", "a.png", ()),
    ("HEAD", "a.png", ()),
    ("GET", "large.bin", ()),
    ("GET", "empty.bin", ()),
    ("GET", "page.html", ()),
    ("GET", "Zo%C3%AB%201+1.png", ()),
    ("GET", "missing.png", ()),
    ("HEAD", "missing.png", ()),
    ("GET", "in", ()),
    ("GET", "a.png/b", ()),
    ("GET", "..%2fa.png", ()),
    ("GET", "a.png?x=1", ()),
    ("GET", "a.png", ("Range: bytes=3-9",)),
    ("GET", "a.png", ("Range: bytes=-5",)),
    ("GET", "a.png", ("Range: bytes=9999-",)),
    ("GET", "a.png", ("Range: lines=1-2",)),
    ("GET", "large.bin", ("Range: bytes=100000-2999999",)),
    ("HEAD", "a.png", ("Range: bytes=3-9",)),
    ("GET", "a.png", ("If-None-Match: *",)),
    ("GET", "a.png", ('If-None-Match: "x"', 'If-None-Match: "y"')),
    ("GET", "a.png", ('If-Match: "x"',)),
    ("GET", "a.png", ("If-Modified-Since: Tue, 24 Nov 2099 00:00:00 GMT",)),
    ("GET", "a.png", ("Connection: close",)),
    ("GET", "a.png", ("Connection: keep-alive",)),
    ("GET", "a.png", ("Proxy-Connection: close",)),
    ("GET", "x" * 8200, ()),
    ("GET", "a.png", ("Content-Length: 0",)),
    ("GET", "a.png", ("Origin: https://example.com",)),
]


@pytest.mark.parametrize(("method", "path", "fields"), REQUESTS)
def test_both_paths_answer_alike(
    both_paths: tuple[Server, Server], method: str, path: str, fields: tuple[str, ...]
) -> None:
    short, long = both_paths
    lines = [f"{method} {IMAGES}/{path} HTTP/1.1", "Host: a",
             f"Authorization: Bearer {short.token()}", *fields]  # fmt: skip
    request = "\r\n".join([*lines, "", ""]).encode()
    closes = any(field.endswith("Connection: close") for field in fields) or len(path) > 8000
    times = 1 if closes else 3  # known from the second one on

    expected = comparable(ask(long, request)[0])
    assert [comparable(answer) for answer in ask(short, request, times=times)] == [expected] * times


IDS = {
    "one": b"X-Request-Id: one",
    "no blank": b"X-Request-Id:one",
    "two blanks": b"X-Request-Id:  one",
    "a tab": b"x-request-ID:\tone",
    "a blank behind": b"X-Request-Id: one ",
    "two": b"X-Request-Id: one\r\nX-Request-Id: two",
    "two, one insane": b"X-Request-Id: o;e\r\nX-Request-Id: two",
    "two alike": b"X-Request-Id: one\r\nX-Request-Id: one",
    "insane": b"X-Request-Id: o;e",
    "none": b"Accept: */*",
}


@pytest.mark.parametrize("field", IDS.values(), ids=IDS.keys())
@pytest.mark.parametrize("name", ["a.png", "missing.png"])
def test_both_paths_name_a_request_alike(
    both_paths: tuple[Server, Server], field: bytes, name: str
) -> None:
    short, long = both_paths
    start = f"GET {IMAGES}/{name} HTTP/1.1\r\nHost: a\r\n".encode()
    token = b"\r\nAuthorization: Bearer " + short.token().encode() + b"\r\n\r\n"
    named = [
        [
            re.sub("^[0-9a-f]{16}$", "made", parsed(answer).headers.get("x-request-id", "none"))
            for answer in ask(server, start + field + token, times=4)
        ]
        for server in (long, short)
    ]
    assert named[0] == named[1]


def test_a_field_behind_a_head_is_no_part_of_it(both_paths: tuple[Server, Server]) -> None:
    short, _ = both_paths
    head = f"GET {IMAGES}/a.png HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {short.token()}"
    known = head.encode() + b"\r\n\r\n"
    for hidden in (b"x-request-id: hidden\r\n", b"x-request-id: hidden\r\n\r\n"):
        with connected(short.port) as (connection, stream):
            for _ in range(2):
                connection.sendall(known)
                one_answer(stream, has_body=True)
            connection.sendall(known + hidden)
            answer = one_answer(stream, has_body=True)
            assert b"hidden" not in answer
            rest = stream.read()
        assert rest == b"" or parsed(rest).status == 400  # closed behind the one, or refused alone


@pytest.mark.parametrize("byte", [b"\xa0", b"\x85", b"\xad"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_byte_behind_a_token_is_part_of_it(
    both_paths: tuple[Server, Server], byte: bytes, method: str
) -> None:
    body = b"--B--\r\n" if method == "POST" else b""
    for server in both_paths:
        for behind in (b"", byte):
            request = (
                f"{method} {IMAGES}/a.png HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"
                + (f"Content-Length: {len(body)}\r\n" if body else "")
                + "Content-Type: multipart/form-data; boundary=B\r\n"
                + f"Authorization: Bearer {server.token()}"
            ).encode() + behind
            answer = parsed(exchange(server.port, request + b"\r\n\r\n" + body))
            assert (answer.status == 401) == bool(behind)


def test_both_paths_refuse_alike_what_a_token_does_not_cover(
    both_paths: tuple[Server, Server],
) -> None:
    short, long = both_paths
    for options in (("--prefix", "in"), ("--scope", "storage:write")):
        token = short.token(*options)
        request = f"GET {IMAGES}/a.png HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\n\r\n"
        expected = comparable(ask(long, request.encode())[0])
        assert expected[0] == 403
        assert [comparable(a) for a in ask(short, request.encode(), times=3)] == [expected] * 3


@pytest.mark.parametrize(
    ("path", "fields", "form"),
    [
        ("up/a.png", (), {"file": PNG}),
        ("up/large.bin", (), {"file": LARGE}),
        ("up/empty", (), {"file": b""}),
        ("a.png", ("If-None-Match: *",), {"file": PNG}),
        ("a.png", ('If-Match: "x"',), {"file": PNG}),
        ("a.png/b", (), {"file": PNG}),
        ("up//a.png", (), {"file": PNG}),
        ("up/readme.png", (), {"file": b"# README"}),
        ("up/a.png", (), {"other": PNG}),
        ("up/a.png", (), {"file": (None, "x.png")}),
        ("up/a.png", (f"Repr-Digest: sha-256=:{'A' * 43}=:",), {"file": PNG}),
        ("up/a.png", ("Repr-Digest: nonsense",), {"file": PNG}),
        ("up/large.bin", (), {"file": bytes(9 * 1024**2)}),
    ],
)
def test_both_paths_save_alike(
    both_paths: tuple[Server, Server], path: str, fields: tuple[str, ...], form: dict[str, Any]
) -> None:
    headers = dict(field.split(": ", 1) for field in fields)
    answers = []
    for server in (*both_paths, *both_paths):
        with server.client() as client:
            client.head(f"{IMAGES}/a.png")  # the token is known from here on
            answer = client.post(f"{IMAGES}/{path}", files=form, headers=headers)
        content = answer.json()
        content.pop("etag", None)
        answers.append((answer.status_code, answer.headers.get("content-type"), content))
    assert answers == [answers[0]] * 4


@pytest.mark.parametrize("fields", [("HTTP/1.0",), ("HTTP/1.1", "Connection: close")])
def test_an_upload_that_says_goodbye_is_answered_and_closed(
    both_paths: tuple[Server, Server], fields: tuple[str, ...]
) -> None:
    body = (
        b'--b\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\n'
        + PNG
        + b"\r\n--b--\r\n"
    )
    version, *more = fields
    for server in both_paths:
        with server.client() as client:
            client.head(f"{IMAGES}/a.png")  # the token is known from here on
        lines = [f"POST {IMAGES}/bye.png {version}", "Host: a", f"Content-Length: {len(body)}",
                 "Content-Type: multipart/form-data; boundary=b",
                 f"Authorization: Bearer {server.token()}", *more]  # fmt: skip
        answer = parsed(exchange(server.port, "\r\n".join([*lines, "", ""]).encode() + body))
        assert answer.status == 200


def test_a_token_ends_on_the_fast_path_too(both_paths: tuple[Server, Server]) -> None:
    short, _ = both_paths
    for expires in ("6s", "60s"):  # a busy machine may not get to use the first one
        with short.client("--expires", expires) as client:
            deadline = time.monotonic() + 120
            reads = 0
            while client.get(f"{IMAGES}/a.png").status_code == 200:
                reads += 1
                assert time.monotonic() < deadline
                time.sleep(0.05)  # until it holds; there is a deadline
            assert client.get(f"{IMAGES}/a.png").status_code == 401
        if reads > 1:
            return
    pytest.fail("the tokens had ended before they were known")
