"""Deliveries to one endpoint: their order, their retries, and dead letters."""

from collections import Counter
from datetime import timedelta
from typing import Any

import pytest

from events.delivering import Deliveries
from events.receiving import ERROR, OK, Receiver, Response
from stillroom.features.events.types import IMAGE_DELETED, IMAGE_SAVED
from stillroom.features.events.webhook_values import (
    MAX_ATTEMPTS,
    RETRY_AFTER,
    probe_pause,
    retry_pause,
)
from stillroom.features.library.database import MediaDatabase

HOUR = timedelta(hours=1)


def fail_at(receiver: Receiver, path: str) -> None:
    receiver.respond = lambda event: ERROR if event["data"]["path"] == path else OK


async def test_every_event_is_delivered_once_and_in_order_per_path(
    deliveries: Deliveries, receiver: Receiver
) -> None:
    await deliveries.happen(*(f"{number % 7}.png" for number in range(250)))

    assert await deliveries.deliver() == ["delivered"] * 250

    for path in range(7):
        assert receiver.numbers(f"{path}.png") == list(range(path, 250, 7))
    assert receiver.most_at_once <= 8
    assert (await deliveries.failures(), await deliveries.deliver()) == ([], [])


async def test_one_path_never_has_two_requests_at_once(
    deliveries: Deliveries, receiver: Receiver
) -> None:
    await deliveries.happen(*["one.png"] * 20)

    await deliveries.deliver()

    assert receiver.most_at_once == 1
    assert receiver.numbers("one.png") == list(range(20))


async def test_types_and_prefix_choose_the_events(
    database: MediaDatabase, receiver: Receiver
) -> None:
    endpoint = receiver.endpoint(types=(IMAGE_SAVED,), prefix="a/")
    deliveries = await Deliveries(database, endpoint).open()
    await deliveries.happen("a/1.png", "b/2.png")
    await deliveries.happen("a/3.png", type=IMAGE_DELETED)
    await deliveries.happen("a/4.png")

    await deliveries.deliver()

    assert sorted(receiver.paths) == ["a/1.png", "a/4.png"]


async def test_after_a_failure_later_events_of_its_path_wait_and_others_do_not(
    deliveries: Deliveries, receiver: Receiver
) -> None:
    fail_at(receiver, "a.png")
    await deliveries.happen("a.png", "b.png", "a.png", "b.png")

    await deliveries.deliver()
    await deliveries.happen("a.png", "b.png")
    await deliveries.deliver()

    assert receiver.paths == ["b.png"] * 3
    assert [row.attempts for row in await deliveries.failures()] == [1, 0, 0]
    receiver.respond = lambda _: OK
    assert await deliveries.later(timedelta(seconds=6)) == ["delivered"] * 3
    assert receiver.numbers("a.png") == [0, 2, 4]
    assert await deliveries.failures() == []


async def test_retries_follow_the_schedule(deliveries: Deliveries, receiver: Receiver) -> None:
    fail_at(receiver, "a.png")
    await deliveries.happen("a.png")
    assert await deliveries.deliver() == ["failed"]

    assert await deliveries.later(RETRY_AFTER[0] * 1.15) == ["failed"]
    for pause in RETRY_AFTER[1:-1]:
        await deliveries.happen("other.png")
        assert await deliveries.later(pause / 2) == ["delivered"]
        assert await deliveries.later(pause * 0.65) == ["failed"]

    (row,) = await deliveries.failures()
    assert row.attempts == MAX_ATTEMPTS - 1
    assert row.last_error == "the response has the status 500"


async def test_an_event_that_fails_while_others_succeed_becomes_a_dead_letter(
    deliveries: Deliveries, receiver: Receiver
) -> None:
    fail_at(receiver, "a.png")
    await deliveries.happen("a.png", "a.png")
    await deliveries.deliver()
    for _ in range(MAX_ATTEMPTS - 1):
        await deliveries.happen("other.png")
        await deliveries.later(30 * HOUR)

    (letter,) = await deliveries.letters()

    assert (letter.kind, letter.attempts) == ("webhook", MAX_ATTEMPTS)
    assert letter.payload["endpoint"] == "backend"
    assert letter.payload["event"]["data"]["number"] == 0
    # The next event of the path is no longer held up by the first one.
    receiver.respond = lambda _: OK
    await deliveries.later(HOUR)
    assert receiver.numbers("a.png") == [1]


async def test_a_dead_letter_that_is_retried_is_delivered_with_its_id(
    database: MediaDatabase, deliveries: Deliveries, receiver: Receiver
) -> None:
    await deliveries.happen("a.png")
    receiver.respond = lambda _: ERROR
    await deliveries.deliver()
    first = receiver.requests[0]["id"]
    fail_at(receiver, "a.png")
    for _ in range(MAX_ATTEMPTS):
        await deliveries.happen("other.png")
        await deliveries.later(30 * HOUR)
    rows = (await database.rows()).dead_letters
    (letter,) = await rows.page(after=None, limit=10)
    receiver.respond = lambda _: OK

    await rows.retry(letter.id)
    await deliveries.deliver()

    assert receiver.accepted[-1]["id"] == first
    assert await rows.page(after=None, limit=10) == []


