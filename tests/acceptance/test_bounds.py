"""Slow, greedy and numerous clients are bounded, and leave others alone."""

import contextlib
import os
import resource
import select
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from acceptance.conftest import Servers, Way
from acceptance.test_memory import load_what_is_loaded_late
from running import IMAGES, Server, exchange, parsed, running
from stillroom.server import descriptors
from stillroom.speed.http11.connection import BODY_WINDOW_S
from stillroom.speed.settings import SpeedSettings
from waiting import until

MIB = 1024**2

workers = pytest.mark.parametrize("workers", ["1", pytest.param("2", marks=pytest.mark.whole)])


def connect(server: Server) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), timeout=60)


def upload_head(server: Server, path: str, length: int) -> bytes:
    return (
        f"POST {IMAGES}/{path} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {server.token()}\r\n"
        f"Content-Type: multipart/form-data; boundary=B\r\nContent-Length: {length}\r\n\r\n"
    ).encode()


BEGIN = b'--B\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\n'
END = b"\r\n--B--\r\n"


@pytest.fixture
def hasty(started_as: Way, servers: Servers) -> Server:
    """A server with little patience."""
    return servers.started(
        started_as,
        head_timeout_seconds="2",
        write_timeout_seconds="2",
        idle_timeout_seconds="2",
        max_head_bytes="2048",
        max_header_fields="12",
        max_target_bytes="512",
    )


def test_the_bounds_as_shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(descriptors, "raise_descriptor_limit", lambda: 65_536)

    shipped = descriptors.limit_connections(SpeedSettings.of_values(data_dir=tmp_path))

    heads = shipped.max_head_bytes, shipped.max_header_fields, shipped.max_target_bytes
    assert heads == (32_768, 100, 8192)
    assert (shipped.head_timeout_seconds, shipped.idle_timeout_seconds) == (10, 65)
    assert (shipped.min_body_bytes_per_second, BODY_WINDOW_S) == (1024, 30)
    assert (shipped.write_timeout_seconds, shipped.max_connections) == (60, 4096)


@pytest.mark.workers(whole=True)
def test_every_bound_of_a_head_is_a_setting(hasty: Server) -> None:
    def status(target: str = "/a", fields: str = "") -> int:
        request = f"GET {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{fields}\r\n"
        return parsed(exchange(hasty.port, request.encode())).status

    assert status("/" + "a" * 511) == 404
    assert status("/" + "a" * 512) == 414
    assert status(fields="X: y\r\n" * 10) == 404
    assert status(fields="X: y\r\n" * 11) == 431
    assert status(fields=f"X: {'y' * 1900}\r\n") == 404
    assert status(fields=f"X: {'y' * 2100}\r\n") == 431


def test_a_head_that_trickles_in_is_408_all_the_same(hasty: Server) -> None:
    with connect(hasty) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nX: ")
        for _ in range(600):
            if select.select([connection], [], [], 0.1)[0]:  # slowness is what is tested
                break
            connection.sendall(b"y")
        assert parsed(connection.recv(65_536)).status == 408


def test_an_idle_connection_is_closed(hasty: Server) -> None:
    with connect(hasty) as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
        answer = b""
        while piece := connection.recv(65_536):
            answer += piece
    assert answer.endswith(b'{"status":"alive"}')


ASK = b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n"


@pytest.mark.parametrize("before", [b"", ASK], ids=["a new connection", "a kept connection"])
def test_line_ends_are_no_sign_of_life(hasty: Server, before: bytes) -> None:
    with connect(hasty) as connection:
        connection.sendall(before)
        deadline = time.monotonic() + 60
        with contextlib.suppress(OSError):
            while established(hasty.port, connection):
                assert time.monotonic() < deadline
                connection.sendall(b"\r\n")
                time.sleep(0.2)  # slowness is what is tested


def test_a_second_head_on_a_kept_connection_has_no_more_time_than_the_first(hasty: Server) -> None:
    with connect(hasty) as connection:
        connection.sendall(ASK)
        answer = connection.recv(65_536)
        connection.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n")
        while piece := connection.recv(65_536):
            answer += piece
    assert answer.count(b"HTTP/1.1 200 ") == answer.count(b"HTTP/1.1 408 ") == 1


@pytest.fixture
def keeping(started_as: Way, servers: Servers) -> Server:
    """A server that keeps idle connections long after a head and a response are too late."""
    return servers.started(
        started_as,
        head_timeout_seconds="1",
        write_timeout_seconds="1",
        idle_timeout_seconds="600",
    )


def test_line_ends_between_requests_are_passed_over(keeping: Server) -> None:
    with connect(keeping) as connection:
        connection.sendall(ASK + b"\r\n")
        answer = b""
        while not answer.endswith(b'{"status":"alive"}'):
            answer += connection.recv(65_536)
        connection.settimeout(4)  # nothing is to happen in it
        with pytest.raises(TimeoutError):
            connection.recv(100)


