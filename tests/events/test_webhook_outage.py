"""Deliveries to one endpoint that is down, gone, replayed, or claimed by two processes."""

import asyncio
import contextlib
import threading
import uuid
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from events.delivering import Deliveries
from events.receiving import ERROR, OK, Receiver, Response
from stillroom.features.database import clock
from stillroom.features.events.types import IMAGE_SAVED
from stillroom.features.events.webhook_tables import endpoints
from stillroom.features.events.webhook_upkeep import lose_deliveries
from stillroom.features.events.webhook_values import PAUSING_FAILURES
from stillroom.features.library.database import MediaDatabase
from waiting import eventually

MINUTES = timedelta(minutes=2)
LONG_AGO = clock.now() - timedelta(days=30)


def unrepeated(numbers: list[int]) -> list[int]:
    """The numbers without those that follow themselves: a probe is delivered again in its turn."""
    return [number for number, last in zip(numbers, [-1, *numbers], strict=False) if number != last]


async def go_down(deliveries: Deliveries, receiver: Receiver) -> None:
    """Let all requests fail, until the endpoint is paused."""
    receiver.respond = lambda _: ERROR
    await deliveries.happen(*(f"{number % 30}.png" for number in range(90)))
    await deliveries.deliver()
    assert (await deliveries.state()).failures >= PAUSING_FAILURES


async def test_after_ten_failures_in_a_row_an_endpoint_is_paused(
    deliveries: Deliveries, receiver: Receiver
) -> None:
    await go_down(deliveries, receiver)

    assert PAUSING_FAILURES <= len(receiver.requests) < PAUSING_FAILURES + 8
    assert await deliveries.deliver() == []


async def test_a_receiver_that_was_down_for_a_day_misses_nothing(
    deliveries: Deliveries, receiver: Receiver
) -> None:
    await go_down(deliveries, receiver)
    attempts = [row.attempts for row in await deliveries.failures()]
    for _ in range(24):
        await deliveries.happen("during.png")
        await deliveries.later(timedelta(hours=1))

    # Attempts at a paused endpoint do not count, and add no rows.
    assert [row.attempts for row in await deliveries.failures()] == attempts
    receiver.respond = lambda _: OK
    await deliveries.later(MINUTES)

    for path in range(30):
        assert unrepeated(receiver.numbers(f"{path}.png")) == list(range(path, 90, 30))
    assert unrepeated(receiver.numbers("during.png")) == list(range(90, 114))
    assert (await deliveries.failures(), await deliveries.letters()) == ([], [])
    state = await deliveries.state()
    assert (state.wait_until, state.failures, state.lost) == (None, 0, 0)


async def test_events_that_always_fail_do_not_keep_an_endpoint_paused(
    deliveries: Deliveries, receiver: Receiver
) -> None:
    await go_down(deliveries, receiver)
    receiver.respond = lambda event: OK if event["data"]["number"] >= 80 else ERROR
    await deliveries.happen("new.png")

    for _ in range(60):
        await deliveries.later(MINUTES)

    assert set(receiver.numbers("new.png")) == {90}


async def test_many_events_of_one_path_do_not_keep_an_endpoint_paused(
    deliveries: Deliveries, receiver: Receiver
) -> None:
    receiver.respond = lambda event: OK if event["data"]["path"] == "new.png" else ERROR
    await deliveries.happen(*["a.png"] * 150, *(f"{number}.png" for number in range(10)))
    await deliveries.deliver()
    assert (await deliveries.state()).failures >= PAUSING_FAILURES
    await deliveries.happen("new.png")

    for _ in range(12):  # for each path once
        await deliveries.later(MINUTES)

    assert set(receiver.paths) == {"new.png"}


