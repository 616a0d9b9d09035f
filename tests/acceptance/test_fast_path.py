"""Both roads give the same answers: one server takes the short one, the other may not."""

import contextlib
import os
import re
import socket
import struct
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from running import IMAGES, Server, exchange, parsed, running

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(250))
LARGE = os.urandom(3 * 1024**2)


@pytest.fixture(scope="module")
def roads(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Server]]:
    """Two servers on the same images."""
    folder = tmp_path_factory.mktemp("roads")
    with (
        running(folder, max_upload_bytes=str(8 * 1024**2)) as short,
        running(
            folder, data=short.data, fast_path="false", max_upload_bytes=str(8 * 1024**2),
            public_base_url=short.url,
        ) as long,
    ):  # fmt: skip
        with short.client() as client:
            for name, data in (
                ("a.png", PNG),
                ("large.bin", LARGE),
                ("page.html", b"<script>alert(1)</script>"),
                ("in/side.png", PNG),
                ("Zoë 1+1.png", PNG),
            ):
                client.post(f"{IMAGES}/{name}", files={"file": data}).raise_for_status()
        (short.data / "compute/empty.bin").touch()
        yield short, long


def ask(server: Server, request: bytes, *, times: int = 1) -> list[bytes]:
    """The whole answers to a request that is sent again and again on one connection."""
    answers = []
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
        stream = connection.makefile("rb")
        for _ in range(times):
            connection.sendall(request)
            answers.append(_one_answer(stream, has_body=not request.startswith(b"HEAD")))
    return answers


def _one_answer(stream: "socket.SocketIO | object", *, has_body: bool) -> bytes:
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        line = stream.readline()  # type: ignore[union-attr]  # makefile's type is not public
        assert line, head
        head += line
    found = parsed(head)
    length = 0 if not has_body or found.status == 304 else int(found.headers["content-length"])
    return head + bytes(stream.read(length))  # type: ignore[union-attr]  # as above


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
def test_both_roads_answer_alike(
    roads: tuple[Server, Server], method: str, path: str, fields: tuple[str, ...]
) -> None:
    short, long = roads
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
def test_both_roads_name_a_request_alike(
    roads: tuple[Server, Server], field: bytes, name: str
) -> None:
    short, long = roads
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


def test_a_field_behind_a_head_is_no_part_of_it(roads: tuple[Server, Server]) -> None:
    short, _ = roads
    head = f"GET {IMAGES}/a.png HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {short.token()}"
    known = head.encode() + b"\r\n\r\n"
    for hidden in (b"x-request-id: hidden\r\n", b"x-request-id: hidden\r\n\r\n"):
        with socket.create_connection(("127.0.0.1", short.port), timeout=20) as connection:
            stream = connection.makefile("rb")
            for _ in range(2):
                connection.sendall(known)
                _one_answer(stream, has_body=True)
            connection.sendall(known + hidden)
            answer = _one_answer(stream, has_body=True)
            assert b"hidden" not in answer
            rest = stream.read()
        assert rest == b"" or parsed(rest).status == 400  # closed behind the one, or refused alone


