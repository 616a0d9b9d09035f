"""How connections end, and what happens before a body is read."""

import contextlib
import json
import os
import re
import socket
from pathlib import Path

import httpx
import pytest

from framing import ATTACKS, Attack, hidden, statuses
from running import IMAGES, Server, exchange, parsed, running
from waiting import until

MIB = 1024**2
SYSCTL = Path("/proc/sys/net/ipv4")


def head(path: str, token: str, *fields: str, length: int = 2**30) -> bytes:
    lines = [
        f"POST {IMAGES}/{path} HTTP/1.1",
        "Host: a",
        f"Authorization: Bearer {token}",
        "Content-Type: multipart/form-data; boundary=B",
        f"Content-Length: {length}",
        *fields,
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n"


def most_in_socket_buffers() -> int:
    """Bytes that may be on their way: how far the kernel lets the buffers of both ends grow."""
    return sum(int((SYSCTL / name).read_text().split()[2]) for name in ("tcp_rmem", "tcp_wmem"))


def refused(server: Server, request_head: bytes) -> tuple[int, int]:
    """Send a body until the server stops it; the answer's status and the bytes sent."""
    sent = 0
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as connection:
        connection.sendall(request_head)
        answer = connection.recv(65_536)
        try:
            while sent < 2 * (most_in_socket_buffers() + MIB):
                sent += connection.send(bytes(65_536))
        except OSError:
            pass  # closed at last
    return parsed(answer).status, sent


@pytest.mark.both_paths
@pytest.mark.parametrize("fault", ["token", "path", "length", "type"])
def test_an_early_refusal_is_seen_and_the_rest_is_not_read(server: Server, fault: str) -> None:
    token = server.token()
    request_head = {
        "token": head("a.png", "bad"),
        "path": head("a%00", token, length=MIB),
        "length": head("a.png", token),
        "type": head("a.png", token, length=MIB).replace(b"multipart/form-data", b"image/png"),
    }[fault]
    expected = {"token": 401, "path": 422, "length": 413, "type": 415}[fault]

    status, sent = refused(server, request_head)

    assert status == expected
    # 1 MiB is dropped by us; the rest fits into the socket buffers of both ends.
    assert sent <= most_in_socket_buffers() + 2 * MIB


def test_a_client_that_sends_first_and_reads_later_still_sees_its_401(server: Server) -> None:
    answer = parsed(exchange(server.port, head("a.png", "bad", length=600_000) + bytes(600_000)))

    assert (answer.status, answer.headers["connection"]) == (401, "close")


def test_a_client_that_sends_as_fast_as_it_can_is_not_reset(server: Server) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=0.5) as connection:
        connection.sendall(head("a.png", "bad"))
        with pytest.raises(TimeoutError):  # nobody takes it any more, and nobody has hung up
            connection.sendall(bytes(64 * MIB))
        connection.settimeout(60)
        assert parsed(connection.recv(65_536)).status == 401


@pytest.mark.both_paths
def test_100_continue_is_sent_only_once_the_head_has_passed(server: Server, folder: str) -> None:
    expect = "Expect: 100-continue"
    body = b'--B\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\nx\r\n--B--\r\n'

    for request_head, status in (
        (head("a.png", "bad", expect), 401),
        (head("a%00", server.token(), expect, length=10), 422),
        (head("a.png", server.token(), expect), 413),
    ):
        assert parsed(exchange(server.port, request_head)).status == status

    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as connection:
        connection.sendall(head(f"{folder}/a.png", server.token(), expect, length=len(body)))
        assert connection.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(body)
        assert connection.recv(65_536).startswith(b"HTTP/1.1 200 OK\r\n")


@pytest.mark.both_paths
@pytest.mark.parametrize("sent", ["at once", "byte by byte"])
@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS.keys())
def test_no_framing_hides_a_second_request(
    server: Server, client: httpx.Client, folder: str, attack: Attack, sent: str
) -> None:
    client.post(f"{IMAGES}/{folder}/victim.png", files={"file": b"x"})
    request = attack.request(
        server.token(), hidden(f"{folder}/victim.png", server.token()), keep=True
    )
    if attack.is_whole:
        request += b"GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"

    answer = (exchange if sent == "at once" else trickled)(server.port, request)

    if attack.is_whole:
        first, *others = statuses(answer)
        assert first in {400, 404, 422}
        assert others in ([], [200]), "the one that was really sent"
    else:
        assert statuses(answer) == [400]
        assert parsed(answer).headers["connection"] == "close"
    assert client.get(f"{IMAGES}/{folder}/victim.png").content == b"x"


def trickled(port: int, request: bytes) -> bytes:
    """Send bytes one by one, as long as they are taken; all that came back."""
    answer = b""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with contextlib.suppress(OSError):
            for byte in request:
                connection.sendall(bytes([byte]))
        with contextlib.suppress(ConnectionResetError):
            while piece := connection.recv(65_536):
                answer += piece
    return answer


