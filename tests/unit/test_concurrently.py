import asyncio
from collections.abc import AsyncGenerator

import pytest

from stillroom.concurrently import for_each_concurrently, map_concurrently


class Jobs:
    """Jobs that end when they are told to, and what becomes of them."""

    def __init__(self) -> None:
        self.running: set[int] = set()
        self.most = 0
        self.cancelled: set[int] = set()
        self.started = asyncio.Semaphore(0)
        self.go_on = asyncio.Event()

    async def run(self, number: int) -> int:
        self.running.add(number)
        self.most = max(self.most, len(self.running))
        self.started.release()
        try:
            await self.go_on.wait()
        except asyncio.CancelledError:
            await asyncio.sleep(0)  # ending takes a moment
            self.cancelled.add(number)
            raise
        finally:
            self.running.discard(number)
        return number * 10

    async def until_running(self, number: int) -> None:
        for _ in range(number):
            await self.started.acquire()


async def test_as_many_as_the_limit_run_at_once_and_no_more() -> None:
    jobs = Jobs()

    mapping = asyncio.create_task(map_concurrently(jobs.run, range(10), limit=3))
    await jobs.until_running(3)
    jobs.go_on.set()

    assert await mapping == [number * 10 for number in range(10)]
    assert jobs.most == 3


async def test_results_are_in_the_order_of_the_items_whichever_job_ends_first() -> None:
    turns = {1: 3, 2: 0, 3: 1}

    async def job(item: int) -> int:
        for _ in range(turns[item]):
            await asyncio.sleep(0)  # one turn of the event loop
        return item

    assert await map_concurrently(job, [1, 2, 3], limit=3) == [1, 2, 3]


async def test_no_items_have_no_results() -> None:
    assert await map_concurrently(Jobs().run, [], limit=3) == []


async def test_an_error_is_raised_after_the_other_jobs_have_been_cancelled_and_have_ended() -> None:
    jobs = Jobs()

    async def job(number: int) -> None:
        if number == 2:
            await jobs.until_running(2)
            raise ValueError("two")
        await jobs.run(number)

    with pytest.raises(ValueError, match="two"):
        await for_each_concurrently(job, range(10), limit=3)

    assert jobs.cancelled == {0, 1}
    assert jobs.running == set()


async def test_a_cancellation_ends_all_jobs_first() -> None:
    jobs = Jobs()
    task = asyncio.create_task(for_each_concurrently(jobs.run, range(10), limit=3))
    await jobs.until_running(3)

    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert jobs.cancelled == {0, 1, 2}


async def test_items_are_taken_one_at_a_time_and_only_when_a_job_has_ended() -> None:
    taken: list[int] = []
    jobs = Jobs()

    async def items() -> AsyncGenerator[int, None]:
        for number in range(5):
            taken.append(number)
            await asyncio.sleep(0)  # one turn of the event loop
            yield number

    task = asyncio.create_task(for_each_concurrently(jobs.run, items(), limit=2))
    await jobs.until_running(2)

    assert taken == [0, 1]
    jobs.go_on.set()
    await task
    assert taken == [0, 1, 2, 3, 4]


async def test_an_error_of_the_items_ends_the_jobs_and_is_raised() -> None:
    jobs = Jobs()

    async def items() -> AsyncGenerator[int, None]:
        yield 0
        await jobs.until_running(1)
        raise OSError("no more")

    with pytest.raises(OSError, match="no more"):
        await for_each_concurrently(jobs.run, items(), limit=2)

    assert jobs.cancelled == {0}


async def test_the_items_are_closed_when_a_job_has_failed() -> None:
    closed = False

    async def items() -> AsyncGenerator[int, None]:
        nonlocal closed
        try:
            yield 0
            yield 1
        finally:
            closed = True

    async def job(_item: int) -> None:
        raise ValueError("bad")

    with pytest.raises(ValueError, match="bad"):
        await for_each_concurrently(job, items(), limit=1)

    assert closed
