"""The background job that delivers to all endpoints of `webhooks.toml`."""

import asyncio
import contextlib
import functools
import threading
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from events.receiving import OK, Receiver, Response, configure, receiving
from stillroom.features.database.changes import Change
from stillroom.features.events import webhooks as module
from stillroom.features.events.database import webhook_rows
from stillroom.features.events.types import IMAGE_SAVED
from stillroom.features.events.webhook_file import WatchedWebhooks
from stillroom.features.events.webhook_opening import register_endpoints
from stillroom.features.events.webhooks import Webhooks
from stillroom.features.library.database import MediaDatabase
from stillroom.store.background import Stopping
from waiting import eventually

if TYPE_CHECKING:
    from stillroom.features.events.webhook_values import EndpointMetrics


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look at the file, and at leases, more often than a server does."""
    monkeypatch.setattr(module, "_CHECK_S", 0.05)


@pytest.fixture
def other() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


async def happen(database: MediaDatabase, *paths: str) -> None:
    engine = await database.engine()
    async with engine.writing() as connection:
        await engine.note_written(
            connection, *(Change(IMAGE_SAVED, path, data={"number": 0}) for path in paths)
        )


async def open_webhooks(database: MediaDatabase, file: Path) -> Webhooks:
    """Open the webhooks of a process, which adds the events that follow."""
    webhooks = Webhooks(WatchedWebhooks(file, is_named=False), database)
    register_endpoints(await database.engine(), webhooks=webhooks)
    return webhooks


async def waiting(database: MediaDatabase, name: str) -> int:
    """The number of failed deliveries to an endpoint, and of those that wait for them."""
    metrics = await (await webhook_rows(database)).metrics()
    return next(endpoint.waiting for endpoint in metrics if endpoint.state.name == name)


def _has(receiver: Receiver, path: str) -> bool:
    return path in receiver.paths


@contextlib.asynccontextmanager
async def running(webhooks: Webhooks) -> AsyncIterator[asyncio.Task[None]]:
    stopping = Stopping()
    task = asyncio.create_task(webhooks.run(stopping))
    try:
        yield task
    finally:
        stopping.set()
        await task


async def test_an_endpoint_gets_events_from_its_first_start_on(
    database: MediaDatabase, receiver: Receiver, tmp_path: Path
) -> None:
    await happen(database, "before.png")
    webhooks = await open_webhooks(database, configure(tmp_path, backend=receiver))
    await happen(database, "started.png")

    async with running(webhooks):
        await happen(database, "running.png")
        await eventually(lambda: len(receiver.accepted) == 2)

    assert sorted(receiver.paths) == ["running.png", "started.png"]


async def test_an_endpoint_gets_what_a_process_wrote_that_was_killed_before_it_delivered(
    database: MediaDatabase, receiver: Receiver, tmp_path: Path
) -> None:
    file = configure(tmp_path, backend=receiver)
    await happen(database, "before.png")
    await open_webhooks(database, file)
    await happen(database, "killed.png")
    assert [row.waiting for row in await (await webhook_rows(database)).metrics()] == [0]
    webhooks = await open_webhooks(database, file)

    async with running(webhooks):
        await happen(database, "restarted.png")
        await eventually(lambda: len(receiver.accepted) == 2)

    assert sorted(receiver.paths) == ["killed.png", "restarted.png"]


async def test_a_stopped_server_continues_where_it_was(
    database: MediaDatabase, receiver: Receiver, tmp_path: Path
) -> None:
    file = configure(tmp_path, backend=receiver)
    for path in ("a.png", "b.png"):
        webhooks = await open_webhooks(database, file)
        await happen(database, path)
        async with running(webhooks):
            await eventually(functools.partial(_has, receiver, path))

    assert receiver.paths == ["a.png", "b.png"]


async def test_a_changed_file_is_used_without_a_restart(
    database: MediaDatabase, receiver: Receiver, other: Receiver, tmp_path: Path
) -> None:
    webhooks = await open_webhooks(database, configure(tmp_path, backend=receiver))

    async with running(webhooks):
        await happen(database, "a.png")
        await eventually(lambda: receiver.paths == ["a.png"])
        configure(tmp_path, other=other)

        async def other_gets_events() -> bool:
            await happen(database, "b.png")
            return bool(other.accepted)

        await eventually(other_gets_events)
        seen = len(receiver.accepted)
        await happen(database, "c.png")
        await eventually(lambda: "c.png" in other.paths)

    assert len(receiver.accepted) == seen
    assert "c.png" not in receiver.paths


async def test_an_endpoint_that_is_removed_while_deliveries_are_due_continues_if_it_returns(
    database: MediaDatabase, receiver: Receiver, other: Receiver, tmp_path: Path
) -> None:
    receiver.respond = lambda event: Response(500 if event["data"]["path"] == "a.png" else 200)
    webhooks = await open_webhooks(database, configure(tmp_path, backend=receiver, other=other))
    rows = await webhook_rows(database)

    async def has_failed() -> bool:
        return await waiting(database, "backend") == 1

    async def is_released() -> bool:
        claim = uuid.uuid4()
        is_claimed = await rows.claim(receiver.endpoint(), claim)
        await rows.release(claim)
        return is_claimed

    async with running(webhooks):
        await happen(database, "a.png", "b.png")
        await eventually(has_failed)
        configure(tmp_path, other=other)
        await eventually(is_released)
        requests = len(receiver.requests)
        await happen(database, "a.png", "c.png")
        await eventually(lambda: sorted(other.paths) == ["a.png", "a.png", "b.png", "c.png"])
        assert len(receiver.requests) == requests
        assert await has_failed()

        receiver.respond = lambda _: OK
        configure(tmp_path, backend=receiver, other=other)
        await eventually(lambda: len(receiver.accepted) == 4)

    assert sorted(receiver.paths) == ["a.png", "a.png", "b.png", "c.png"]
    first, second = (event for event in receiver.accepted if event["data"]["path"] == "a.png")
    assert first["id"] < second["id"]
    assert len(other.accepted) == 4
    assert await (await database.rows()).dead_letters.page(after=None, limit=10) == []


async def test_a_receiver_that_hangs_delays_no_other(
    database: MediaDatabase, receiver: Receiver, other: Receiver, tmp_path: Path
) -> None:
    released = threading.Event()

    def hang(_: dict[str, Any]) -> Response:
        released.wait(300)
        return OK

    receiver.respond = hang
    webhooks = await open_webhooks(database, configure(tmp_path, slow=receiver, fast=other))

    async with running(webhooks):
        await happen(database, "a.png")
        await eventually(lambda: len(receiver.requests) == 1)
        await happen(database, "b.png")
        await eventually(lambda: sorted(other.paths) == ["a.png", "b.png"])
        released.set()
        await eventually(lambda: sorted(receiver.paths) == ["a.png", "b.png"])


async def test_two_servers_deliver_each_event_once(
    database: MediaDatabase, receiver: Receiver, tmp_path: Path
) -> None:
    file = configure(tmp_path, backend=receiver)
    paths = [f"{number}.png" for number in range(50)]

    async with (
        running(await open_webhooks(database, file)),
        running(await open_webhooks(database, file)),
    ):
        for path in paths:
            await happen(database, path)
        await eventually(lambda: len(receiver.accepted) >= 50)

    assert sorted(receiver.paths) == sorted(paths)


async def test_metrics_have_the_progress_of_each_endpoint(
    database: MediaDatabase, receiver: Receiver, other: Receiver, tmp_path: Path
) -> None:
    receiver.respond = lambda _: Response(500)
    webhooks = await open_webhooks(database, configure(tmp_path, bad=receiver, good=other))
    reported: dict[str, EndpointMetrics] = {}
    counted: list[tuple[str, str]] = []
    webhooks.report = lambda found: reported.update({each.state.name: each for each in found})
    webhooks.count = lambda *attempt: counted.append(attempt)

    async with running(webhooks):
        await happen(database, "a.png")
        await eventually(lambda: len(counted) == 2)
        await eventually(lambda: waiting(database, "bad"))
    _, report, *_ = webhooks.jobs()
    await report.run(Stopping())

    assert sorted(counted) == [("bad", "failed"), ("good", "delivered")]
    assert reported["bad"].waiting == 1
    assert reported["bad"].state.last_error == "the response has the status 500"
    assert reported["good"].waiting == 0
    assert reported["bad"].oldest is not None
    assert reported["good"].oldest is None


async def test_an_endpoint_that_is_removed_is_neither_late_nor_paused(
    database: MediaDatabase, receiver: Receiver, other: Receiver, tmp_path: Path
) -> None:
    receiver.respond = lambda _: Response(410)
    webhooks = await open_webhooks(database, configure(tmp_path, bad=receiver, good=other))
    reported: dict[str, EndpointMetrics] = {}
    webhooks.report = lambda found: reported.update({each.state.name: each for each in found})
    _, report, *_ = webhooks.jobs()

    async def is_gone() -> bool:
        await report.run(Stopping())
        return reported["bad"].state.gone_digest is not None

    async with running(webhooks):
        await happen(database, "a.png")
        await eventually(is_gone)
        await happen(database, "b.png")
        await eventually(lambda: len(other.accepted) == 2)
        assert reported["bad"].oldest is not None
        configure(tmp_path)
        await eventually(lambda: not webhooks.watched.content.endpoints)
        await report.run(Stopping())

    for endpoint in reported.values():
        assert (endpoint.oldest, endpoint.waiting, endpoint.state.gone_digest) == (None, 0, None)


async def test_metrics_are_reported_even_if_other_jobs_are_off(
    database: MediaDatabase, tmp_path: Path
) -> None:
    _, *reports = (await open_webhooks(database, tmp_path / "webhooks.toml")).jobs()

    for every_s, pause_s in ((0, 30), (0.5, 0.5), (30, 30), (600, 30)):
        assert {report.pause_s(every_s) for report in reports} - {None} == {pause_s}