@pytest.mark.both_paths
def test_a_precondition_is_refused_before_the_body(
    server: Server, client: httpx.Client, folder: str
) -> None:
    client.post(f"{IMAGES}/{folder}/a.png", files={"file": b"x"})
    request_head = head(
        f"{folder}/a.png", server.token(), "Expect: 100-continue", "If-None-Match: *", length=MIB
    )

    assert parsed(exchange(server.port, request_head)).status == 412


def test_pipelined_requests_are_answered_in_order(server: Server) -> None:
    request = b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n"
    last = b"GET /nothing HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"

    answer = exchange(server.port, request * 5 + last)

    assert answer.count(b"HTTP/1.1 200 OK") == 5
    assert answer.rpartition(b"HTTP/1.1 ")[2].startswith(b"404")


def test_a_connection_is_kept_for_the_next_request(server: Server) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as connection:
        for _ in range(3):
            connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
            answer = b""
            while not answer.endswith(b'{"status":"alive"}'):
                answer += connection.recv(65_536)
            assert answer.startswith(b"HTTP/1.1 200 OK")


def test_a_broken_chunk_in_a_body_is_400_and_leaves_nothing(
    server: Server, client: httpx.Client, folder: str
) -> None:
    request_head = head(f"{folder}/a.png", server.token()).replace(
        b"Content-Length: 1073741824", b"Transfer-Encoding: chunked"
    )
    begin = b'--B\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\nx'

    answer = parsed(
        exchange(server.port, request_head + b"%x\r\n" % len(begin) + begin + b"\r\nnonsense\r\n")
    )

    assert (answer.status, answer.headers["connection"]) == (400, "close")
    assert client.get(IMAGES, params={"prefix": folder}).json() == []


def test_fields_behind_a_body_are_bounded_and_count_for_nothing(
    server: Server, client: httpx.Client, folder: str
) -> None:
    body = b'--B\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\nx\r\n--B--\r\n'
    chunked = head(f"{folder}/a.png", server.token(), "Connection: close").replace(
        b"Content-Length: 1073741824", b"Transfer-Encoding: chunked"
    )
    chunked += b"%x\r\n%s\r\n0\r\n" % (len(body), body)

    few = parsed(exchange(server.port, chunked + b"Authorization: Bearer x\r\n\r\n"))
    assert few.status == 200
    client.delete(f"{IMAGES}/{folder}/a.png")
    for trailer in (b"X: y\r\n" * 20_000, b"X: " + b"y" * 1_000_000):
        assert exchange(server.port, chunked + trailer)[:12] in (b"HTTP/1.1 431", b"HTTP/1.1 400")
    assert client.get(IMAGES, params={"prefix": folder}).json() == []


def test_an_upload_in_chunks_of_one_byte_is_whole_and_the_request_behind_it_is_answered(
    server: Server, client: httpx.Client, folder: str
) -> None:
    image = os.urandom(60_000)
    body = (
        b'--B\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\n%s\r\n--B--\r\n'
    )
    request = head(f"{folder}/a.png", server.token()).replace(
        b"Content-Length: 1073741824", b"Transfer-Encoding: chunked"
    )
    request += b"".join(b"1\r\n%c\r\n" % byte for byte in body % image) + b"0\r\n\r\n"
    last = b"GET /nothing HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"

    answer = exchange(server.port, request + last)

    assert answer.startswith(b"HTTP/1.1 200 OK")
    assert answer.rpartition(b"HTTP/1.1 ")[2].startswith(b"404")
    assert client.get(f"{IMAGES}/{folder}/a.png").content == image


def test_small_chunks_are_no_trailers(server: Server, folder: str) -> None:
    body = b'--B\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\n' + bytes(
        20_000
    )
    body += b"\r\n--B--\r\n"
    chunked = head(f"{folder}/a.png", server.token(), "Connection: close").replace(
        b"Content-Length: 1073741824", b"Transfer-Encoding: chunked"
    )
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sendall(chunked)
        for byte in body:
            connection.sendall(b"1\r\n")
            connection.sendall(b"%c\r\n" % byte)
        connection.sendall(b"0\r\n\r\n")
        assert parsed(connection.recv(65_536)).status == 200


def test_nothing_is_done_for_a_client_that_was_told_goodbye(
    server: Server, client: httpx.Client, folder: str
) -> None:
    client.post(f"{IMAGES}/{folder}/a.png", files={"file": b"x"})
    authorization = f"Authorization: {client.headers['authorization']}"
    first = "GET /healthz HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"
    second = f"DELETE {IMAGES}/{folder}/a.png HTTP/1.1\r\nHost: a\r\n{authorization}\r\n"

    answer = exchange(server.port, (first + second + "Content-Length: 5\r\n\r\n").encode())

    assert answer.count(b"HTTP/1.1 ") == 1
    assert client.get(f"{IMAGES}/{folder}/a.png").content == b"x"