async def test_a_dead_letter_that_is_retried_is_ordered_before_a_later_failure_of_its_path(
    database: MediaDatabase, deliveries: Deliveries, receiver: Receiver
) -> None:
    fail_at(receiver, "a.png")
    await deliveries.happen("a.png", "a.png")
    await deliveries.deliver()
    for _ in range(MAX_ATTEMPTS - 1):
        await deliveries.happen("other.png")
        await deliveries.later(30 * HOUR)
    (letter,) = await deliveries.letters()
    assert [row.attempts for row in await deliveries.failures()] == [1]

    await (await database.rows()).dead_letters.retry(letter.id)
    assert await deliveries.later(HOUR) == ["failed"]

    receiver.respond = lambda _: OK
    assert await deliveries.later(HOUR) == ["delivered"] * 2
    assert receiver.numbers("a.png") == [0, 1]


@pytest.mark.whole
async def test_a_path_that_always_fails_does_not_hold_up_others_however_many_events_wait(
    deliveries: Deliveries, receiver: Receiver
) -> None:
    fail_at(receiver, "a.png")
    await deliveries.happen(*["a.png"] * 10_100)
    await deliveries.deliver()

    for _ in range(MAX_ATTEMPTS - 1):
        await deliveries.happen("other.png")
        await deliveries.later(30 * HOUR)

    assert receiver.paths == ["other.png"] * (MAX_ATTEMPTS - 1)
    assert len(await deliveries.letters()) == 1
    assert len(await deliveries.failures()) == 10_099


async def test_a_path_that_recovers_does_not_hold_up_others_while_its_events_are_delivered(
    deliveries: Deliveries, receiver: Receiver
) -> None:
    fail_at(receiver, "a.png")
    await deliveries.happen(*["a.png"] * 300)
    await deliveries.deliver()
    receiver.respond = lambda _: OK
    await deliveries.happen("other.png")

    await deliveries.later(HOUR)

    assert "other.png" in receiver.paths[:150]
    assert receiver.numbers("a.png") == [*range(300)]


async def test_an_event_that_fails_alone_is_no_dead_letter(
    deliveries: Deliveries, receiver: Receiver
) -> None:
    receiver.respond = lambda _: ERROR
    await deliveries.happen("a.png")
    await deliveries.deliver()

    for _ in range(2 * MAX_ATTEMPTS):
        await deliveries.later(30 * HOUR)

    assert await deliveries.letters() == []
    receiver.respond = lambda _: OK
    await deliveries.later(30 * HOUR)
    assert receiver.numbers("a.png") == [0]


async def test_half_of_the_requests_fail_and_nothing_is_lost(
    deliveries: Deliveries, receiver: Receiver
) -> None:
    attempts: Counter[str] = Counter()

    def respond(event: dict[str, Any]) -> Response:
        """Fail the first attempts: none, one or two."""
        attempts[event["id"]] += 1
        return OK if attempts[event["id"]] > event["data"]["number"] % 3 else ERROR

    receiver.respond = respond
    await deliveries.happen(*(f"{number % 20}.png" for number in range(200)))

    await deliveries.deliver()
    for _ in range(60):
        await deliveries.later(HOUR)

    assert (await deliveries.failures(), await deliveries.letters()) == ([], [])
    for path in range(20):
        assert receiver.numbers(f"{path}.png") == list(range(path, 200, 20))


async def test_a_throttling_receiver_gets_nothing_until_the_time_that_it_named(
    deliveries: Deliveries, receiver: Receiver
) -> None:
    receiver.respond = lambda _: Response(429, {"retry-after": "600"})
    await deliveries.happen("a.png", "a.png")
    assert await deliveries.deliver() == ["throttled"]
    await deliveries.happen("b.png")
    receiver.respond = lambda _: OK

    assert await deliveries.later(timedelta(seconds=500)) == []
    assert await deliveries.later(timedelta(seconds=150)) == ["delivered"] * 3
    assert receiver.numbers("a.png") == [0, 1]


async def test_an_event_that_is_too_large_is_a_dead_letter_at_once(
    deliveries: Deliveries, receiver: Receiver
) -> None:
    await deliveries.happen("big.png", note="x" * 20_000)
    await deliveries.happen("big.png")

    assert sorted(await deliveries.deliver()) == ["delivered", "too_large"]

    (letter,) = await deliveries.letters()
    assert "bytes in JSON" in letter.last_error
    assert receiver.numbers("big.png") == [1]


def test_pauses_have_jitter_and_limits() -> None:
    for attempts, pause in enumerate(RETRY_AFTER, 1):
        assert pause <= retry_pause(attempts) <= pause * 1.1
    assert timedelta(seconds=5) <= probe_pause(0) <= timedelta(seconds=5.5)
    assert timedelta(minutes=1) <= probe_pause(1000) <= timedelta(minutes=1.1)
