"""`stillroom verify`: looks at every byte, says what it finds, and goes on where it was stopped."""

import asyncio
import contextlib
import json
import os
import re
import signal
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from stillroom.errors import ConfigurationError, StillroomError

if TYPE_CHECKING:
    from click._termui_impl import ProgressBar

    from stillroom.paths import KeyPrefix
    from stillroom.storage.inspection import Inspection
    from stillroom.storage.verify import Finding, Progress, Verification

ALL_RIGHT: Final = 0
PROBLEMS: Final = 1
# 2 is for what could not run: see `main`, and click itself.
STOPPED: Final = 3

_RATE: Final = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,3})?)\s*([kMG]?)(i?)B(?:/s)?")
_POWERS: Final = {"": 0, "k": 1, "M": 2, "G": 3}

_LOOK_EVERY_S: Final = 0.2
_SAVE_EVERY_S: Final = 2.0
_LINE_EVERY_S: Final = 10.0


class _Rate(click.ParamType[float]):
    """Bytes a second: 50MB/s, 1.5GiB/s."""

    name = "rate"

    def convert(self, value: Any, param: Any, ctx: Any) -> float:  # noqa: ANN401  (click's signature)
        if isinstance(value, float):
            return value
        found = _RATE.fullmatch(value)
        rate = 0.0
        if found is not None:
            rate = float(found[1]) * (1024 if found[3] else 1000) ** _POWERS[found[2]]
        if rate < 1:
            self.fail(f"{value!r} is not a rate such as 500kB/s, 50MB/s or 1GiB/s", param, ctx)
        return rate


@click.command()
@click.option(
    "--prefix", default="", help="Only images whose path begins with this; not the library."
)
@click.option("--quarantine", is_flag=True, help="Move bad images out of every reader's way.")
@click.option("--adopt", is_flag=True, help="Note the hashes of images that have none (disk).")
@click.option("--rate", type=_Rate(), help="Read no faster than this: 50MB/s.  [no bound]")
@click.option("--restart", is_flag=True, help="From the beginning, not where it was stopped.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on standard output.")
@click.option("--data-dir", help="Where everything lies.  [STILLROOM_DATA_DIR, ./stillroom-data]")
def verify(
    prefix: str,
    *,
    quarantine: bool,
    adopt: bool,
    rate: float | None,
    restart: bool,
    as_json: bool,
    data_dir: str | None,
) -> None:
    """Compare every byte with its hash, on the disk or in the bucket, beside running servers.

    Ends with 0 if all is right, 1 if there are problems, 2 if it could not run, and 3 if
    it was stopped; the same command then goes on.
    """
    from stillroom.paths import ImagePrefix, KeyPrefix
    from stillroom.settings import Settings
    from stillroom.storage.choose import open_inspection
    from stillroom.storage.verify import Pace, Verification

    settings = Settings.read(data_dir=data_dir)
    prefixes = [KeyPrefix.of_images(ImagePrefix.parse(prefix))]
    if not prefix:
        prefixes.append(KeyPrefix.of_library())

    async def run() -> int:
        store = open_inspection(settings.storage)
        try:
            await store.check()
            place = _Bookmark(settings.data_dir, f"{store.description}, {prefixes[0].text}")
            progress = place.start(restart=restart)
            report = _Report(as_json=as_json)
            verification = Verification(
                store,
                *prefixes,
                progress=progress,
                pace=Pace(rate),
                quarantine=quarantine,
                adopt=adopt,
                found=report.found,
            )
            if progress.images:
                click.echo(f"goes on after {progress.after!r}", err=True)
            finished = await _run(verification, place, _shown(store, prefixes))
        finally:
            await store.close()
        report.end(progress, finished=finished)
        if not finished:
            return STOPPED
        return PROBLEMS if progress.problems else ALL_RIGHT

    sys.exit(asyncio.run(run()))


async def _run(
    verification: "Verification",
    place: "_Bookmark",
    showing: contextlib.AbstractAsyncContextManager["_Display"],
) -> bool:
    """Run to the end, or until a signal; keep the place either way.

    Raises:
        BackendUnavailable: the store cannot be read any more.
    """
    progress = verification.progress
    task = asyncio.ensure_future(verification.run())
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, task.cancel)
    saved_at = time.monotonic()
    try:
        async with showing as display:
            while not task.done():
                await asyncio.wait([task], timeout=_LOOK_EVERY_S)
                display.show(progress)
                if time.monotonic() - saved_at > _SAVE_EVERY_S:
                    saved_at = time.monotonic()
                    with contextlib.suppress(OSError):  # only how far to go back is lost
                        place.keep(progress)
        with contextlib.suppress(asyncio.CancelledError):
            task.result()
    finally:
        with contextlib.suppress(OSError):
            place.keep(progress)
    if task.cancelled():
        return False
    place.forget()
    return True


# Going on -------------------------------------------------------------------------------


