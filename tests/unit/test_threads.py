"""Threads for the disk: every job runs to its end, and no more than so many at once."""

import asyncio
import functools
import threading

import pytest

from stillroom.store.disk.threads import DiskThreads


async def test_a_job_returns_or_raises_where_it_is_waited_for() -> None:
    threads = DiskThreads(2)
    assert await threads.run(lambda: threading.current_thread().name) == "disk-0"
    with pytest.raises(ZeroDivisionError):
        await threads.run(lambda: 1 // 0)
    threads.close()


async def test_no_more_jobs_run_at_once_than_there_are_threads() -> None:
    threads = DiskThreads(3)
    at_once, most, lock = 0, 0, threading.Lock()
    full = threading.Barrier(3)

    def job() -> None:
        nonlocal at_once, most
        with lock:
            at_once += 1
            most = max(most, at_once)
        full.wait(60)
        with lock:
            at_once -= 1

    await asyncio.gather(*(threads.run(job) for _ in range(12)))
    threads.close()
    assert most == 3


async def test_a_cancelled_caller_waits_until_its_job_has_ended() -> None:
    threads = DiskThreads(1)
    loop = asyncio.get_running_loop()
    begun, go_on = asyncio.Event(), threading.Event()
    ended: list[bool] = []

    def job() -> None:
        loop.call_soon_threadsafe(begun.set)
        go_on.wait(60)
        ended.append(True)

    caller = asyncio.ensure_future(threads.run(job))
    await begun.wait()
    for _ in range(3):
        caller.cancel()
        await asyncio.sleep(0.001)  # so that each cancellation arrives
    assert not caller.done()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert ended == [True]
    threads.close()


async def test_closing_finishes_what_was_begun_and_takes_nothing_new() -> None:
    threads = DiskThreads(1)
    done: list[int] = []
    for number in range(5):
        threads.start(functools.partial(done.append, number))
    await asyncio.get_running_loop().run_in_executor(None, threads.close)
    assert done == [0, 1, 2, 3, 4]
    with pytest.raises(RuntimeError):
        await threads.run(lambda: None)
