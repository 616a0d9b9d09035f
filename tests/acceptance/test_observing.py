"""What operators see: numbers, log lines and ids of requests, over all workers and both paths."""

import contextlib
import json
import os
import re
import signal
import socket
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from acceptance.conftest import Servers, Way
from running import IMAGES, Server, exchange, parsed, running
from waiting import until

PNG = b"\x89PNG\r\n\x1a\n" + bytes(1000)
LARGE = bytes(4 * 1024**2)
LIVE = "/healthz"
FULL = str(2**62)  # as `min_free_bytes`, more than any disk has

Numbers = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def numbers(server: Server) -> Numbers:
    text = httpx.get(f"{server.url}/metrics").text
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def number(server: Server, name: str, **labels: str) -> float:
    return numbers(server).get((name, tuple(sorted(labels.items()))), 0)


@pytest.fixture
def observed(started_as: Way, servers: Servers) -> Server:
    return servers.started(started_as, access_log="true", log_format="json")


def lines(server: Server, **wanted: object) -> list[dict[str, Any]]:
    """The log's lines that say all of this; each is one JSON object."""
    *whole, _ = server.logged().split("\n")  # the last one may be half written
    found = [json.loads(line) for line in whole]
    return [line for line in found if wanted.items() <= line.items()]


# Numbers


@pytest.mark.both_paths(whole=True)
def test_bytes_are_counted_as_they_come_and_go(observed: Server) -> None:
    def grown() -> tuple[float, ...]:
        now = numbers(observed)
        return tuple(
            now.get((f"stillroom_{name}_bytes_total", (("operation", operation),)), 0)
            - before.get((f"stillroom_{name}_bytes_total", (("operation", operation),)), 0)
            for name, operation in (
                ("received", "save_image"),
                ("sent", "get_image"),
                ("sent", "check_image_exists"),
                ("sent", "list_images"),
            )
        )

    with observed.client() as client:
        before = numbers(observed)
        saved = client.post(f"{IMAGES}/bytes/a.bin", files={"file": LARGE})
        body = int(saved.request.headers["content-length"])
        for path in ("a.bin", "a.bin", "none.bin"):
            answers = [client.get(f"{IMAGES}/bytes/{path}") for _ in range(3)]
        client.head(f"{IMAGES}/bytes/a.bin")
        listed = client.get(IMAGES, params={"prefix": "bytes/"})

    missing = len(answers[0].content)
    expected = (body, 6 * len(LARGE) + 3 * missing, 0, len(listed.content))
    until(lambda: grown() == expected)


@pytest.mark.both_paths(whole=True)
def test_of_a_download_that_breaks_off_no_more_is_counted_than_was_sent(observed: Server) -> None:
    size = 64 * 1024**2  # more than all buffers on the way
    with (observed.data / "compute/broken.bin").open("wb") as opened:
        opened.truncate(size)
    head = f"GET {IMAGES}/broken.bin HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer "

    def counted() -> float:
        return number(observed, "stillroom_sent_bytes_total", operation="get_image")

    for _ in range(5):  # it goes before the buffers on the way are full, or when they are
        before = counted()
        with socket.create_connection(("127.0.0.1", observed.port), timeout=60) as connection:
            connection.sendall(f"{head}{observed.token()}\r\n\r\n".encode())
            assert connection.recv(1000)
        until(lambda: counted() > before)  # noqa: B023  (called at once)
        assert counted() - before < size


@pytest.mark.both_paths(whole=True)
def test_what_is_under_way_is_shown_while_it_is(observed: Server) -> None:
    token = observed.token().encode()
    head = b"POST " + IMAGES.encode() + b"/slow.bin HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n"
    head += b"Content-Type: multipart/form-data; boundary=x\r\nAuthorization: Bearer " + token
    with observed.client() as client:
        client.get(f"{IMAGES}/none.png")  # the token is known from here on
        with socket.create_connection(("127.0.0.1", observed.port)) as slow:
            slow.sendall(head + b"\r\n\r\n--x\r\n")
            # The scrape itself is under way, too.
            until(lambda: number(observed, "stillroom_requests_in_flight") == 2)
            until(lambda: number(observed, "stillroom_connections") >= 2)
        until(lambda: number(observed, "stillroom_requests_in_flight") == 1)


