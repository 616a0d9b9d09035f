"""Sharing memory, and waiting for a key."""

import asyncio
import contextlib

import pytest

from stillroom.errors import BackendUnavailable
from stillroom.store.bucket.existence_cache import ExistenceCache
from stillroom.store.bucket.limits import KeyLocks, MemoryBudget


async def test_who_does_not_fit_waits_and_comes_in_order() -> None:
    budget = MemoryBudget(10)
    came: list[int] = []

    async def use(number: int, size: int) -> None:
        async with budget.reserve(size, wait_s=5):
            came.append(number)
            await asyncio.sleep(0.01)  # the others come meanwhile

    await asyncio.gather(use(1, 6), use(2, 6), use(3, 1), use(4, 10))

    assert came == [1, 2, 3, 4]


async def test_a_small_one_that_came_later_does_not_overtake_a_large_one() -> None:
    budget = MemoryBudget(10)
    async with contextlib.AsyncExitStack() as first:
        await first.enter_async_context(budget.reserve(6, wait_s=1))
        large = asyncio.ensure_future(_hold(budget, 10))
        await asyncio.sleep(0)  # one turn of the event loop
        small = asyncio.ensure_future(_hold(budget, 1))
        await asyncio.sleep(0)  # one turn of the event loop
        assert not small.done()
    await asyncio.gather(large, small)


async def test_who_waits_too_long_gives_up_and_keeps_nothing() -> None:
    budget = MemoryBudget(10)
    async with budget.reserve(6, wait_s=1):
        with pytest.raises(BackendUnavailable):
            await _hold(budget, 5, wait_s=0.01)

    await _hold(budget, 10, wait_s=0.01)


async def test_who_is_cancelled_while_waiting_lets_the_next_in() -> None:
    budget = MemoryBudget(10)
    async with budget.reserve(6, wait_s=1):
        waiting = asyncio.ensure_future(_hold(budget, 10))
        await asyncio.sleep(0)  # one turn of the event loop
        small = asyncio.ensure_future(_hold(budget, 4))
        await asyncio.sleep(0)  # one turn of the event loop
        waiting.cancel()
        await small


async def test_who_is_cancelled_in_the_moment_of_being_let_in_gives_it_back() -> None:
    budget = MemoryBudget(10)
    async with budget.reserve(10, wait_s=1) as held:
        waiting = asyncio.ensure_future(_hold(budget, 10))
        await asyncio.sleep(0)  # one turn of the event loop
        held.shrink(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    await _hold(budget, 10, wait_s=0.01)


async def test_what_is_not_needed_after_all_is_given_back_at_once() -> None:
    budget = MemoryBudget(10)
    async with budget.reserve(10, wait_s=1) as held:
        held.shrink(3)
        await _hold(budget, 7, wait_s=0.01)

    await _hold(budget, 10, wait_s=0.01)


async def test_a_key_has_one_holder_and_others_do_not_wait_for_it() -> None:
    locks, now = KeyLocks(), asyncio.get_running_loop().time
    async with locks.hold("a", deadline=now() + 60):
        async with locks.hold("b", deadline=now() + 60):
            pass
        with pytest.raises(BackendUnavailable):
            async with locks.hold("a", deadline=now() + 0.05):
                pass
    async with locks.hold("a", deadline=now() + 60):
        pass
    assert locks._locks == {}


def test_remembered_keys_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stillroom.store.bucket.existence_cache._MAX", 3)
    seen = ExistenceCache()

    for key in "abcd":
        seen.note(key, "image/png", seen.moment)

    assert [key in seen for key in "abcd"] == [False, True, True, True]


async def _hold(budget: MemoryBudget, size: int, *, wait_s: float = 5) -> None:
    async with budget.reserve(size, wait_s=wait_s):
        await asyncio.sleep(0)  # one turn of the event loop