def test_a_head_that_begins_behind_another_request_has_no_more_time(keeping: Server) -> None:
    answer = exchange(keeping.port, ASK + b"GET / HT")
    assert answer.count(b"HTTP/1.1 200 ") == answer.count(b"HTTP/1.1 408 ") == 1


def test_a_kept_connection_outlives_the_time_of_a_head_and_of_an_answer(keeping: Server) -> None:
    with connect(keeping) as kept:
        kept.sendall(ASK)
        assert kept.recv(65_536).startswith(b"HTTP/1.1 200 ")
        with connect(keeping) as silent:
            assert silent.recv(1) == b"", "the time of a head is over, for both"
        kept.sendall(ASK)
        assert kept.recv(65_536).startswith(b"HTTP/1.1 200 ")


@pytest.mark.both_paths(whole=True)
def test_a_client_that_takes_nothing_of_its_answer_is_given_up(hasty: Server) -> None:
    with hasty.client() as client:
        client.post(f"{IMAGES}/large.bin", files={"file": bytes(30 * MIB)})
    authorization = f"Authorization: Bearer {hasty.token()}"
    request = f"GET {IMAGES}/large.bin HTTP/1.1\r\nHost: a\r\n{authorization}\r\n\r\n"
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
        connection.settimeout(60)
        connection.connect(("127.0.0.1", hasty.port))
        connection.sendall(request.encode())
        assert connection.recv(10)
        # The connection goes first; the answer hears of it, and closes its image.
        until(lambda: not established(hasty.port, connection) and not open_images(hasty))


def established(port: int, connection: socket.socket) -> bool:
    """Whether the server's end of this connection is still there."""
    theirs = f"0100007F:{connection.getsockname()[1]:04X}"
    ours = f"0100007F:{port:04X}"
    lines = Path("/proc/net/tcp").read_text().splitlines()
    return any(line.split()[1:4] == [ours, theirs, "01"] for line in lines)


def wait_until_unconnected(server: Server) -> None:
    """Until the server has closed its ends of the connections that were closed by its clients."""
    ours, open_states = f"0100007F:{server.port:04X}", ("01", "08")  # ESTABLISHED, CLOSE_WAIT

    def is_unconnected() -> bool:
        lines = map(str.split, Path("/proc/net/tcp").read_text().splitlines())
        return not any(fields[1] == ours and fields[3] in open_states for fields in lines)

    until(is_unconnected)


def open_files(server: Server) -> Iterator[str]:
    for pid in [server.process.pid, *server.children()]:
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):
                yield str(descriptor.readlink())


def open_images(server: Server) -> list[str]:
    return [path for path in open_files(server) if "/compute/" in path and os.path.isfile(path)]


@pytest.mark.whole  # half a minute of waiting
def test_a_body_that_comes_too_slowly_is_408_and_leaves_nothing(tmp_path: Path) -> None:
    """By the setting: 32 KiB a second are too slow for it, and fast enough for the default."""
    pieces = [BEGIN, *[bytes(16_384)] * 4 * int(BODY_WINDOW_S), END]
    with running(tmp_path, min_body_bytes_per_second="50000") as server:
        with connect(server) as connection:
            connection.sendall(upload_head(server, "slow.bin", sum(map(len, pieces))))
            for piece in pieces:
                connection.sendall(piece)
                if select.select([connection], [], [], 0.5)[0]:  # slowness is what is tested
                    break
            assert parsed(connection.recv(65_536)).status == 408
        with server.client() as client:
            assert client.get(IMAGES).json() == []
        assert list((server.data / ".stillroom/staging").iterdir()) == []


