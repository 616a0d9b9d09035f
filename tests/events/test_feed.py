"""The feed over HTTP: cursors, long polls, filters, permissions and errors."""

import asyncio
import base64
import contextlib
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from in_process import IMAGES, JWT_SECRET, started
from stillroom.features.database.config import SqliteConfig
from stillroom.features.events import cursor
from stillroom.features.events.cursor import cursor_of
from stillroom.features.events.database import event_rows
from stillroom.features.events.rows import EventPage, EventRows
from stillroom.features.library.database import MediaDatabase
from stillroom.store import shutdown
from stillroom.store.auth.tokens import mint_token
from waiting import eventually

FEED = "/api/v1/storage/events"
HOUR = timedelta(hours=1)
TIMES_OUT_S = 40


@contextlib.asynccontextmanager
async def opened(
    folder: Path, monkeypatch: pytest.MonkeyPatch, **variables: str
) -> AsyncIterator[tuple[FastAPI, httpx.AsyncClient]]:
    given = {"STILLROOM_DATA_DIR": str(folder), "STILLROOM_MIN_FREE_BYTES": "0", **variables}
    async with started(given, monkeypatch) as (app, client):
        client.timeout = httpx.Timeout(120)
        yield app, client


@pytest.fixture
async def client(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[httpx.AsyncClient]:
    async with opened(tmp_path / "data", monkeypatch) as (_, client):
        yield client


def bearer(*scopes: Any, prefix: str | None = None, subject: str | None = None) -> dict[str, str]:
    token = mint_token(
        JWT_SECRET, expires_in=HOUR, scopes=scopes or None, folder=prefix, subject=subject
    )
    return {"authorization": f"Bearer {token}"}


async def save(client: httpx.AsyncClient, *paths: str, subject: str | None = None) -> None:
    """Save images, and wait for their events."""
    for path in paths:
        answer = await client.post(
            f"{IMAGES}/{path}", files={"file": b"bytes"}, headers=bearer(subject=subject)
        )
        assert answer.status_code == 200

    async def are_there() -> bool:
        return set(paths) <= set(told(await read(client, limit="1000")))

    await eventually(are_there)


async def read(client: httpx.AsyncClient, **query: str) -> dict[str, Any]:
    answer = await client.get(FEED, params=query)
    assert answer.status_code == 200, answer.text
    page: dict[str, Any] = answer.json()
    return page


def told(page: dict[str, Any]) -> list[str]:
    return [event["data"]["path"] for event in page["events"]]


async def test_a_page_ends_with_the_cursor_of_the_next(client: httpx.AsyncClient) -> None:
    empty = await read(client)
    await save(client, "a/1.png", subject="user-7")
    await save(client, "a/2.png", "b/3.png")

    first = await read(client, limit="2")
    second = await read(client, after=first["next"], limit="2")

    assert (empty["events"], empty["caught_up"]) == ([], True)
    assert (told(first), first["caught_up"]) == (["a/1.png", "a/2.png"], False)
    assert (told(second), second["caught_up"]) == (["b/3.png"], True)
    assert first["next"] == first["events"][-1]["cursor"]
    assert [event["actor"] for event in first["events"]] == ["user-7", None]
    assert await read(client, after=empty["next"], limit="2") == first
    assert (await read(client, after=second["next"]))["events"] == []


async def test_the_cursor_latest_has_no_events_before_it(client: httpx.AsyncClient) -> None:
    await save(client, "1.png")
    latest = await read(client, after="latest")
    await save(client, "2.png")

    assert latest["events"] == []
    assert told(await read(client, after=latest["next"])) == ["2.png"]


async def test_a_long_poll_ends_with_an_event_that_matches(client: httpx.AsyncClient) -> None:
    latest = (await read(client, after="latest"))["next"]
    waiting = asyncio.create_task(read(client, after=latest, wait="50", prefix="b/"))
    await save(client, "a/1.png")
    assert not waiting.done()
    await save(client, "b/2.png")

    assert told(await waiting) == ["b/2.png"]


async def test_a_long_poll_without_an_event_ends_with_a_cursor(client: httpx.AsyncClient) -> None:
    began = time.monotonic()

    page = await read(client, wait="1.5")

    assert time.monotonic() - began >= 1.5
    assert (page["events"], page["caught_up"]) == ([], True)


async def test_one_query_serves_all_long_polls_whose_events_do_not_match(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    queries: list[int] = []
    read_events = EventRows.read

    async def counted(rows: EventRows, *args: Any, **options: Any) -> EventPage:
        queries.append(1)
        return await read_events(rows, *args, **options)

    latest = (await read(client, after="latest"))["next"]
    future = cursor_of(2**62, base64.urlsafe_b64decode(f"{latest}==")[:8].hex())
    monkeypatch.setattr(EventRows, "read", counted)
    waiting = [
        asyncio.create_task(read(client, after=after, wait="4", prefix=f"{number}/"))
        for number, after in enumerate([future, *[latest] * 19])
    ]
    for number in range(3):
        answer = await client.post(f"{IMAGES}/a/{number}.png", files={"file": b"bytes"})
        assert answer.status_code == 200

    pages = await asyncio.gather(*waiting)

    assert [page["events"] for page in pages] == [[]] * 20
    # Each request reads before and after its wait. In four seconds, four queries serve all of them.
    assert len(queries) <= 2 * 20 + 4


async def test_a_poll_beyond_the_limit_does_not_wait(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stillroom.features.events.waiting.MAX_WAITING", 2)
    latest = (await read(client, after="latest"))["next"]
    for number in range(2):  # also after others have waited
        polls = [asyncio.create_task(read(client, after=latest, wait="50")) for _ in range(3)]
        done, waiting = await asyncio.wait(
            polls, timeout=TIMES_OUT_S, return_when=asyncio.FIRST_COMPLETED
        )
        assert [poll.result()["events"] for poll in done] == [[]]
        await save(client, f"{number}.png")
        pages = await asyncio.gather(*waiting)
        assert [told(page) for page in pages] == [[f"{number}.png"]] * 2
        latest = pages[0]["next"]


async def test_a_shutdown_ends_long_polls_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(tmp_path, monkeypatch) as (_, client):
        waiting = [asyncio.create_task(read(client, wait="50")) for _ in range(3)]
        await asyncio.sleep(0.3)
        shutdown.begin()
        async with asyncio.timeout(TIMES_OUT_S):
            pages = await asyncio.gather(*waiting, read(client, wait="50"))

    assert [page["events"] for page in pages] == [[]] * 4


async def test_a_restarted_server_continues_after_a_cursor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(tmp_path, monkeypatch) as (_, client):
        await save(client, "1.png")
        after = (await read(client))["next"]
    async with opened(tmp_path, monkeypatch) as (_, client):
        await save(client, "2.png")
        assert told(await read(client, after=after)) == ["2.png"]


@pytest.mark.parametrize(
    "query",
    [
        {"after": "no cursor"},
        {"after": "AAAA"},
        {"wait": "51"},
        {"wait": "-1"},
        {"wait": "soon"},
        {"types": "image.saved,image.eaten"},
        {"limit": "0"},
        {"prefix": "../"},
    ],
)
async def test_invalid_parameters_are_422(client: httpx.AsyncClient, query: dict[str, str]) -> None:
    assert (await client.get(FEED, params=query)).status_code == 422


async def test_a_cursor_of_another_database_is_410(client: httpx.AsyncClient) -> None:
    answer = await client.get(FEED, params={"after": cursor_of(1, "0" * 16)})

    assert (answer.status_code, answer.json()["code"]) == (410, "cursor_expired")


async def test_a_cursor_that_is_older_than_the_retention_is_410(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = MediaDatabase(SqliteConfig(tmp_path / ".stillroom" / "library.db"))
    async with opened(tmp_path, monkeypatch) as (_, client):
        oldest = (await read(client))["next"]
        await save(client, "1.png", "2.png")
        newest = (await read(client))["next"]
        assert await (await event_rows(database)).drop(timedelta(0)) == 2
        await database.close()
        await save(client, "3.png")

        answer = await client.get(FEED, params={"after": oldest})
        assert (answer.status_code, answer.json()["code"]) == (410, "cursor_expired")
        assert told(await read(client, after=newest)) == told(await read(client)) == ["3.png"]


async def test_a_token_reads_the_events_of_its_folder_alone(client: httpx.AsyncClient) -> None:
    await save(client, "a/1.png", "ab/2.png", "b/3.png")

    answer = await client.get(FEED, headers=bearer("storage:read", prefix="a"))
    other = await client.get(
        FEED, params={"prefix": "b/"}, headers=bearer("storage:read", prefix="a")
    )

    assert told(answer.json()) == ["a/1.png"]
    assert other.status_code == 403
    assert (await client.get(FEED, headers=bearer("storage:write"))).status_code == 403
    assert (await client.get(FEED, headers={"authorization": "none"})).status_code == 401


async def test_events_of_the_library_need_their_own_scope(client: httpx.AsyncClient) -> None:
    png = (
        "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c4890000000d49444154789c"
        "6360f8cfc0000003010100c9fe92ef0000000049454e44ae426082"
    )
    await client.post(f"{IMAGES}/a/1.png", files={"file": bytes.fromhex(png)})
    answer = await client.post(
        "/api/v1/media-resources/ingest", json={"storage_key": "compute/a/1.png"}
    )
    assert answer.status_code == 200, answer.text

    reader, both = bearer("storage:read"), bearer("storage:read", "media")
    params = {"types": "media.ingested"}
    seen = (await client.get(FEED, params=params, headers=both)).json()["events"]
    assert [event["data"] for event in seen] == [
        {
            "id": answer.json()["id"],
            "path": "a/1.png",
            "storage_key": answer.json()["storage_key"],
        }
    ]
    assert (await client.get(FEED, params=params, headers=reader)).status_code == 403
    every = (await client.get(FEED, headers=reader)).json()["events"]
    assert {event["type"] for event in every} <= {"image.saved"}


async def test_without_a_retention_the_feed_is_501(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    off = {"STILLROOM_EVENTS_RETENTION": "0"}
    async with opened(tmp_path, monkeypatch, **off) as (_, client):
        answer = await client.get(FEED)

    assert (answer.status_code, answer.json()["code"]) == (501, "feature_off")


async def test_a_file_of_sqlite_that_cannot_be_opened_is_503(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / ".stillroom" / "library.db"
    file.mkdir(parents=True)

    async with opened(tmp_path, monkeypatch) as (_, client):
        answer = await client.get(FEED, params={"wait": "50"})
        assert answer.status_code == 503
        assert (await client.post(f"{IMAGES}/1.png", files={"file": b"b"})).status_code == 200


async def test_without_full_text_search_the_feed_is_501(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".stillroom" / "library.db").mkdir(parents=True)
    monkeypatch.setattr("stillroom.features.events.operation.has_full_text", lambda _: False)

    async with opened(tmp_path, monkeypatch) as (_, client):
        answer = await client.get(FEED)

    assert (answer.status_code, answer.json()["code"]) == (501, "feature_off")
    assert "FTS5" in answer.json()["detail"]


def test_a_cursor_is_opaque_and_keeps_its_position() -> None:
    feed, position = "0123456789abcdef", 1_796_000_000_123_456

    assert cursor.position_of(cursor_of(position, feed), feed) == position
    assert str(position) not in cursor_of(position, feed)