async def test_410_disables_an_endpoint_until_the_file_changes(
    deliveries: Deliveries, receiver: Receiver
) -> None:
    receiver.respond = lambda _: Response(410)
    await deliveries.happen("a.png", "a.png")
    assert await deliveries.deliver() == ["gone"]
    receiver.respond = lambda _: OK

    assert await deliveries.later(timedelta(days=1)) == []
    deliveries.digest = "2"
    assert await deliveries.deliver() == ["delivered"] * 2

    assert receiver.numbers("a.png") == [0, 1]


async def test_a_replay_delivers_the_events_after_a_position_again(
    deliveries: Deliveries, receiver: Receiver
) -> None:
    await deliveries.happen("a.png", "b.png", "a.png")
    await deliveries.deliver()
    first = (await deliveries.feed.read(0, 1)).events[0].position

    assert await deliveries.rows.replay("backend", after=first)
    assert not await deliveries.rows.replay("unknown", after=first)
    await deliveries.deliver()

    ids = [event["id"] for event in receiver.accepted]
    of_a = [event["id"] for event in receiver.accepted[:3] if event["data"]["path"] == "a.png"]
    assert len(ids) == 5
    assert set(ids[3:]) == {*ids[:3]} - {of_a[0]}


async def test_only_one_process_delivers_to_an_endpoint(
    deliveries: Deliveries, receiver: Receiver
) -> None:
    released = threading.Event()

    def hang(_: dict[str, Any]) -> Response:
        assert released.wait(300)
        return OK

    receiver.respond = hang
    await deliveries.happen("a.png", "b.png")
    first = asyncio.create_task(deliveries.deliver())
    await eventually(lambda: len(receiver.requests) == 2)

    second = asyncio.create_task(deliveries.deliver())
    await eventually(lambda: second.done() or len(receiver.requests) > 2)
    released.set()

    assert (await first, await second) == (["delivered"] * 2, [])
    assert len(receiver.requests) == 2


async def test_a_replay_during_a_batch_discards_its_results(
    deliveries: Deliveries, receiver: Receiver
) -> None:
    loop = asyncio.get_running_loop()

    def respond(_: dict[str, Any]) -> Response:
        if len(receiver.requests) == 4:
            replayed = deliveries.rows.replay("backend", after=0)
            asyncio.run_coroutine_threadsafe(replayed, loop).result(300)
        return OK

    receiver.respond = respond
    await deliveries.happen("a.png")
    await deliveries.deliver()
    await deliveries.happen(*["a.png"] * 3)
    await deliveries.deliver()
    await deliveries.deliver()

    assert receiver.numbers("a.png") == [0, 1, 2, 3] * 2
    assert receiver.most_at_once == 1
    assert await deliveries.failures() == []


async def test_a_process_renews_a_claim_that_it_could_not_release(deliveries: Deliveries) -> None:
    """As after an outage of the database."""
    ours, others = uuid.uuid4(), uuid.uuid4()

    for claim, is_ours in ((ours, True), (ours, True), (others, False)):
        assert await deliveries.rows.claim(deliveries.endpoint, claim) == is_ours


async def test_a_crash_between_delivery_and_its_record_repeats_the_event_with_its_id(
    database: MediaDatabase, deliveries: Deliveries, receiver: Receiver
) -> None:
    engine = await database.engine()
    loop = asyncio.get_running_loop()

    async def lose_claim() -> None:
        """What another process does when the lease has ended."""
        async with engine.writing() as connection:
            await connection.execute(sa.update(endpoints).values(claimed_by=None, lease_until=None))

    def respond(_: dict[str, Any]) -> Response:
        if len(receiver.requests) == 1:
            asyncio.run_coroutine_threadsafe(lose_claim(), loop).result(300)
        return OK

    receiver.respond = respond
    await deliveries.happen("a.png")
    await deliveries.deliver()
    await deliveries.deliver()

    first, second = receiver.accepted
    assert first == second


