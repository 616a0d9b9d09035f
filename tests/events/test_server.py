"""The feed of real servers: several workers, disconnects, SIGTERM, and SIGKILL."""

import concurrent.futures
import re
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from hosting import Host, hosted
from running import IMAGES, Server, running
from services.seaweedfs import SeaweedFS, bucket_variables
from stillroom.client import ImageStore
from waiting import until, until_equal

pytestmark = pytest.mark.slow

FEED = "/api/v1/storage/events"
WORKERS = ("--workers", "2")
UVICORN_DRAIN = "UVICORN_TIMEOUT_GRACEFUL_SHUTDOWN"
KILLS = 4
SAVED = 60


def events_of(server: Server, **query: str) -> Iterator[dict[str, Any]]:
    with server.client() as client:
        page = client.get(FEED, params={"limit": "1000", **query}).raise_for_status().json()
        while page["events"]:
            yield from page["events"]
            page = client.get(FEED, params={**query, "after": page["next"]}).json()


def save(client: httpx.Client, path: str) -> str:
    """Save an image. Return its path, or an empty text if the save was not acknowledged."""
    try:
        answer = client.post(f"{IMAGES}/{path}", files={"file": b"bytes"})
    except httpx.TransportError:
        return ""
    return path if answer.status_code == 200 else ""


def in_flight(client: httpx.Client) -> int:
    metrics = client.get("/metrics").raise_for_status().text
    return int(float(re.findall(r"^stillroom_requests_in_flight (\S+)$", metrics, re.MULTILINE)[0]))


def found_paths(client: httpx.Client) -> set[str]:
    items = client.get("/api/v1/storage/search", params={"limit": "1000"}).json()["items"]
    return {item["path"] for item in items}


def saved_paths(server: Server) -> list[str]:
    return [event["data"]["path"] for event in events_of(server, types="image.saved")]


def test_one_reader_gets_the_events_of_all_workers(tmp_path: Path) -> None:
    paths = [f"a/{number}.png" for number in range(200)]
    with (
        running(tmp_path, *WORKERS) as server,
        server.client() as client,
        ThreadPoolExecutor(8) as pool,
        ImageStore(server.url, server.token()) as store,
    ):
        latest = client.get(FEED, params={"after": "latest"}).json()["next"]
        following = store.events(latest)
        assert {*pool.map(partial(save, client), paths)} == {*paths}
        found = [next(following) for _ in paths]

    assert sorted(event.data["path"] for event in found) == sorted(paths)
    assert {event.actor for event in found if not event.found} <= {"cli"}
    assert [event.id for event in found] == sorted(event.id for event in found)


@pytest.mark.parametrize(
    ("start", "has_read"),
    [
        (
            lambda folder: running(folder, *WORKERS, drain_seconds="30"),
            lambda client: in_flight(client) > 4,  # with the request for the metrics
        ),
        (
            lambda folder: hosted(folder, Host("uvicorn"), {UVICORN_DRAIN: "30"}),
            # One event loop reads what was sent before it has responded to three later requests.
            lambda client: all(client.get(FEED).is_success for _ in range(3)),
        ),
    ],
    ids=["stillroom", "embedded"],
)
def test_sigterm_ends_long_polls_at_once(
    tmp_path: Path,
    start: Callable[[Path], AbstractContextManager[Server]],
    has_read: Callable[[httpx.Client], bool],
) -> None:
    sent = threading.Semaphore(0)

    def trace(step: str, _: object) -> None:
        if step == "http11.send_request_body.complete":
            sent.release()

    with (
        start(tmp_path) as server,
        server.client() as client,
        ThreadPoolExecutor(4) as pool,
    ):
        assert client.get(FEED).status_code == 200  # the database is open

        def poll() -> httpx.Response:
            with server.client() as other:
                return other.get(FEED, params={"wait": "50"}, extensions={"trace": trace})

        waiting = [pool.submit(poll) for _ in range(4)]
        assert all(sent.acquire(timeout=300) for _ in waiting)
        until(lambda: has_read(client))
        server.process.terminate()
        # A poll that only ended after its 50 seconds would be cut off after 30.
        answers = [job.result() for job in waiting]

    assert [(answer.status_code, answer.json()["events"]) for answer in answers] == [(200, [])] * 4


def test_a_long_poll_ends_when_its_connection_is_reset(tmp_path: Path) -> None:
    with running(tmp_path) as server, server.client() as client:
        request = client.build_request("GET", FEED, params={"wait": "50"})
        fields = b"".join(b"%s: %s\r\n" % field for field in request.headers.raw)

        def is_noticed() -> bool:
            with socket.create_connection(("127.0.0.1", server.port)) as connection:
                connection.sendall(b"GET %s HTTP/1.1\r\n%s\r\n" % (request.url.raw_path, fields))
                until(lambda: in_flight(client) > 1)
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            return "the client disconnected" in server.logged()

        until(is_noticed)


@pytest.mark.parametrize(
    "database", ["sqlite", pytest.param("postgresql", marks=pytest.mark.whole)]
)
def test_a_disk_then_a_bucket_then_the_disk_are_each_searched_whole(
    tmp_path: Path,
    seaweed: SeaweedFS,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
    database: str,
) -> None:
    settings: dict[str, Any] = {"sweep_interval_seconds": "0.2"}
    if database == "postgresql":
        settings["database_url"] = request.getfixturevalue("database_url")
    on_disk, in_bucket = {f"a/{number}.png" for number in range(5)}, {"a/0.png", "b/9.png"}

    def finds(expected: set[str], new: set[str], warnings: int) -> None:
        """Start the server, save new images, and find exactly those that are expected."""
        log = tmp_path / "server.log"
        compared = log.read_text().count("startup: compared") if log.exists() else 0
        with running(tmp_path, *WORKERS, **settings) as server, server.client() as client:
            until_equal(lambda: found_paths(client), expected - new)
            until(lambda: server.logged().count("startup: compared") > compared)
            assert {save(client, path) for path in new} == new
            until_equal(lambda: found_paths(client), expected)
            assert server.logged().count("index of another storage") == warnings
            assert list(events_of(server, types="image.deleted")) == []
            assert {*saved_paths(server)} >= expected

    finds(on_disk, on_disk, 0)
    with monkeypatch.context() as patched:
        for name, value in bucket_variables(seaweed).items():
            patched.setenv(name, value)
        finds(in_bucket, in_bucket, 1)
        finds(in_bucket, set(), 1)
    finds(on_disk, set(), 2)
    finds(on_disk, set(), 2)
    seaweed.empty()


@pytest.mark.whole
def test_after_sigkill_every_acknowledged_save_is_in_the_feed(tmp_path: Path) -> None:
    acknowledged: list[str] = []
    for kill in range(KILLS):
        with (
            running(tmp_path, *WORKERS) as server,
            server.client() as client,
            ThreadPoolExecutor(8) as pool,
        ):
            paths = [f"{kill}/{number % 3}/{number}.png" for number in range(SAVED)]
            jobs = [pool.submit(save, client, path) for path in paths]
            concurrent.futures.wait(jobs[: 1 + 12 * kill])
            server.kill()
            acknowledged += [path for job in jobs if (path := job.result())]
    with running(tmp_path, *WORKERS) as server:
        until(lambda: {*acknowledged} <= {*saved_paths(server)})
        found = list(events_of(server, types="image.saved"))

    assert acknowledged
    assert len({event["id"] for event in found}) == len(found)
    assert {event["actor"] for event in found if not event["found"]} <= {"cli"}
