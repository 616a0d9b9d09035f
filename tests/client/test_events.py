"""The feed of events in the SDK, synchronous and asynchronous, and in the commands."""

import asyncio
import json
import time
from itertools import pairwise
from typing import Any

import pytest

from command_line import PNG, Run
from running import Server
from stillroom.client import AsyncImageStore, Event, ImageStore
from stillroom.client.events import events_target
from stillroom.errors import CursorExpired, InvalidParameter
from stillroom.features.events.cursor import cursor_of
from waiting import eventually


async def events_of(store: AsyncImageStore, folder: str, **how: Any) -> list[Event]:
    found = store.events(prefix=f"{folder}/", follow=False, **how)
    return [event async for event in found]


async def saved(store: AsyncImageStore, *paths: str) -> None:
    for path in paths:
        await store.save(path, PNG)
        folder = path.rpartition("/")[0]

        async def is_there(path: str = path, folder: str = folder) -> bool:
            return path in [event.data["path"] for event in await events_of(store, folder)]

        await eventually(is_there)


async def test_events_are_read_and_continued_after_a_cursor(
    store: AsyncImageStore, folder: str
) -> None:
    await saved(store, f"{folder}/1.png", f"{folder}/2.png")

    first, second = await events_of(store, folder)
    assert (first.type, first.data["path"]) == ("image.saved", f"{folder}/1.png")
    assert first.timestamp.tzinfo is not None
    assert await events_of(store, folder, after=first.cursor) == [second]
    assert await events_of(store, folder, types=["image.deleted"]) == []
    assert await events_of(store, folder, after=second.cursor) == []


async def test_following_waits_for_the_next_event(server: Server, folder: str) -> None:
    """`tests/events/test_server.py` follows with the synchronous class."""
    async with AsyncImageStore(server.url, server.token()) as store:
        await saved(store, f"{folder}/1.png")
        (last,) = await events_of(store, folder)
        following = aiter(store.events(last.cursor, prefix=f"{folder}/"))
        waiting = asyncio.gather(anext(following))
        await saved(store, f"{folder}/2.png")

        assert [event.data["path"] for event in await waiting] == [f"{folder}/2.png"]


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
async def test_pages_for_which_the_server_does_not_wait_are_requested_once_a_second(
    server: Server, folder: str, monkeypatch: pytest.MonkeyPatch, *, is_async: bool
) -> None:
    began: list[float] = []

    def noted(*args: Any) -> str:
        began.append(time.monotonic())
        return events_target(*args)

    for name in ("sync", "asynchronous"):
        monkeypatch.setattr(f"stillroom.client.{name}.events_target", noted)
    hurried: dict[str, Any] = {"timeout_s": 1.9, "deadline_s": 120}
    async with AsyncImageStore(server.url, server.token(), **hurried) as store:
        blocking = ImageStore(server.url, server.token(), **hurried)
        if is_async:
            following = asyncio.ensure_future(anext(aiter(store.events(prefix=f"{folder}/"))))
        else:
            events = blocking.events(prefix=f"{folder}/")
            following = asyncio.ensure_future(asyncio.to_thread(next, events))
        await eventually(lambda: len(began) == 3)
        await saved(store, f"{folder}/1.png")

        assert (await following).data["path"] == f"{folder}/1.png"
        blocking.close()
    assert [later - earlier > 0.5 for earlier, later in pairwise(began[:3])] == [True, True]


async def test_a_cursor_of_another_store_is_an_error(store: AsyncImageStore) -> None:
    with pytest.raises(CursorExpired):
        await anext(aiter(store.events(cursor_of(7, "0" * 16))))
    with pytest.raises(InvalidParameter):
        await anext(aiter(store.events("no cursor")))


async def test_the_command_prints_events_as_text_and_as_json(
    store: AsyncImageStore, folder: str, run: Run
) -> None:
    await saved(store, f"{folder}/1.png")
    await store.delete(f"{folder}/1.png")

    async def are_two() -> bool:
        return len(await events_of(store, folder)) == 2

    await eventually(are_two)
    text = run("events", "--prefix", f"{folder}/")
    lines = run("events", "--prefix", f"{folder}/", "--json").out.splitlines()

    assert f"image.saved      {folder}/1.png" in text.out
    assert "image.deleted" in text.out
    assert "request" in text.out
    first, second = map(json.loads, lines)
    assert (first["type"], second["type"]) == ("image.saved", "image.deleted")
    resumed = run("events", "--prefix", f"{folder}/", "--after", first["cursor"], "--json")
    assert [json.loads(line)["id"] for line in resumed.out.splitlines()] == [second["id"]]
