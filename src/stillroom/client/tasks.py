"""Asynchronous version of `threads`, and functions that run code in a thread."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, asynccontextmanager
from functools import partial
from typing import ParamSpec, TypeVar, cast

import anyio
import anyio.to_thread

from stillroom.client.errors import FAILED
from stillroom.client.threads import Gathered
from stillroom.client.values import OnProgress, Outcome

P = ParamSpec("P")
T = TypeVar("T")


async def in_thread(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call a function in a thread and return its result, without blocking the event loop."""
    return await anyio.to_thread.run_sync(partial(function, *args, **kwargs))


async def iterated_in_thread(iterator: Iterator[T]) -> AsyncIterator[T]:
    """Yield the elements of an iterator. Each element is computed in a thread."""
    end = object()
    while (item := await in_thread(next, iterator, end)) is not end:
        yield cast("T", item)


@asynccontextmanager
async def entered_in_thread(manager: AbstractContextManager[T]) -> AsyncIterator[T]:
    """Context manager: enter `manager` in a thread, and exit it in the event loop."""
    with ExitStack() as stack:
        value = await in_thread(manager.__enter__)
        stack.push(manager.__exit__)
        yield value


async def outcomes_of(path: str, run: Callable[[], Awaitable[T]]) -> Sequence[Outcome[T]]:
    """Call `run` for one image. Return one outcome, with the result or a caught `FAILED` error."""
    try:
        return [Outcome(path, await run())]
    except FAILED as error:
        return [Outcome(path, error=error)]


class Workers:
    """Pool of asyncio or trio tasks that run the jobs of one bulk operation."""

    def __init__(self, concurrency: int, progress: OnProgress | None = None) -> None:
        self._concurrency = concurrency
        self.progress = progress

    async def run(
        self,
        jobs: Iterable[Callable[[], Awaitable[Sequence[Outcome[T]]]]],
        each: Callable[[Outcome[T]], None] | None = None,
    ) -> list[T]:
        """See `threads.Workers.run`. `each` is called in the event loop."""
        gathered: Gathered[T] = Gathered(each)
        numbered = enumerate(jobs)

        async def work() -> None:
            for number, job in numbered:
                gathered.add(number, await job())
                if gathered.stopped:
                    return

        async with anyio.create_task_group() as group:
            for _ in range(self._concurrency):
                group.start_soon(work)
        return gathered.results()