class _Bookmark:
    """How far a verification of one store has come, in a file; two at once share it in vain."""

    def __init__(self, data_dir: Path, subject: str) -> None:
        self._file = data_dir / ".stillroom" / "verify.json"
        self._subject = subject

    def start(self, *, restart: bool) -> "Progress":
        """Where to go on, or a new beginning.

        Raises:
            ConfigurationError: there is no place for the file.
        """
        from stillroom.storage.verify import Finding, Kind, Progress

        progress = Progress()
        if not restart:
            with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
                kept = json.loads(self._file.read_text())
                if kept.pop("subject") == self._subject:
                    kept["counts"] = {Kind(kind): count for kind, count in kept["counts"].items()}
                    kept["findings"] = [
                        Finding(**{**finding, "kind": Kind(finding["kind"])})
                        for finding in kept["findings"]
                    ]
                    progress = Progress(**kept)
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True, mode=0o750)
            self.keep(progress)
        except OSError as error:
            raise ConfigurationError(
                f"{str(self._file)!r} cannot be written ({error.strerror}): "
                "set STILLROOM_DATA_DIR to a folder that this user may write to"
            ) from error
        return progress

    def keep(self, progress: "Progress") -> None:
        """Remember it; the file is the old one or the new one, whole."""
        new = self._file.with_name(f"verify.json.{os.getpid()}")
        new.write_text(json.dumps({"subject": self._subject, **asdict(progress)}))
        new.replace(self._file)

    def forget(self) -> None:
        """It is done: the next one begins anew."""
        self._file.unlink(missing_ok=True)


# Showing --------------------------------------------------------------------------------


@dataclass
class _Report:
    """What goes to standard output."""

    as_json: bool

    def found(self, finding: "Finding") -> None:
        """Say it at once, but for what is only counted."""
        if self.as_json or finding.kind == "unknown":
            return
        moved = f"; moved to {finding.quarantined}" if finding.quarantined else ""
        if sys.stderr.isatty():
            click.echo("\r\033[K", err=True, nl=False)  # the bar is drawn again below
        click.echo(f"{finding.kind}  {finding.name}: {finding.detail}{moved}")

    def end(self, progress: "Progress", *, finished: bool) -> None:
        """The summary."""
        if self.as_json:
            kept = {
                "finished": finished,
                "images": progress.images,
                "bytes": progress.size,
                "adopted": progress.adopted,
                "problems": progress.problems,
                "counts": progress.counts,
                "findings": [asdict(finding) for finding in progress.findings],
                "findings_left_out": sum(progress.counts.values()) - len(progress.findings),
            }
            click.echo(json.dumps(kept, ensure_ascii=True, indent=1))
            return
        counts = ", ".join(f"{count:,} {kind}" for kind, count in progress.counts.items())
        click.echo(
            f"{progress.images:,} images, {_size(progress.size)}: {counts or 'all right'}"
            + (f", {progress.adopted:,} hashes noted" if progress.adopted else "")
            + ("" if finished else "; stopped, and the same command goes on")
        )


class _Display:
    """How far it is, on standard error: a bar on a terminal, else a line now and then."""

    def __init__(self, bar: "ProgressBar[int] | None") -> None:
        self._bar = bar
        self._began = self._said = time.monotonic()
        self._begun: tuple[int, int] | None = None
        self.total: int | None = None

    def show(self, progress: "Progress") -> None:
        """Bring it up to date."""
        now = time.monotonic()
        self._begun = self._begun or (progress.images, progress.size)
        rate = (progress.size - self._begun[1]) / max(now - self._began, 0.1)
        if self._bar is not None:
            self._bar.length = self.total
            self._bar.label = f"{progress.images:,} images, {_size(rate)}/s"
            self._bar.update(progress.images - self._bar.pos)
            self._bar.render_progress()
        elif now - self._said >= _LINE_EVERY_S:
            self._said = now
            left = self._time_left(progress.images, now)
            click.echo(
                f"{progress.images:,} images, {_size(progress.size)}, {_size(rate)}/s{left}",
                err=True,
            )

    def _time_left(self, images: int, now: float) -> str:
        assert self._begun is not None  # noqa: S101  (`show` has set it)
        done = images - self._begun[0]
        if self.total is None or not done:
            return ""
        seconds = (now - self._began) / done * max(self.total - images, 0)
        return f", {images / max(self.total, 1):.0%}, about {seconds / 60:,.0f} min left"


@contextlib.asynccontextmanager
async def _shown(store: "Inspection", prefixes: "Sequence[KeyPrefix]") -> AsyncIterator[_Display]:
    """A display that learns on the way how many images there are."""
    with _bar() as bar:
        display = _Display(bar)
        counting = asyncio.ensure_future(_count(store, prefixes, display))
        try:
            yield display
        finally:
            counting.cancel()
            await asyncio.gather(counting, return_exceptions=True)


@contextlib.contextmanager
def _bar() -> Iterator["ProgressBar[int] | None"]:
    if not sys.stderr.isatty():
        yield None
        return
    with click.progressbar(length=0, file=sys.stderr, show_pos=True, show_eta=True) as bar:
        yield bar


async def _count(store: "Inspection", prefixes: "Sequence[KeyPrefix]", display: _Display) -> None:
    """For the time that is left. A store that cannot be listed is the verification's to report."""
    from stillroom.paths import StorageKey

    count = 0
    with contextlib.suppress(StillroomError):
        for prefix in prefixes:
            async for entry in store.walk(prefix, ""):
                count += isinstance(entry, StorageKey)
        display.total = count


def _size(count: float) -> str:
    if count < 1000:  # noqa: PLR2004  (the units' step)
        return f"{count:.0f} B"
    for unit in ("kB", "MB", "GB"):
        count /= 1000
        if count < 1000:  # noqa: PLR2004  (the units' step)
            return f"{count:.1f} {unit}"
    return f"{count / 1000:,.1f} TB"
