"""Clients that are slow, leave or are refused, and a server that drains, on the fast path."""

import contextlib
import itertools
import os
import resource
import select
import socket
import struct
import tempfile
import time
from pathlib import Path

import pytest

from acceptance.raw_requests import LARGE, PNG, ask, connected, one_answer, open_descriptors
from running import IMAGES, Server, exchange, parsed, running
from waiting import until

both_paths = pytest.mark.parametrize("number", [0, 1], ids=["fast", "asgi"])


def test_a_client_that_leaves_in_the_middle_costs_no_descriptor(
    both_paths: tuple[Server, Server],
) -> None:
    short, _ = both_paths
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
    until(lambda: open_descriptors(short) <= before)


def test_a_slow_reader_gets_all_of_a_large_image(both_paths: tuple[Server, Server]) -> None:
    short, _ = both_paths
    request = (
        f"GET {IMAGES}/large.bin HTTP/1.1\r\nHost: a\r\n"
        f"Authorization: Bearer {short.token()}\r\n\r\n"
    ).encode()
    ask(short, request, times=2)
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 * 1024)
        connection.settimeout(60)
        connection.connect(("127.0.0.1", short.port))
        connection.sendall(request)
        answer = b""
        while not answer.endswith(LARGE[-100:]):
            answer += connection.recv(7_001) or pytest.fail("closed too early")
        # The next one on the same connection has its own answer.
        connection.sendall(request.replace(b"large.bin", b"a.png"))
        while not answer.endswith(PNG):
            answer += connection.recv(7_001) or pytest.fail("closed too early")
    assert parsed(answer).body[: len(LARGE)] == LARGE


@both_paths
def test_a_file_that_becomes_shorter_while_it_is_sent_ends_the_connection(
    both_paths: tuple[Server, Server], folder: str, number: int
) -> None:
    server = both_paths[number]
    file = server.data / f"compute/{folder}.bin"
    with file.open("wb") as opened:
        opened.truncate(64 * 1024**2)  # more than all buffers on the way
    request = (
        f"GET {IMAGES}/{folder}.bin HTTP/1.1\r\nHost: a\r\n"
        f"Authorization: Bearer {server.token()}\r\n\r\n"
    ).encode()
    with connected(server.port) as (connection, stream):
        connection.sendall(request)
        received = len(stream.read(1000))
        os.truncate(file, 1000)
        while piece := stream.read1():
            received += len(piece)
    assert received < 64 * 1024**2
    file.unlink()


@pytest.mark.parametrize("parent", [None, "/dev/shm"], ids=["disk", "memory"])  # RWF_NOWAIT or not
def test_a_slow_download_goes_on_without_a_descriptor_and_the_log_says_so(
    parent: str | None,
) -> None:
    data = os.urandom(16 * 1024**2)
    with (
        tempfile.TemporaryDirectory(dir=parent) as folder,
        running(Path(folder), min_free_bytes="0") as server,
        server.client() as client,
    ):
        client.post(f"{IMAGES}/large.bin", files={"file": data}).raise_for_status()
        assert client.get("/api/v1/media-resources").json() == []  # its files are open now
        connection = download_without_descriptors(server)
        with connection:
            answer = bytearray()
            while not answer.endswith(data[-100:]):
                answer += connection.recv(1024**2) or pytest.fail("closed too early")

        assert parsed(bytes(answer)).body == data
        assert server.logged().count("cannot open a file descriptor to wait for a slow client") == 1


def download_without_descriptors(server: Server) -> socket.socket:
    """Begin a slow download that finds one free descriptor in the server, that of the image.

    Jobs in the background open and close files at any time. If one took the last descriptor, the
    image is refused. If one returned a descriptor, two are left. In both cases it begins again.
    """
    folder = Path(f"/proc/{server.pid}/fd")
    limits = resource.prlimit(server.pid, resource.RLIMIT_NOFILE)

    def ended() -> str:
        if select.select([connection], [], [], 0)[0]:
            begin = connection.recv(12, socket.MSG_PEEK)
            if not begin.endswith(b" 200"):
                return "refused"
        if "to wait for a slow client (Too many open files)" in server.logged():
            return "logged"
        return "duplicated" if sockets_twice() else ""

    def sockets_twice() -> bool:
        sockets = [link for link in map(link_of, folder.iterdir()) if link.startswith("socket:")]
        return len(sockets) > len(set(sockets))

    for _ in range(20):
        connection = socket.socket()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 * 1024)
        connection.settimeout(60)
        connection.connect(("127.0.0.1", server.port))
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
        connection.recv(65_536)
        used = {int(entry.name) for entry in folder.iterdir()}
        free = next(number for number in itertools.count() if number not in used)
        resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (free + 1, limits[1]))
        connection.sendall(
            f"GET {IMAGES}/large.bin HTTP/1.1\r\nHost: a\r\n"
            f"Authorization: Bearer {server.token()}\r\n\r\n".encode()
        )
        if until(ended) == "logged":
            return connection
        resource.prlimit(server.pid, resource.RLIMIT_NOFILE, limits)
        connection.close()
        until(lambda: not sockets_twice())
    pytest.fail("a descriptor was left each time")


