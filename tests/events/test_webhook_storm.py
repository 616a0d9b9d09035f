"""Thousands of saves at once, whose events go to a webhook. `make bench` delivers 100,000."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from events.feed import Feed
from events.receiving import configure, receiving
from media.library import key
from stillroom.features.events.database import event_rows
from stillroom.features.events.event import Event
from stillroom.features.events.webhook_file import WatchedWebhooks
from stillroom.features.events.webhook_opening import register_endpoints
from stillroom.features.events.webhooks import Webhooks
from stillroom.store.background import Stopping
from waiting import eventually

SAVES = 5000


async def all_events(feed: Feed) -> list[Event]:
    rows, found, after = await event_rows(feed.database), list[Event](), 0
    while page := (await rows.read(after, 1000)).events:
        found += page
        after = page[-1].position
    return found


def ids_by_path(events: list[dict[str, Any]]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for event in events:
        found.setdefault(event["data"]["path"], []).append(event["id"])
    return found


@pytest.mark.whole
@pytest.mark.slow
@pytest.mark.parametrize("config", ["sqlite"], indirect=True)
async def test_a_storm_of_saves_is_delivered_once_and_in_order_per_path(
    feed: Feed, tmp_path: Path
) -> None:
    names = [f"{number % 100}/{number % (SAVES // 2)}.png" for number in range(SAVES)]
    with receiving() as receiver:
        watched = WatchedWebhooks(configure(tmp_path, backend=receiver), is_named=False)
        webhooks = Webhooks(watched, feed.database)
        register_endpoints(await feed.database.engine(), webhooks=webhooks)
        stopping = Stopping()
        task = asyncio.create_task(webhooks.run(stopping))
        for first in range(0, SAVES, 100):
            saves = enumerate(names[first : first + 100], first)
            await asyncio.gather(*(feed.save(name, f"{number}".encode()) for number, name in saves))
        last = {name: (await feed.storage.stat(key(name))).etag for name in names}

        async def all_are_delivered() -> bool:
            return last == {e["data"]["path"]: e["data"]["etag"] for e in receiver.accepted}

        await eventually(all_are_delivered, within_s=540)
        stopping.set()
        await task

    events = [event.as_json() for event in await all_events(feed)]
    assert ids_by_path(receiver.accepted) == ids_by_path(events)