@pytest.mark.workers(whole=True)
def test_a_thousand_half_open_connections_leave_others_alone_and_are_closed(
    hasty: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or half of those that the server takes, where the limit of open files is low."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    monkeypatch.setattr(descriptors, "raise_descriptor_limit", lambda: hard)
    settings = descriptors.limit_connections(SpeedSettings.of_values(data_dir=hasty.data))
    taken = settings.max_connections
    half_open: list[socket.socket] = []
    try:
        for _ in range(min(1000, taken // 2)):
            half_open.append(connect(hasty))
            half_open[-1].sendall(b"GET / HTTP/1.1\r\nHost: a\r\n")
        with hasty.client() as client:
            for number in range(20):
                path = f"{IMAGES}/among-them/{number}.bin"
                assert client.post(path, files={"file": b"x"}).status_code == 200
        for connection in half_open:
            assert parsed(connection.recv(65_536)).status == 408
    finally:
        for connection in half_open:
            connection.close()


@workers
def test_more_connections_than_allowed_get_a_503_that_says_when_to_come_back(
    tmp_path: Path, workers: str
) -> None:
    with running(tmp_path, "--workers", workers, max_connections="3") as server:
        wait_until_unconnected(server)
        held = [connect(server) for _ in range(3 * int(workers))]
        # The kernel may have given one of two workers more than its share, and that is told, too.
        told = [connection for connection in held if select.select([connection], [], [], 0.2)[0]]
        assert workers == "2" or told == []
        if not told:
            held.append(connect(server))
            told = select.select(held, [], [], 60)[0]
        answer = parsed(told[0].recv(65_536))
        assert (answer.status, answer.headers["retry-after"]) == (503, "5")
        for connection in held:
            connection.close()
        wait_until_there_is_room(server)


def wait_until_there_is_room(server: Server) -> None:
    """Until connections that have gone, or were told to go, are no longer counted."""
    until(
        lambda: httpx.get(f"{server.url}/healthz").status_code == 200,
        despite=httpx.TransportError,  # far too many get no answer at all
    )


@workers
def test_connections_that_use_up_the_descriptors_are_closed_like_any_others(
    tmp_path: Path, workers: str
) -> None:
    with running(
        tmp_path, "--workers", workers, under="prlimit --nofile=256:256", head_timeout_seconds="2"
    ) as server:
        assert "256 descriptors are enough for only 32 connections" in server.logged()
        with server.client() as client:
            client.post(f"{IMAGES}/a.png", files={"file": b"x"}).raise_for_status()
        silent = [connect(server) for _ in range(300 * int(workers))]
        for connection in silent:
            with contextlib.suppress(ConnectionResetError):
                while connection.recv(65_536):
                    pass  # until the server has closed it
        wait_until_there_is_room(server)
        with server.client() as client:
            assert client.get(f"{IMAGES}/a.png").content == b"x"
            again = client.post(f"{IMAGES}/b.png", files={"file": b"x"})
            assert again.status_code == 200
        for connection in silent:
            connection.close()


@pytest.mark.parametrize("fast_path", ["true", pytest.param("false", marks=pytest.mark.whole)])
def test_requests_sent_ahead_by_who_reads_no_answer_take_little_memory(
    tmp_path: Path, fast_path: str
) -> None:
    request = b"GET / HTTP/1.1\r\nHost:\r\n\r\n"
    with running(tmp_path, fast_path=fast_path) as server:
        with server.client() as client:
            load_what_is_loaded_late(client)
        before = resident_bytes(server)
        greedy = [connect(server) for _ in range(10)]
        for connection in greedy:
            connection.setblocking(False)
        unsent = [memoryview(request * 40_000) for _ in greedy]
        most = 0
        deadline = time.monotonic() + 8
        while any(unsent) and time.monotonic() < deadline:
            for number, connection in enumerate(greedy):
                with contextlib.suppress(BlockingIOError):
                    unsent[number] = unsent[number][connection.send(unsent[number]) :]
            most = max(most, resident_bytes(server))
            assert httpx.get(f"{server.url}/healthz").status_code == 200
        for connection in greedy:
            connection.close()
        assert most - before < 40 * MIB


def resident_bytes(server: Server) -> int:
    pages = Path(f"/proc/{server.pid}/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


@workers
@pytest.mark.parametrize("on_a_terminal", [False, pytest.param(True, marks=pytest.mark.whole)])
def test_a_stop_refuses_the_new_and_finishes_what_runs(
    tmp_path: Path, workers: str, on_a_terminal: bool
) -> None:
    image = bytes(2 * MIB)
    with running(tmp_path, "--workers", workers) as server:
        length = len(BEGIN) + len(image) + len(END)
        begun = upload_head(server, "last.bin", length) + BEGIN + image[:MIB]
        with connect(server) as connection:
            connection.sendall(begun)
            wait_for_staging(server)

            if on_a_terminal:  # Ctrl-C is told to all of its processes
                for pid in (server.process.pid, *server.children()):
                    os.kill(pid, signal.SIGINT)
            else:
                server.process.send_signal(signal.SIGTERM)
            wait_until_refused(server)
            connection.sendall(image[MIB:] + END)

            answer = parsed(connection.recv(65_536))
            assert (answer.status, answer.headers["connection"]) == (200, "close")
        assert server.process.wait(60) == 0
        assert (server.data / "compute/last.bin").read_bytes() == image


@workers
def test_a_second_signal_ends_at_once_and_leaves_nothing(tmp_path: Path, workers: str) -> None:
    with running(tmp_path, "--workers", workers, drain_seconds="600") as server:
        begun = upload_head(server, "never.bin", 10 * MIB) + BEGIN + bytes(2 * MIB)
        with connect(server) as connection:

            def has_ended() -> bool:
                with contextlib.suppress(OSError):
                    connection.sendall(bytes(1000))  # an upload that is too slow ends by itself
                return server.process.poll() is not None

            connection.sendall(begun)
            wait_for_staging(server)
            server.process.send_signal(signal.SIGTERM)
            wait_until_refused(server)

            server.process.send_signal(signal.SIGTERM)

            until(has_ended)
        assert not (server.data / "compute/never.bin").exists()
        assert list((server.data / ".stillroom/staging").iterdir()) == []
        assert "Traceback" not in server.logged()


def wait_for_staging(server: Server) -> None:
    """Until the server has begun to write the upload."""
    until(lambda: any("/staging/" in path for path in open_files(server)))


def wait_until_refused(server: Server) -> None:
    """Until the server accepts no connection any more."""
    with contextlib.suppress(OSError):
        until(lambda: connect(server).close())
