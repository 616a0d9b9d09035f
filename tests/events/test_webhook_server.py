"""Webhooks of real servers on bad days: SIGKILL, a slow receiver, and a database that is away."""

import contextlib
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import httpx
import pytest

from crash.webhook_kills import end_leases
from events.receiving import OK, Receiver, Response, configure
from running import IMAGES, Server, running
from services.seaweedfs import SeaweedFS, bucket_variables
from stillroom.client import ImageStore
from stillroom.features.database.config import SqliteConfig
from waiting import until

if TYPE_CHECKING:
    from services.postgres import PostgreSQL

pytestmark = pytest.mark.slow

FEED: Final = "/api/v1/storage/events"
SECRET: Final = "a secret of 32 bytes for tests only"
PATHS: Final = [f"{number}.png" for number in range(8)]


def save(client: httpx.Client, path: str, data: bytes = b"bytes") -> None:
    client.post(f"{IMAGES}/{path}", files={"file": data}).raise_for_status()


def ids(events: list[dict[str, Any]], path: str) -> list[str]:
    """The ids of the events with a path, each once, in the order of their first arrival."""
    return list(dict.fromkeys(event["id"] for event in events if event["data"]["path"] == path))


def newest(receiver: Receiver, path: str) -> str | None:
    """The SHA-256 in the newest event with a path."""
    events = [event for event in receiver.accepted if event["data"]["path"] == path]
    return events[-1]["data"]["sha256"] if events else None


def feed(server: Server) -> list[dict[str, Any]]:
    with ImageStore(server.url, server.token()) as store:
        return [
            {"id": event.id, "type": event.type, "data": event.data}
            for event in store.events(follow=False)
        ]


def test_a_server_that_is_killed_before_or_after_a_delivery_delivers_at_the_next_start(
    tmp_path: Path, receiver: Receiver
) -> None:
    """One event is committed and not delivered; another is delivered, and this is not recorded."""
    file, committed = configure(tmp_path, backend=receiver), list[dict[str, Any]]()
    with running(tmp_path, webhooks_file=str(file)) as server, server.client() as client:
        killed = threading.Event()

        def kill(event: dict[str, Any]) -> Response:
            if event["data"]["path"] == "delivered.png" and not committed:
                save(client, "committed.png")
                until(lambda: "committed.png" in [one["data"]["path"] for one in feed(server)])
                committed.extend(feed(server))
                server.kill()
                killed.set()
            return OK

        receiver.respond = kill
        save(client, "before.png")
        until(lambda: receiver.paths == ["before.png"])
        save(client, "delivered.png")
        assert killed.wait(300)
        until(lambda: "delivered.png" in receiver.paths)

    end_leases(SqliteConfig(server.data / ".stillroom" / "library.db"))
    with running(tmp_path, webhooks_file=str(file)):
        until(lambda: receiver.paths.count("delivered.png") >= 2)
        until(lambda: "committed.png" in receiver.paths)

    for event in committed:
        assert ids(receiver.accepted, event["data"]["path"]) == [event["id"]]


def test_a_save_does_not_wait_for_a_receiver_that_hangs(tmp_path: Path, receiver: Receiver) -> None:
    released = threading.Event()

    def hang(_: dict[str, Any]) -> Response:
        released.wait(300)
        return OK

    receiver.respond = hang
    file = configure(tmp_path, backend=receiver)
    with running(tmp_path, webhooks_file=str(file)) as server, server.client() as client:
        save(client, "first.png")
        until(lambda: receiver.requests)
        for number in range(20):
            save(client, f"{number}.png")
        until(lambda: len(feed(server)) == 21)
        accepted = len(receiver.accepted)
        released.set()

    assert accepted == 0


def test_while_the_database_is_away_saves_go_on_and_webhooks_follow(
    tmp_path: Path, receiver: Receiver, postgres: "PostgreSQL", database_url: str
) -> None:
    away = threading.Event()

    def respond(event: dict[str, Any]) -> Response:
        """Accept one event after the database has gone, so that this cannot be recorded."""
        if event["data"]["path"] == "unrecorded.png":
            away.wait(300)
        return OK

    receiver.respond = respond
    file = configure(tmp_path, backend=receiver)
    starting = running(tmp_path, webhooks_file=str(file), database_url=database_url)
    with starting as server, server.client() as client:
        save(client, "before.png")
        until(lambda: receiver.paths == ["before.png"])
        save(client, "unrecorded.png")
        until(lambda: len(receiver.requests) == 2)
        with postgres.away():
            away.set()
            save(client, "during.png")
            until(lambda: client.get(FEED).status_code == 503)
            save(client, "later.png")
        save(client, "after.png")
        until(lambda: {"during.png", "later.png", "after.png"} <= {*receiver.paths})
        until(lambda: receiver.paths.count("unrecorded.png") >= 1)
        found = feed(server)

    assert len(found) == 5
    for event in found:
        assert ids(receiver.accepted, event["data"]["path"]) == [event["id"]]


@pytest.fixture
def bucket(seaweed: SeaweedFS, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name, value in bucket_variables(seaweed).items():
        monkeypatch.setenv(name, value)
    yield
    seaweed.empty()


@pytest.mark.whole
@pytest.mark.usefixtures("bucket")
def test_two_servers_deliver_all_events_and_keep_the_order_of_each_path(
    tmp_path: Path, receiver: Receiver, database_url: str
) -> None:
    """Both save to the same paths in turn, and the first one is stopped in between."""
    file = configure(tmp_path, backend=receiver)
    with contextlib.ExitStack() as stack:
        servers = []
        for name in ("first", "second"):
            (tmp_path / name).mkdir()
            starting = running(
                tmp_path / name,
                webhooks_file=str(file),
                database_url=database_url,
                jwt_secret=SECRET,
            )
            servers.append(stack.enter_context(starting))
        clients = [stack.enter_context(server.client()) for server in servers]

        def save_in_turn(path: str) -> None:
            for number in range(6):
                save(clients[number % 2], path, f"{path} {number}".encode())

        def save_again(path: str) -> None:
            for number in range(6, 10):
                save(clients[1], path, f"{path} {number}".encode())

        with ThreadPoolExecutor(len(PATHS)) as pool:
            list(pool.map(save_in_turn, PATHS))
            again = pool.map(save_again, PATHS)
            servers[0].stop()
            list(again)
        last = {path: sha256(f"{path} 9".encode()).hexdigest() for path in PATHS}
        until(lambda: {path: newest(receiver, path) for path in PATHS} == last)
        found = feed(servers[1])

    for path in PATHS:
        assert ids(receiver.accepted, path) == ids(found, path)
        assert newest(receiver, path) == last[path]
