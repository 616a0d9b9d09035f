"""Functions that run a job for each item, with a limit on concurrent jobs.

`asyncio.TaskGroup` has no such limit. A semaphore with `asyncio.gather` would create a task for
each item, and would not stop the other jobs if one of them fails.
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
    """Run a job for each item, at most `limit` at a time. Items are read on demand.

    If a job or the iterator raises an error, or the caller is cancelled, all other jobs are
    cancelled first. Then the first error is raised. A generator of items is always closed.
    """
    left = items if isinstance(items, AsyncGenerator) else _asynchronous(items)
    taking = asyncio.Lock()  # an async generator cannot be advanced concurrently

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
    """Run a job for each item, like `for_each_concurrently`. Return the results in input order."""
    results: dict[int, Result] = {}

    async def keep(numbered: tuple[int, Item]) -> None:
        number, item = numbered
        results[number] = await job(item)

    await for_each_concurrently(keep, enumerate(items), limit=min(limit, len(items)))
    return [results[number] for number in range(len(items))]


async def _asynchronous(items: Iterable[Item]) -> AsyncGenerator[Item, None]:
    for item in items:
        yield item