def test_syncs_build_room_and_state_of_the_disk_are_shown(observed: Server) -> None:
    with observed.client() as client:
        client.post(f"{IMAGES}/sync/a.png", files={"file": PNG}).raise_for_status()
    found = numbers(observed)

    for call in ("fsync_file", "fsync_folder"):
        assert found["stillroom_storage_calls_total", (("call", call), ("outcome", "ok"))] >= 1
        assert found["stillroom_storage_call_seconds_sum", (("call", call),)] > 0
    room = os.statvfs(observed.data)
    free = found["stillroom_data_free_bytes", ()]
    assert abs(free - room.f_bavail * room.f_frsize) < 2 * 1024**3  # others use this disk as well
    assert found["stillroom_read_only", ()] == 0
    assert found["stillroom_cpu_seconds_total", ()] > 0
    assert found["stillroom_resident_memory_bytes", ()] > 10 * 1024**2
    builds = [dict(labels) for name, labels in found if name == "stillroom_build_info"]
    assert [(build["storage"], build["database"]) for build in builds] == [("disk", "sqlite")]


def test_the_numbers_are_whole_over_workers_and_the_dead_are_no_part_of_now(
    tmp_path: Path,
) -> None:
    with running(tmp_path, "--workers", "2") as server:
        until(lambda: number(server, "stillroom_workers") == 2)
        for _ in range(20):
            with server.client() as client:
                client.get(f"{IMAGES}/none.png")
        read = ("stillroom_requests_total", {"operation": "get_image", "status": "404"})
        until(lambda: number(server, read[0], **read[1]) == 20)

        # Whoever dies had connections open, and perhaps a request under way.
        with contextlib.ExitStack() as idle:
            for _ in range(40):
                idle.enter_context(socket.create_connection(("127.0.0.1", server.port)))
            until(lambda: number(server, "stillroom_connections") >= 40)
            for worker in server.children():
                os.kill(worker, signal.SIGKILL)
        until(lambda: answers(server) and number(server, "stillroom_workers") == 2)
        until(lambda: number(server, "stillroom_connections") < 10)
        assert number(server, read[0], **read[1]) == 20, "what was done stays done"


def answers(server: Server) -> bool:
    with contextlib.suppress(httpx.TransportError):
        return httpx.get(f"{server.url}/healthz").status_code == 200
    return False


def test_the_reference_names_every_number_that_a_server_has(observed: Server) -> None:
    page = (Path(__file__).parents[2] / "docs/reference/metrics.md").read_text()
    rows = dict(re.findall(r"^\| `(stillroom_\w+)` \| (\w+) \|", page, re.MULTILINE))
    text = httpx.get(f"{observed.url}/metrics").text
    served = dict(re.findall(r"^# TYPE (stillroom_(?!\w+_created)\w+) (\w+)$", text, re.MULTILINE))
    assert rows == served


# Ids of requests


@pytest.mark.both_paths(whole=True)
def test_a_sane_id_comes_back_with_every_answer(observed: Server) -> None:
    with observed.client() as client:
        client.post(f"{IMAGES}/id/a.png", files={"file": PNG}).raise_for_status()
        for round_ in range(3):  # the heads are known from the second one on
            for method, path in (("GET", "id/a.png"), ("HEAD", "id/a.png"), ("GET", "id/no.png")):
                named = f"{method}-{round_}:{path}/0.=+"
                answer = client.request(method, f"{IMAGES}/{path}", headers={"X-Request-Id": named})
                assert answer.headers.get_list("x-request-id") == [named]
                until(lambda named=named: len(lines(observed, request_id=named)) == 1)  # type: ignore[misc]  # a default binds it
        for method, path in (("POST", "id/b.png"), ("POST", "id/..%2fb.png")):
            answer = client.request(
                method,
                f"{IMAGES}/{path}",
                files={"file": PNG},
                headers={"X-Request-Id": f"{path[:4]}{answer.status_code}"},
            )
            assert answer.headers["x-request-id"] == answer.request.headers["x-request-id"]


