"""Display of the progress of `verify`, `migrate` and `media heal`: a bar or periodic lines."""

import asyncio
import contextlib
import signal
import sys
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final, Protocol

import click

from stillroom.cli.output import StatusLine, counted, size_text
from stillroom.errors import StillroomError
from stillroom.paths import ImagePrefix, KeyPrefix, StorageKey

if TYPE_CHECKING:  # commands import the server's libraries only when they run
    from click._termui_impl import ProgressBar

    from stillroom.maintenance.inspection.port import Inspection

_REFRESH_S: Final = 0.2


class ProgressCounts(Protocol):
    """Protocol of progress that can be displayed: finished images and processed bytes."""

    images: int
    size: int


class _Display:
    """Progress on standard error: a bar or, without a terminal, a line every ten seconds."""

    def __init__(self, bar: "ProgressBar[int] | None", progress: ProgressCounts) -> None:
        self._bar = bar
        self._line = StatusLine(10)
        self._began = time.monotonic()
        self._first_image, self._first_byte = progress.images, progress.size  # if it resumes
        self.total: int | None = None  # number of images; None until they have been counted

    def show(self, progress: ProgressCounts) -> None:
        now = time.monotonic()
        rate = (progress.size - self._first_byte) / max(now - self._began, 0.1)
        images = counted(progress.images, "image")
        if self._bar is not None:
            self._bar.length = self.total
            self._bar.label = f"{images}, {size_text(rate)}/s"
            self._bar.update(progress.images - self._bar.pos)
            self._bar.render_progress()
        elif self._line.is_due():
            left = self._time_left(progress.images, now)
            self._line.show(f"{images}, {size_text(progress.size)}, {size_text(rate)}/s{left}")

    def _time_left(self, images: int, now: float) -> str:
        done = images - self._first_image
        if self.total is None or not done:
            return ""
        seconds = (now - self._began) / done * max(self.total - images, 0)
        return f", {images / max(self.total, 1):.0%}, about {seconds / 60:,.0f} min left"


def key_prefixes(prefix: str) -> list[KeyPrefix]:
    """Return the key prefix of images below `prefix`; if `prefix` is empty, also of the library."""
    images = KeyPrefix.of_images(ImagePrefix.parse(prefix))
    return [images] if prefix else [images, KeyPrefix.of_library()]


async def run_until_signal(
    work: Coroutine[Any, Any, object],
    store: "Inspection",
    prefixes: Sequence[KeyPrefix],
    progress: ProgressCounts,
    refreshed: Callable[[], None],
) -> asyncio.Task[object]:
    """Run `work` until it ends or a signal cancels it, and return the task.

    Meanwhile, its progress is displayed; `refreshed` is called before each update. To estimate the
    remaining time, images in `store` whose keys begin with one of `prefixes` are counted.
    """
    task = asyncio.ensure_future(work)
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    with progress_bar() as bar:
        display = _Display(bar, progress)
        counting = asyncio.ensure_future(_count(store, prefixes, display))
        try:
            while not task.done():
                await asyncio.wait([task], timeout=_REFRESH_S)
                refreshed()
                display.show(progress)
        finally:
            counting.cancel()
            await asyncio.gather(counting, return_exceptions=True)
    return task


@contextlib.contextmanager
def progress_bar() -> Iterator["ProgressBar[int] | None"]:
    """Context manager: yield a progress bar on standard error, or None without a terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    with click.progressbar(length=0, file=sys.stderr, show_pos=True, show_eta=True) as bar:
        yield bar


async def _count(store: "Inspection", prefixes: Sequence[KeyPrefix], display: _Display) -> None:
    count = 0
    with contextlib.suppress(StillroomError):
        for prefix in prefixes:
            async for entry in store.walk(prefix, ""):
                count += isinstance(entry, StorageKey)
        display.total = count
