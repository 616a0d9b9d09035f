"""Run a job for each item concurrently, with a limit on how many run at once.

`asyncio.TaskGroup` has no limit, and a semaphore before `asyncio.gather` makes a task for each item
and leaves those that run behind when one of them fails.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Iterable
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


async def for_each_concurrently(
    job: Callable[[Item], Awaitable[object]],
    items: Iterable[Item] | AsyncGenerator[Item, None],
    *,
    limit: int,
) -> None:
    """Run a job for each item, `limit` at a time; the next item is taken when a job has ended.

    The first error of a job, or of the items, is raised, as is a cancellation: after the other
    jobs were cancelled and have ended. A generator of items is closed in any case.
    """
    left = items if isinstance(items, AsyncGenerator) else _asynchronous(items)
    taking = asyncio.Lock()  # an async generator can be asked for one item at a time

    async def work() -> None:
        while True:
            async with taking:
                try:
                    item = await anext(left)
                except StopAsyncIteration:
                    return
            await job(item)

    async with contextlib.aclosing(left):
        workers = [asyncio.ensure_future(work()) for _ in range(limit)]
        try:
            await asyncio.gather(*workers)
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)


async def map_concurrently(
    job: Callable[[Item], Awaitable[Result]], items: Collection[Item], *, limit: int
) -> list[Result]:
    """Return the results of a job for each item, in the order of the items; else the same."""
    results: dict[int, Result] = {}

    async def keep(numbered: tuple[int, Item]) -> None:
        number, item = numbered
        results[number] = await job(item)

    await for_each_concurrently(keep, enumerate(items), limit=min(limit, len(items)))
    return [results[number] for number in range(len(items))]


async def _asynchronous(items: Iterable[Item]) -> AsyncGenerator[Item, None]:
    for item in items:
        yield item