@pytest.mark.both_paths(whole=True)
def test_an_image_read_under_many_ids_is_the_same_and_stays_on_its_path(observed: Server) -> None:
    with observed.client() as client:
        client.post(f"{IMAGES}/ids.png", files={"file": PNG}).raise_for_status()
        for each in range(50):
            answer = client.get(f"{IMAGES}/ids.png", headers={"X-Request-Id": f"n{each}"})
            assert (answer.content, answer.headers["x-request-id"]) == (PNG, f"n{each}")


@pytest.mark.both_paths(whole=True)
@pytest.mark.parametrize(
    "field",
    [
        b"X-Request-Id: two words",
        b'X-Request-Id: "quoted"',
        b"X-Request-Id: a;b",
        b"X-Request-Id: %0d%0aSet-Cookie",
        b"X-Request-Id: \xe9",
        b"X-Request-Id: ",
        b"X-Request-Id: " + b"a" * 129,
        b"X-Request-Id: a\r\nX-Request-Id: b",
    ],
)
def test_any_other_id_is_replaced(observed: Server, field: bytes) -> None:
    request = b"GET " + IMAGES.encode() + b"/none.png HTTP/1.1\r\nHost: a\r\n" + field
    request += b"\r\nAuthorization: Bearer " + observed.token().encode() + b"\r\n"
    for _ in range(2):
        answer = parsed(exchange(observed.port, request + b"Connection: close\r\n\r\n"))
        assert answer.status == 404
        assert re.fullmatch("[0-9a-f]{16}", answer.headers["x-request-id"])


@pytest.mark.both_paths(whole=True)
def test_what_follows_a_head_with_an_id_is_another_request(observed: Server) -> None:
    with observed.client() as client:
        client.get(f"{IMAGES}/none.png")
    token = b"\r\nAuthorization: Bearer " + observed.token().encode()
    plain = b"GET " + IMAGES.encode() + b"/none.png HTTP/1.1\r\nHost: a" + token
    known = plain + b"\r\n\r\n"
    named = plain + b"\r\nX-Request-Id: one\r\n\r\n"
    last = plain + b"\r\nX-Request-Id: two\r\nConnection: close\r\n\r\n"
    for first in (known, named):
        answered = exchange(observed.port, first + last)
        assert answered.count(b"HTTP/1.1 404") == 2
        assert answered.count(b"x-request-id: two") == 1
    smuggled = known + b"X-Request-Id: three\r\n\r\n"
    answered = exchange(observed.port, smuggled)
    assert answered.count(b"HTTP/1.1 404") == 1
    assert b"three" not in answered


