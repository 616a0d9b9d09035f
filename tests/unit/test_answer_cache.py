"""What is kept of answers: within bounds, dated right, closed once."""

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import pytest

from stillroom.server.answering import date_at
from stillroom.server.fast_path import answer_cache
from stillroom.server.fast_path.answer_cache import AnswerCache, CachedResponse, SharedFile

if TYPE_CHECKING:
    from stillroom.storage.values import LocalImage


@dataclass
class Slot:
    ready: CachedResponse | None = None
    held: SharedFile | None = None


class File:
    closed = 0

    def close(self) -> None:
        self.closed += 1


def held(file: File) -> SharedFile:
    return SharedFile(cast("LocalImage", file))


def test_an_answer_has_the_date_of_the_second_in_which_it_is_given() -> None:
    ready = CachedResponse("get_image", 200, b"HTTP/1.1 200 OK\r\ndate: ", b"body")

    for second in (1_700_000_000, 1_700_000_000, 1_700_000_001, 1_600_000_000):
        expected = b"HTTP/1.1 200 OK\r\ndate: " + date_at(second) + b"\r\n\r\nbody"
        assert bytes(ready.at(second).sent) == expected


def test_small_answers_are_forgotten_when_their_room_is_used_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(answer_cache, "_MAX_BYTES", 10_000)
    keeping, slots = AnswerCache(), [Slot() for _ in range(100)]

    for slot in slots:
        keeping.keep_whole(slot, CachedResponse("get_image", 200, b"", bytes(1000)))
        assert slot.ready is not None
        assert sum(other.ready.size for other in slots if other.ready is not None) <= 10_000


async def test_a_large_image_stays_open_for_a_moment_and_while_it_is_sent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(answer_cache, "_HELD_S", 0.01)
    keeping, slot, file = AnswerCache(), Slot(), File()
    sending = held(file)
    keeping.keep_open(slot, sending)
    assert cast("Any", slot.held) is sending

    while slot.held is not None:  # noqa: ASYNC110  (nobody tells when it is let go)
        await asyncio.sleep(0.005)
    assert file.closed == 0
    sending.close()
    assert file.closed == 1


async def test_no_more_than_some_large_images_are_open() -> None:
    keeping, files = AnswerCache(), [File() for _ in range(200)]
    slots = [Slot() for _ in files]
    for slot, file in zip(slots, files, strict=True):
        sending = held(file)
        keeping.keep_open(slot, sending)
        sending.close()

    assert sum(not file.closed for file in files) == 64
    keeping.let_go()
    assert all(file.closed == 1 for file in files)
    assert all(slot.held is None for slot in slots)