@pytest.mark.parametrize("byte", [b"\xa0", b"\x85", b"\xad"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_byte_behind_a_token_is_part_of_it(
    roads: tuple[Server, Server], byte: bytes, method: str
) -> None:
    body = b"--B--\r\n" if method == "POST" else b""
    for server in roads:
        for behind in (b"", byte):
            request = (
                f"{method} {IMAGES}/a.png HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"
                + (f"Content-Length: {len(body)}\r\n" if body else "")
                + "Content-Type: multipart/form-data; boundary=B\r\n"
                + f"Authorization: Bearer {server.token()}"
            ).encode() + behind
            answer = parsed(exchange(server.port, request + b"\r\n\r\n" + body))
            assert (answer.status == 401) == bool(behind)


@pytest.mark.parametrize("apart", [False, True], ids=["with it", "behind it"])
def test_what_is_malformed_behind_a_large_answer_does_not_cut_it_off(
    roads: tuple[Server, Server], apart: bool
) -> None:
    for server in roads:
        request = (
            f"GET {IMAGES}/large.bin HTTP/1.1\r\nHost: a\r\n"
            f"Authorization: Bearer {server.token()}\r\n\r\n"
        ).encode()
        for _ in range(10):
            with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
                connection.sendall(request if apart else request + b"no HTTP\r\n\r\n")
                received = 0
                stream = connection.makefile("rb")
                while received < len(LARGE):
                    # As long as the answer lasts, more comes; a reset would drop what is unread.
                    with contextlib.suppress(BrokenPipeError):
                        connection.sendall(b"no HTTP\r\n\r\n")
                    piece = stream.read1(65_536)
                    assert piece, f"cut off after {received} bytes"
                    received += len(piece)


def test_requests_sent_ahead_are_all_answered_in_order(roads: tuple[Server, Server]) -> None:
    """More than are parsed ahead, with bodies that end anywhere in a packet."""
    for number, server in enumerate(roads):
        lines = f"Host: a\r\nAuthorization: Bearer {server.token()}\r\n"
        requests, expected = [], []
        for each in range(120):
            path = f"{IMAGES}/ahead/{number}-{each}.bin"
            content = b"%d " % each * (1 + each * 37 % 900)
            form = b'--B\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\n'
            form += content + b"\r\n--B--\r\n"
            head = (
                f"POST {path} HTTP/1.1\r\n{lines}Content-Type: multipart/form-data; boundary=B\r\n"
            )
            if each % 2:
                requests.append(f"{head}Content-Length: {len(form)}\r\n\r\n".encode() + form)
            else:
                chunk = b"%x\r\n%b\r\n0\r\n\r\n" % (len(form), form)
                requests.append(f"{head}Transfer-Encoding: chunked\r\n\r\n".encode() + chunk)
            requests.append(f"GET {path} HTTP/1.1\r\n{lines}\r\n".encode())
            expected.append(content)
        with socket.create_connection(("127.0.0.1", server.port), timeout=60) as connection:
            sending = threading.Thread(target=connection.sendall, args=(b"".join(requests),))
            sending.start()
            stream = connection.makefile("rb")
            for content in expected:
                assert parsed(_one_answer(stream, has_body=True)).status == 200
                assert parsed(_one_answer(stream, has_body=True)).body == content
            sending.join()


def test_both_roads_refuse_alike_what_a_token_does_not_cover(roads: tuple[Server, Server]) -> None:
    short, long = roads
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
def test_both_roads_save_alike(
    roads: tuple[Server, Server], path: str, fields: tuple[str, ...], form: dict[str, Any]
) -> None:
    headers = dict(field.split(": ", 1) for field in fields)
    answers = []
    for server in (*roads, *roads):
        with server.client() as client:
            client.head(f"{IMAGES}/a.png")  # the token is known from here on
            answer = client.post(f"{IMAGES}/{path}", files=form, headers=headers)
        content = answer.json()
        content.pop("etag", None)
        answers.append((answer.status_code, answer.headers.get("content-type"), content))
    assert answers == [answers[0]] * 4


@pytest.mark.parametrize("fields", [("HTTP/1.0",), ("HTTP/1.1", "Connection: close")])
def test_an_upload_that_says_goodbye_is_answered_and_closed(
    roads: tuple[Server, Server], fields: tuple[str, ...]
) -> None:
    body = (
        b'--b\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\n'
        + PNG
        + b"\r\n--b--\r\n"
    )
    version, *more = fields
    for server in roads:
        with server.client() as client:
            client.head(f"{IMAGES}/a.png")  # the token is known from here on
        lines = [f"POST {IMAGES}/bye.png {version}", "Host: a", f"Content-Length: {len(body)}",
                 "Content-Type: multipart/form-data; boundary=b",
                 f"Authorization: Bearer {server.token()}", *more]  # fmt: skip
        answer = parsed(exchange(server.port, "\r\n".join([*lines, "", ""]).encode() + body))
        assert answer.status == 200


def test_a_request_behind_an_upload_has_its_own_answer(roads: tuple[Server, Server]) -> None:
    body = (
        b'--b\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\n'
        + LARGE
        + b"\r\n--b--\r\n"
    )
    for server in roads:
        token = f"Authorization: Bearer {server.token()}\r\n"
        post = (
            f"POST {IMAGES}/behind.bin HTTP/1.1\r\nHost: a\r\n{token}"
            f"Content-Type: multipart/form-data; boundary=b\r\nContent-Length: {len(body)}\r\n\r\n"
        ).encode() + body
        get = f"GET {IMAGES}/behind.bin HTTP/1.1\r\nHost: a\r\n{token}\r\n".encode()
        for _ in range(2):
            with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
                stream = connection.makefile("rb")
                connection.sendall(post + get + post)
                answers = [parsed(_one_answer(stream, has_body=True)) for _ in range(3)]
            assert [answer.status for answer in answers] == [200, 200, 200]
            assert answers[1].body == LARGE
            assert answers[0].json["sha256"] == answers[2].json["sha256"]


def small_post(server: Server, *fields: str) -> bytes:
    body = b'--b\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\nx\r\n--b--\r\n'
    lines = [f"POST {IMAGES}/small.bin HTTP/1.1", "Host: a", f"Content-Length: {len(body)}",
             "Content-Type: multipart/form-data; boundary=b",
             f"Authorization: Bearer {server.token()}", *fields, "", ""]  # fmt: skip
    return "\r\n".join(lines).encode() + body


def test_100_continue_goes_to_the_request_that_asked_for_it(roads: tuple[Server, Server]) -> None:
    for server in roads:
        asks = small_post(server, "Expect: 100-continue")
        head, _, body = asks.partition(b"\r\n\r\n")
        with server.client() as client:
            client.head(f"{IMAGES}/a.png")  # the token is known from here on
        with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
            connection.sendall(small_post(server) + head + b"\r\n\r\n")
            stream = connection.makefile("rb")
            assert parsed(_one_answer(stream, has_body=True)).status == 200
            assert stream.readline() == b"HTTP/1.1 100 Continue\r\n"
            assert stream.readline() == b"\r\n"
            connection.sendall(body)
            assert parsed(_one_answer(stream, has_body=True)).status == 200


def test_what_was_accepted_before_garbage_is_answered(roads: tuple[Server, Server]) -> None:
    for server in roads:
        with server.client() as client:
            client.head(f"{IMAGES}/a.png")  # the token is known from here on
        token = f"Authorization: Bearer {server.token()}"
        get = f"GET {IMAGES}/missing HTTP/1.1\r\nHost: a\r\n{token}\r\n\r\n".encode()
        answer = exchange(server.port, small_post(server) + get + b"\0\0")
        assert [int(part[:3]) for part in answer.split(b"HTTP/1.1 ")[1:]] == [200, 404, 400]


def test_uploads_that_are_refused_and_reset_leave_the_clock_alone(tmp_path: Path) -> None:
    with running(tmp_path, head_timeout_seconds="2") as server:
        token = server.token("--scope", "storage:read")
        head = (
            f"POST {IMAGES}/a.png HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\n"
            "Content-Type: multipart/form-data; boundary=b\r\nContent-Length: 1000000\r\n\r\n"
        ).encode()
        with server.client("--scope", "storage:read") as client:
            client.head(f"{IMAGES}/a.png")
        deadline = time.monotonic() + 4
        while time.monotonic() < deadline:  # long enough for some ticks to meet one
            with socket.create_connection(("127.0.0.1", server.port), timeout=60) as connection:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                connection.sendall(head)
        assert parsed(exchange(server.port, b"GET / HTTP/1.1\r\n")).status == 408
        assert "Traceback" not in server.logged()


def test_what_another_process_saves_or_deletes_is_seen_at_once(
    roads: tuple[Server, Server],
) -> None:
    short, other = roads
    with short.client() as reader, other.client() as writer:
        for turn in range(20):
            data = PNG + bytes([turn])
            writer.post(f"{IMAGES}/turns.png", files={"file": data})
            assert reader.get(f"{IMAGES}/turns.png").content == data
            if turn % 3 == 0:
                writer.delete(f"{IMAGES}/turns.png")
                assert reader.get(f"{IMAGES}/turns.png").status_code == 404


def settled(*files: Path) -> None:
    """Wait until nothing has changed for so long that a server may keep answers."""
    while time.time() < max(file.stat().st_ctime for file in files) + 2.1:
        time.sleep(0.05)  # until it holds; there is a deadline


SIZES = (8, 4_000, 65_536, 65_537, 300_000)


@dataclass
class Kept:
    """An image whose answers a server keeps."""

    path: str
    file: Path
    content: bytes

    @property
    def spare(self) -> Path:
        """Another folder with an image of this name and size, as old as this one."""
        return self.file.parent.with_name(f"{self.file.parent.name}-spare")


@pytest.fixture(scope="module")
def kept(roads: tuple[Server, Server]) -> dict[str, list[Kept]]:
    """Images of several sizes for each of `CHANGES`."""
    short, _ = roads
    images = {way: [_saved(short, way, size) for size in SIZES] for way in CHANGES}
    everything = [image for group in images.values() for image in group]
    settled(*(image.file for image in everything), *(image.spare / "a.bin" for image in everything))
    return images


def _saved(server: Server, way: str, size: int) -> Kept:
    path, content = f"kept/{way}/{size}/a.bin", os.urandom(size)
    with server.client() as client:
        client.post(f"{IMAGES}/{path}", files={"file": content}).raise_for_status()
    kept = Kept(path, server.data / "compute" / path, content)
    kept.spare.mkdir()
    (kept.spare / "a.bin").write_bytes(os.urandom(size))
    return kept


def edited(image: Kept, new: bytes, _: httpx.Client) -> bytes:
    with image.file.open("r+b") as opened:
        opened.write(new)
    os.utime(image.file)
    return new


def replaced(image: Kept, new: bytes, _: httpx.Client) -> bytes:
    other, time_ns = image.file.with_name("other"), image.file.stat().st_mtime_ns
    other.write_bytes(new)
    os.utime(other, ns=(time_ns, time_ns))
    other.replace(image.file)
    return new


def saved(image: Kept, new: bytes, other: httpx.Client) -> bytes:
    other.post(f"{IMAGES}/{image.path}", files={"file": new}).raise_for_status()
    return new


def deleted(image: Kept, _: bytes, other: httpx.Client) -> None:
    other.delete(f"{IMAGES}/{image.path}").raise_for_status()


def linked(image: Kept, _: bytes, __: httpx.Client) -> None:
    image.file.symlink_to(image.file.rename(image.file.with_name("aside")))


def swapped(image: Kept, _: bytes, __: httpx.Client) -> bytes:
    image.file.parent.rename(image.file.parent.with_name(f"{image.file.parent.name}-old"))
    image.spare.rename(image.file.parent)
    return image.file.read_bytes()


CHANGES = {
    change.__name__: change for change in (swapped, edited, replaced, saved, deleted, linked)
}


@pytest.mark.parametrize("way", CHANGES)
def test_an_answer_that_is_kept_follows_every_change(
    roads: tuple[Server, Server], kept: dict[str, list[Kept]], way: str
) -> None:
    short, long = roads
    with short.client() as reader, long.client() as other:
        for image in kept[way]:
            url = f"{IMAGES}/{image.path}"
            for _ in range(4):
                assert reader.get(url).content == image.content
            etag = reader.head(url).headers["etag"]

            new = CHANGES[way](image, os.urandom(len(image.content)), other)

            for _ in range(4):
                answer, head = reader.get(url), reader.head(url)
                assert answer.status_code == head.status_code == (404 if new is None else 200)
                if new is not None:
                    assert answer.content == new
                    assert answer.headers["etag"] == head.headers["etag"] != etag


def test_an_image_that_comes_is_seen_by_who_was_told_that_it_is_missing(
    roads: tuple[Server, Server],
) -> None:
    short, _ = roads
    file = short.data / "compute/kept/later.png"
    file.parent.mkdir(exist_ok=True)
    settled(file.parent)
    with short.client() as reader:
        for turn in range(3):
            for _ in range(3):
                assert reader.get(f"{IMAGES}/kept/later.png").status_code == 404
            file.write_bytes(PNG + bytes([turn]))
            assert reader.get(f"{IMAGES}/kept/later.png").content == PNG + bytes([turn])
            file.unlink()


def test_a_deleted_image_gives_its_room_back(roads: tuple[Server, Server]) -> None:
    short, _ = roads
    file = short.data / "compute/room.bin"
    with short.client() as client:
        client.post(f"{IMAGES}/room.bin", files={"file": LARGE}).raise_for_status()
        settled(file)
        for _ in range(3):
            client.get(f"{IMAGES}/room.bin").raise_for_status()
        client.delete(f"{IMAGES}/room.bin").raise_for_status()

        deadline = time.monotonic() + 60
        while is_open(short, "room.bin"):
            assert time.monotonic() < deadline
            client.get(f"{IMAGES}/a.png")


def is_open(server: Server, name: str) -> bool:
    for descriptor in Path(f"/proc/{server.process.pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            if name in os.readlink(descriptor):
                return True
    return False


def test_a_token_ends_on_the_fast_path_too(roads: tuple[Server, Server]) -> None:
    short, _ = roads
    with short.client("--expires", "6s") as client:
        deadline = time.monotonic() + 40
        assert client.get(f"{IMAGES}/a.png").status_code == 200
        while client.get(f"{IMAGES}/a.png").status_code == 200:
            assert time.monotonic() < deadline
            time.sleep(0.05)  # until it holds; there is a deadline
        assert client.get(f"{IMAGES}/a.png").status_code == 401


def open_descriptors(server: Server) -> int:
    """Of connections and images; those of the library come when its rows are first needed."""
    found = 0
    for descriptor in Path(f"/proc/{server.process.pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            found += "/library.db" not in os.readlink(descriptor)
    return found


def test_a_client_that_leaves_in_the_middle_costs_no_descriptor(
    roads: tuple[Server, Server],
) -> None:
    short, _ = roads
    request = (
        f"GET {IMAGES}/large.bin HTTP/1.1\r\nHost: a\r\n"
        f"Authorization: Bearer {short.token()}\r\n\r\n"
    ).encode()
    ask(short, request, times=2)
    before = open_descriptors(short)
    for _ in range(50):
        with socket.create_connection(("127.0.0.1", short.port), timeout=60) as connection:
            connection.sendall(request)
            connection.recv(10_000)
    deadline = time.monotonic() + 60
    while open_descriptors(short) > before:
        assert time.monotonic() < deadline
        time.sleep(0.05)  # until it holds; there is a deadline


def test_a_slow_reader_gets_all_of_a_large_image(roads: tuple[Server, Server]) -> None:
    short, _ = roads
    request = (
        f"GET {IMAGES}/large.bin HTTP/1.1\r\nHost: a\r\n"
        f"Authorization: Bearer {short.token()}\r\n\r\n"
    ).encode()
    ask(short, request, times=2)
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 * 1024)
        connection.settimeout(20)
        connection.connect(("127.0.0.1", short.port))
        connection.sendall(request)
        stream = connection.makefile("rb", buffering=0)
        answer = b""
        while not answer.endswith(LARGE[-100:]):
            answer += stream.read(7_001) or pytest.fail("closed too early")
        # The next one on the same connection has its own answer.
        connection.sendall(request.replace(b"large.bin", b"a.png"))
        while not answer.endswith(PNG):
            answer += stream.read(7_001) or pytest.fail("closed too early")
    assert parsed(answer).body[: len(LARGE)] == LARGE


def test_a_draining_server_finishes_what_it_sends(tmp_path: Path) -> None:
    data = os.urandom(16 * 1024**2)
    with running(tmp_path) as server:
        with server.client() as client:
            client.post(f"{IMAGES}/big.bin", files={"file": data}).raise_for_status()
            client.get(f"{IMAGES}/big.bin")
        request = (
            f"GET {IMAGES}/big.bin HTTP/1.1\r\nHost: a\r\n"
            f"Authorization: Bearer {server.token()}\r\n\r\n"
        ).encode()
        with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
            connection.sendall(request)
            answer = connection.recv(1000)
            server.process.terminate()
            while piece := connection.recv(1_000_000):
                answer += piece
        assert parsed(answer).body == data
        assert server.process.wait(timeout=30) == 0


def upload_head(server: Server, path: str, length: int, *fields: str) -> bytes:
    """The head of an upload whose token the server knows from here on."""
    with server.client() as client:
        for _ in range(8):  # on new connections, so that every worker knows it
            client.head(f"{IMAGES}/a.png")
    lines = [f"POST {IMAGES}/{path} HTTP/1.1", "Host: a", f"Content-Length: {length}",
             "Content-Type: multipart/form-data; boundary=b",
             f"Authorization: Bearer {server.token()}", *fields]  # fmt: skip
    return "\r\n".join([*lines, "", ""]).encode()


BODY = (
    b'--b\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\n'
    + LARGE
    + b"\r\n--b--\r\n"
)


def wait_until_nothing_is_accepted(port: int) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=20).close()
        except ConnectionRefusedError:
            return
        time.sleep(0.01)  # until it holds; there is a deadline
    pytest.fail("it goes on accepting")


def test_100_continue_comes_only_once_the_head_has_passed(roads: tuple[Server, Server]) -> None:
    short, _ = roads
    with socket.create_connection(("127.0.0.1", short.port), timeout=20) as connection:
        stream = connection.makefile("rb")
        connection.sendall(upload_head(short, "go/on.bin", len(BODY), "Expect: 100-continue"))
        assert stream.readline() == b"HTTP/1.1 100 Continue\r\n"
        assert stream.readline() == b"\r\n"
        connection.sendall(BODY)
        assert parsed(_one_answer(stream, has_body=True)).status == 200
        connection.sendall(upload_head(short, "go/on.bin", 2**30, "Expect: 100-continue"))
        refused = parsed(_one_answer(stream, has_body=True))
        assert (refused.status, refused.headers["connection"]) == (413, "close")
        assert stream.read() == b""


def test_an_early_refusal_reaches_a_client_that_goes_on_sending(
    roads: tuple[Server, Server],
) -> None:
    short, _ = roads
    with socket.create_connection(("127.0.0.1", short.port), timeout=20) as connection:
        connection.sendall(upload_head(short, "a.png", len(BODY), "If-None-Match: *"))
        connection.sendall(BODY[: 512 * 1024])
        answer = b""
        while piece := connection.recv(65_536):
            answer += piece
    assert parsed(answer).status == 412
    assert answer.count(b"HTTP/1.1") == 1


def test_a_client_that_leaves_in_the_middle_of_an_upload_leaves_nothing(
    roads: tuple[Server, Server],
) -> None:
    short, _ = roads
    head = upload_head(short, "left/half.bin", len(BODY))
    before = open_descriptors(short)
    for sent in (0, 10, 100_000, len(BODY) - 1):
        with socket.create_connection(("127.0.0.1", short.port), timeout=20) as connection:
            connection.sendall(head + BODY[:sent])
    deadline = time.monotonic() + 60
    while open_descriptors(short) > before:
        assert time.monotonic() < deadline
        time.sleep(0.05)  # until it holds; there is a deadline
    with short.client() as client:
        assert client.get(IMAGES, params={"prefix": "left/"}).json() == []
    assert not list((short.data / ".stillroom/staging").iterdir())
    assert "Traceback" not in short.logged()


def test_a_body_that_comes_too_slowly_is_given_up(tmp_path: Path) -> None:
    with running(tmp_path, min_body_bytes_per_second="1000000") as server:
        head = upload_head(server, "slow.bin", len(BODY))
        with socket.create_connection(("127.0.0.1", server.port), timeout=60) as connection:
            connection.sendall(head + BODY[:1000])
            answer = b""
            while piece := connection.recv(65_536):
                answer += piece
        assert parsed(answer).status == 408
        assert not list((server.data / ".stillroom/staging").iterdir())
        with server.client() as client:
            assert client.get(IMAGES).json() == []


def test_a_draining_server_finishes_an_upload_that_has_begun(tmp_path: Path) -> None:
    with running(tmp_path) as server:
        head = upload_head(server, "last.bin", len(BODY), "Expect: 100-continue")
        with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
            connection.sendall(head)
            assert connection.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
            connection.sendall(BODY[:100_000])
            server.process.terminate()
            wait_until_nothing_is_accepted(server.port)
            connection.sendall(BODY[100_000:])
            answer = b""
            while piece := connection.recv(65_536):
                answer += piece
        found = parsed(answer)
        assert (found.status, found.headers["connection"]) == (200, "close")
        assert server.process.wait(timeout=30) == 0
        assert (server.data / "compute/last.bin").read_bytes() == LARGE