def link_of(entry: Path) -> str:
    """The file of a descriptor; empty if it was closed meanwhile."""
    try:
        return os.readlink(entry)
    except OSError:
        return ""


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
        with socket.create_connection(("127.0.0.1", server.port), timeout=60) as connection:
            connection.sendall(request)
            answer = connection.recv(1000)
            server.process.terminate()
            while piece := connection.recv(1_000_000):
                answer += piece
        assert parsed(answer).body == data
        assert server.process.wait(timeout=60) == 0


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


@both_paths
def test_a_client_that_says_that_it_sends_no_more_gets_its_answer(
    both_paths: tuple[Server, Server], folder: str, number: int
) -> None:
    server = both_paths[number]
    head = upload_head(server, f"{folder}/a.bin", len(BODY))
    with connected(server.port) as (connection, stream):
        connection.sendall(head + BODY)
        connection.shutdown(socket.SHUT_WR)
        assert parsed(stream.read()).status == 200


def wait_until_nothing_is_accepted(port: int) -> None:
    with contextlib.suppress(ConnectionRefusedError):
        until(lambda: socket.create_connection(("127.0.0.1", port), timeout=60).close())


def test_100_continue_comes_only_once_the_head_has_passed(
    both_paths: tuple[Server, Server],
) -> None:
    short, _ = both_paths
    with connected(short.port) as (connection, stream):
        connection.sendall(upload_head(short, "go/on.bin", len(BODY), "Expect: 100-continue"))
        assert stream.readline() == b"HTTP/1.1 100 Continue\r\n"
        assert stream.readline() == b"\r\n"
        connection.sendall(BODY)
        assert parsed(one_answer(stream, has_body=True)).status == 200
        connection.sendall(upload_head(short, "go/on.bin", 2**30, "Expect: 100-continue"))
        refused = parsed(one_answer(stream, has_body=True))
        assert (refused.status, refused.headers["connection"]) == (413, "close")
        assert stream.read() == b""


@both_paths
@pytest.mark.parametrize(
    ("length", "status"), [(len(BODY), 412), (2**30, 413)], ids=["condition", "length"]
)
def test_an_early_refusal_reaches_a_client_that_goes_on_sending(
    both_paths: tuple[Server, Server], number: int, length: int, status: int
) -> None:
    server = both_paths[number]
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as connection:
        connection.sendall(upload_head(server, "a.png", length, "If-None-Match: *"))
        connection.sendall(BODY[: 512 * 1024])
        answer = b""
        while piece := connection.recv(65_536):
            answer += piece
    refused = parsed(answer)
    assert (refused.status, refused.headers["connection"]) == (status, "close")
    assert answer.count(b"HTTP/1.1") == 1


def test_a_client_that_leaves_in_the_middle_of_an_upload_leaves_nothing(
    both_paths: tuple[Server, Server],
) -> None:
    short, _ = both_paths
    head = upload_head(short, "left/half.bin", len(BODY))
    before, logged = open_descriptors(short), len(short.logged())
    for sent in (0, 10, 100_000, len(BODY) - 1):
        with socket.create_connection(("127.0.0.1", short.port), timeout=60) as connection:
            connection.sendall(head + BODY[:sent])
    until(lambda: open_descriptors(short) <= before)
    with short.client() as client:
        assert client.get(IMAGES, params={"prefix": "left/"}).json() == []
    assert not list((short.data / ".stillroom/staging").iterdir())
    assert "Traceback" not in short.logged()[logged:]


@pytest.mark.whole
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


def test_a_draining_server_finishes_an_upload_that_has_begun(tmp_path: Path) -> None:
    with running(tmp_path) as server:
        head = upload_head(server, "last.bin", len(BODY), "Expect: 100-continue")
        with socket.create_connection(("127.0.0.1", server.port), timeout=60) as connection:
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
        assert server.process.wait(timeout=60) == 0
        assert (server.data / "compute/last.bin").read_bytes() == LARGE