def test_every_refusal_has_an_id(observed: Server) -> None:
    for request, status in (
        (b"GET " + IMAGES.encode() + b" HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", 401),
        (b"GET /nowhere HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", 404),
        (b"PUT " + IMAGES.encode() + b" HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", 405),
        (b"no HTTP at all\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
    ):
        answer = parsed(exchange(observed.port, request))
        named = answer.headers["x-request-id"]
        assert answer.status == status
        until(lambda named=named: bool(lines(observed, request_id=named)))  # type: ignore[misc]  # a default binds it


# Lines


@pytest.mark.both_paths(whole=True)
def test_a_line_of_access_says_who_what_how_much_and_how_long(observed: Server) -> None:
    with observed.client() as client:
        client.post(f"{IMAGES}/line/a.bin", files={"file": LARGE}).raise_for_status()
        for each in range(3):
            client.get(f"{IMAGES}/line/a.bin", headers={"X-Request-Id": f"line{each}"})
        until(lambda: bool(lines(observed, request_id="line2")))
        (line,) = lines(observed, request_id="line2")

        client.get(f"{IMAGES}/a%0ab%1b%5b31m?signature=s3cr3t", headers={"X-Request-Id": "odd"})
        until(lambda: bool(lines(observed, request_id="odd")))
        (odd,) = lines(observed, request_id="odd")

    seconds = line.pop("seconds")
    assert 0 < seconds < 20
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line.pop("time"))
    assert line.pop("event").startswith(f"127.0.0.1 GET {IMAGES}/line/a.bin 200 ")
    assert line.pop("process") > 0
    assert line == {
        "level": "info",
        "logger": "stillroom.access",
        "client": "127.0.0.1",
        "method": "GET",
        "path": f"{IMAGES}/line/a.bin",
        "status": 200,
        "operation": "get_image",
        "received_bytes": 0,
        "sent_bytes": len(LARGE),
        "request_id": "line2",
    }
    assert (odd["path"], odd["status"]) == (f"{IMAGES}/a%0ab%1b%5b31m", 422)
    assert "s3cr3t" not in observed.logged()


@pytest.mark.parametrize("fast_path", ["true", pytest.param("false", marks=pytest.mark.whole)])
def test_a_failure_is_found_by_the_id_that_its_answer_names(tmp_path: Path, fast_path: str) -> None:
    with (
        running(
            tmp_path, ready=LIVE, log_format="json", fast_path=fast_path, min_free_bytes=FULL
        ) as server,
        server.client() as client,
    ):
        (server.data / "away").mkdir()
        (server.data / "away/b.png").write_bytes(PNG)
        (server.data / "compute/a").symlink_to(server.data / "away")
        refused = client.get(f"{IMAGES}/a/b.png", headers={"X-Request-Id": "link"})
        assert refused.status_code == 404

        failed = client.post(
            f"{IMAGES}/c.png", files={"file": PNG}, headers={"X-Request-Id": "mine"}
        )

        until(lambda: bool(lines(server, level="error")))
        (error,) = lines(server, level="error")
    assert failed.status_code == 507
    assert failed.headers["x-request-id"] == "mine"
    assert failed.json()["detail"].endswith("(request mine)")
    assert (error["request_id"], error["operation"]) == ("mine", "save_image")
    assert (error["status"], error["code"]) == (failed.status_code, failed.json()["code"])


def test_a_traceback_stands_inside_of_its_object() -> None:
    import logging

    from stillroom.store.telemetry.logging import ConsoleFormatter, JsonFormatter

    def boom() -> None:
        raise ValueError("\x1b[31m\n2026-01-01T00:00:00Z INFO forged")

    try:
        boom()
    except ValueError:
        import sys

        record = logging.LogRecord("x", 40, "", 0, "it broke", (), sys.exc_info())
    found = json.loads(JsonFormatter().format(record))
    assert "ValueError" in found["traceback"]
    console = ConsoleFormatter().format(record).split("\n")
    assert "\x1b" not in "".join(console)
    assert all(line.startswith("    ") for line in console[1:])


# Probes


def test_readiness_names_each_part_its_state_and_the_reason(tmp_path: Path) -> None:
    with running(tmp_path, ready=LIVE, min_free_bytes=FULL) as server:
        until(lambda: "database" in httpx.get(f"{server.url}/readyz").json()["parts"])
        ready = httpx.get(f"{server.url}/readyz")

    assert (ready.status_code, ready.headers["retry-after"]) == (503, "5")
    found = ready.json()
    assert found["status"] == "not ready"
    assert found["parts"]["storage"]["state"] == found["code"] == "storage_full"
    assert found["parts"]["storage"]["reason"] == found["detail"]
    assert found["parts"]["database"] == {"state": "ok"}