async def test_a_cancelled_batch_keeps_what_it_has_done(
    deliveries: Deliveries, receiver: Receiver
) -> None:
    released = threading.Event()

    def hang(event: dict[str, Any]) -> Response:
        if event["data"]["path"] == "slow.png":
            released.wait(300)
        return OK

    receiver.respond = hang
    await deliveries.happen("slow.png", "a.png", "slow.png", "b.png")
    task = asyncio.create_task(deliveries.deliver())
    await eventually(lambda: len(receiver.accepted) == 2)
    await eventually(lambda: receiver.at_once == 1)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    released.set()
    receiver.respond = lambda _: OK
    await eventually(lambda: receiver.at_once == 0)
    receiver.accepted.clear()

    await deliveries.deliver()

    assert receiver.numbers("slow.png") == [0, 2]
    assert (await deliveries.failures(), await deliveries.deliver()) == ([], [])


async def test_what_outlives_the_retention_is_counted_as_lost(
    deliveries: Deliveries, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    await go_down(deliveries, receiver)
    await deliveries.happen("unread.png")
    receiver.respond = lambda _: OK

    assert await deliveries.feed.drop(timedelta(0)) == 91

    assert (await deliveries.state()).lost == 91
    assert "91 events are lost: the webhook 'backend' did not accept them within" in caplog.text
    assert (await deliveries.failures(), await deliveries.letters()) == ([], [])
    await deliveries.happen("later.png")
    await deliveries.later(MINUTES)
    assert set(receiver.paths) == {"later.png"}


async def test_events_that_were_delivered_are_not_lost(
    deliveries: Deliveries, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    await deliveries.happen("a.png")
    await deliveries.deliver()
    await deliveries.happen("b.png", "c.png")

    assert await deliveries.feed.drop(timedelta(0)) == 3

    assert (await deliveries.state()).lost == 2
    assert "2 events are lost" in caplog.text
    await deliveries.happen("d.png")
    await deliveries.deliver()
    assert receiver.paths == ["a.png", "d.png"]


async def test_lost_events_are_counted_by_the_filter(
    database: MediaDatabase, receiver: Receiver
) -> None:
    endpoint = receiver.endpoint(types=(IMAGE_SAVED,), prefix="a_/")
    deliveries = await Deliveries(database, endpoint).open()
    await deliveries.deliver()  # stores the filter
    await deliveries.happen("a_/1.png", "ab/2.png", "a_/3.png")
    last = (await deliveries.feed.state()).last_position

    async with (await database.engine()).writing() as connection:
        for lost in ({"backend": 1}, {}):
            assert await lose_deliveries(connection, through=last - 1, before=LONG_AGO) == lost

    assert (await deliveries.state()).lost == 1
    await deliveries.deliver()
    assert receiver.paths == ["a_/3.png"]


async def test_an_endpoint_that_was_removed_loses_nothing_and_continues_if_it_returns(
    database: MediaDatabase, deliveries: Deliveries, receiver: Receiver
) -> None:
    await go_down(deliveries, receiver)
    receiver.respond = lambda _: OK
    async with (await database.engine()).writing() as connection:
        unseen = sa.update(endpoints).values(seen_at=LONG_AGO)
        await connection.execute(unseen)

    assert await deliveries.feed.drop(timedelta(0)) == 90
    await deliveries.happen("later.png")
    await deliveries.later(MINUTES)

    assert await deliveries.failures() == []
    assert (await deliveries.state()).lost == 0
    assert set(receiver.paths) == {"later.png"}


async def test_a_clock_that_is_set_back_does_not_prolong_a_pause(
    deliveries: Deliveries, receiver: Receiver
) -> None:
    deliveries.moved = timedelta(days=365)
    receiver.respond = lambda _: Response(503, {"retry-after": "3600"})
    await deliveries.happen("a.png")
    await deliveries.deliver()
    deliveries.moved = timedelta(0)
    receiver.respond = lambda _: OK

    await deliveries.deliver()

    assert receiver.paths == ["a.png"]