@pytest.mark.both_paths
def test_clients_that_ask_ahead_and_leave_are_no_fault(
    server: Server, client: httpx.Client, folder: str
) -> None:
    client.post(f"{IMAGES}/{folder}/a.png", files={"file": bytes(7 * MIB)})
    authorization = f"Authorization: {client.headers['authorization']}"
    request = f"GET {IMAGES}/{folder}/a.png HTTP/1.1\r\nHost: a\r\n{authorization}\r\n\r\n"
    for _ in range(5):
        with socket.create_connection(("127.0.0.1", server.port), timeout=60) as connection:
            connection.sendall(request.encode() * 3)
            connection.recv(1000)
    assert client.get("/healthz").status_code == 200
    assert "Traceback" not in server.logged()


@pytest.mark.both_paths
def test_a_precondition_that_fails_on_a_read_keeps_no_file_open(
    server: Server, client: httpx.Client, folder: str
) -> None:
    client.post(f"{IMAGES}/{folder}/a.png", files={"file": b"x"})
    for _ in range(20):
        refused = client.get(f"{IMAGES}/{folder}/a.png", headers={"If-Match": '"no"'})
        assert refused.status_code == 412
    until(lambda: not held_open(server, folder))  # the index may be reading it


def held_open(server: Server, name: str) -> bool:
    for descriptor in Path(f"/proc/{server.pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            if name in str(descriptor.readlink()):
                return True
    return False


@pytest.mark.both_paths
def test_a_client_that_has_closed_its_side_still_gets_its_answer(
    server: Server, client: httpx.Client, folder: str
) -> None:
    client.post(f"{IMAGES}/{folder}/a.png", files={"file": bytes(3 * MIB)})
    request = f"GET {IMAGES}/{folder}/a.png HTTP/1.1\r\nHost: a\r\nAuthorization: {{}}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as connection:
        connection.sendall(request.format(client.headers["authorization"]).encode())
        connection.shutdown(socket.SHUT_WR)
        answer = b""
        while piece := connection.recv(65_536):
            answer += piece
    assert len(parsed(answer).body) == 3 * MIB


@pytest.mark.parametrize("protocol", ["h2c", "websocket"])
def test_an_offer_to_upgrade_is_passed_over(server: Server, protocol: str) -> None:
    upgrade = (
        f"GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: {protocol}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as connection:
        connection.sendall(upgrade.encode())
        answer = b""
        while not answer.endswith(b'{"status":"alive"}'):
            answer += connection.recv(65_536)
    assert answer.startswith(b"HTTP/1.1 200 OK")


@pytest.mark.both_paths
@pytest.mark.workers
def test_no_token_is_ever_logged(server: Server, client: httpx.Client, folder: str) -> None:
    token = client.headers["authorization"].removeprefix("Bearer ")
    client.get(f"{IMAGES}/{folder}/missing")
    exchange(
        server.port, b"GET / HTTP/1.1\r\nAuthorization: Bearer " + token.encode() + b"\r\n\r\n"
    )

    assert token not in server.logged()
    assert Path(server.data / ".stillroom/secret").read_text().strip() not in server.logged()


@pytest.mark.parametrize(("workers", "form"), [("1", "console"), ("2", "json")])
def test_no_control_character_reaches_the_log(tmp_path: Path, workers: str, form: str) -> None:
    steering = b"\x1b[31m\r\n2026-01-01T00:00:00Z INFO forged\x00\x07\x7f\xc2\x85\xe2\x80\xa8"
    escapes = b"".join(b"%%%02x" % byte for byte in steering)
    with (
        running(tmp_path, "--workers", workers, access_log="true", log_format=form) as server,
        server.client() as client,
    ):
        token = client.headers["authorization"].encode()
        for one in [bytes([byte]) for byte in steering] + [steering]:
            for target, host, value in (
                (b"/a" + one, b"a", b"x"),
                (b"/a", b"a" + one, b"x"),
                (b"/a", b"a", b"x" + one),
            ):
                head = b"GET " + IMAGES.encode() + target + b" HTTP/1.1\r\nHost: " + host + b"\r\n"
                for field in (b"X: ", b"Authorization: Bearer ", b"If-Match: ", b"Range: "):
                    exchange(server.port, head + field + value + b"\r\nConnection: close\r\n\r\n")
        for target in (b"/" + escapes, b"?prefix=" + escapes, b"/a?x=" + escapes):
            head = (
                b"GET "
                + IMAGES.encode()
                + target
                + b" HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"
            )
            exchange(server.port, head + b"Authorization: " + token + b"\r\n\r\n")
        (server.data / "compute").mkdir(exist_ok=True)
        (server.data / "compute/link\u202e\x1b.png").symlink_to("a")
        client.get(IMAGES)
    logged = server.log.read_bytes()

    assert b"%1b%5b%33" in logged, "the requests have lines"
    assert not re.search(rb"[\x00-\x09\x0b-\x1f\x7f]|\xc2[\x80-\x9f]|\xe2\x80[\xa8\xa9]", logged)
    for line in logged.decode().splitlines():
        assert (
            json.loads(line) if form == "json" else re.match(r"20\d\d-\S+Z [A-Z]+ (?!forged)", line)
        )
