"""The answer cache: within bounds, with the right date, closed once."""

import asyncio
from typing import TYPE_CHECKING, Any, cast

import pytest

from stillroom.server.fast_path import answer_cache
from stillroom.server.fast_path.answer_cache import (
    AnswerCache,
    CachedResponse,
    CacheEntry,
    SharedFile,
)
from stillroom.server.request_cycle import http_date

if TYPE_CHECKING:
    from stillroom.storage.values import LocalImage


class File:
    closed = 0

    def close(self) -> None:
        self.closed += 1


def shared(file: File) -> SharedFile:
    return SharedFile(cast("LocalImage", file))


def test_an_answer_has_the_date_of_the_second_in_which_it_is_given() -> None:
    response = CachedResponse("get_image", 200, b"HTTP/1.1 200 OK\r\ndate: ", b"body")

    for second in (1_700_000_000, 1_700_000_000, 1_700_000_001, 1_600_000_000):
        expected = b"HTTP/1.1 200 OK\r\ndate: " + http_date(second) + b"\r\n\r\nbody"
        assert bytes(response.at_second(second).data) == expected


def test_small_answers_are_forgotten_when_their_room_is_used_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(answer_cache, "_MAX_BYTES", 10_000)
    cache, entries = AnswerCache(), [CacheEntry() for _ in range(100)]

    for entry in entries:
        cache.add_response(entry, CachedResponse("get_image", 200, b"", bytes(1000)))
        assert entry.response is not None
        assert sum(other.response.size for other in entries if other.response is not None) <= 10_000


async def test_a_large_image_stays_open_for_a_moment_and_while_it_is_sent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(answer_cache, "_MAX_OPEN_S", 0.01)
    cache, entry, file = AnswerCache(), CacheEntry(), File()
    sending = shared(file)
    cache.add_file(entry, sending)
    assert cast("Any", entry.file) is sending

    while entry.file is not None:  # noqa: ASYNC110  (no event tells of it)
        await asyncio.sleep(0.005)
    assert file.closed == 0
    sending.close()
    assert file.closed == 1


async def test_no_more_than_some_large_images_are_open() -> None:
    cache, files = AnswerCache(), [File() for _ in range(200)]
    entries = [CacheEntry() for _ in files]
    for entry, file in zip(entries, files, strict=True):
        sending = shared(file)
        cache.add_file(entry, sending)
        sending.close()

    assert sum(not file.closed for file in files) == 64
    cache.close_files()
    assert all(file.closed == 1 for file in files)
    assert all(entry.file is None for entry in entries)
