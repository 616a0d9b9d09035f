"""Progress of `verify` and `migrate`, displayed until they end or a signal stops them."""

import asyncio
import contextlib
import signal
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from stillroom.cli.output import StatusLine, bar, counted, erase_line, size_text
from stillroom.errors import StillroomError
from stillroom.paths import ImagePrefix, KeyPrefix, StorageKey

if TYPE_CHECKING:  # commands import the server's libraries only when they run
    from stillroom.maintenance.inspection.port import Inspection


class ProgressCounts(Protocol):
    """Protocol of progress that can be displayed: finished images and processed bytes."""

    images: int
    size: int


class _Display:
    def __init__(self, progress: ProgressCounts) -> None:
        self._line = StatusLine(10)
        self._began = time.monotonic()
        self._first_image, self._first_byte = progress.images, progress.size  # if it resumes
        self.total: int | None = None  # number of images; None until they have been counted

    def show(self, progress: ProgressCounts) -> None:
        if not self._line.is_due():
            return
        passed = max(time.monotonic() - self._began, 0.1)
        rate = size_text((progress.size - self._first_byte) / passed)
        text = f"{counted(progress.images, 'image')}, {size_text(progress.size)}, {rate}/s"
        done = progress.images - self._first_image
        if self.total is not None and done:
            share = progress.images / max(self.total, 1)
            left_s = passed / done * max(self.total - progress.images, 0)
            if self._line.is_terminal:
                text = bar(share, text, left_s)
            else:
                text += f", {share:.0%}, about {left_s / 60:,.0f} min left"
        self._line.show(text)


def key_prefixes(prefix: str, *others: str) -> list[KeyPrefix]:
    """Return the key prefix of the images whose paths begin with `prefix`.

    If `prefix` is empty, also return the library's prefix and `others`. The result is sorted.
    """
    images = KeyPrefix.of_images(ImagePrefix.parse(prefix))
    if prefix:
        return [images]
    return sorted([images, KeyPrefix.of_library(), *map(KeyPrefix, others)], key=lambda it: it.text)


async def run_until_signal(
    work: Coroutine[Any, Any, object],
    store: "Inspection",
    prefixes: Sequence[KeyPrefix],
    progress: ProgressCounts,
    refreshed: Callable[[], None],
) -> asyncio.Task[object]:
    """Run `work` until it ends or a signal cancels it, and return the task.

    Meanwhile, display `progress`, and call `refreshed` before each update. To estimate the
    remaining time, count the images in `store` whose keys begin with one of `prefixes`.
    """
    task = asyncio.ensure_future(work)
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    display = _Display(progress)
    counting = asyncio.ensure_future(_count(store, prefixes, display))
    try:
        while not task.done():
            await asyncio.wait([task], timeout=0.2)
            refreshed()
            display.show(progress)
    finally:
        counting.cancel()
        await asyncio.gather(counting, return_exceptions=True)
        erase_line()
    return task


async def _count(store: "Inspection", prefixes: Sequence[KeyPrefix], display: _Display) -> None:
    count = 0
    with contextlib.suppress(StillroomError):
        for prefix in prefixes:
            async for entry in store.walk(prefix, ""):
                count += isinstance(entry, StorageKey)
        display.total = count
