"""`stillroom verify`: looks at every byte, says what it finds, and goes on where it was stopped."""

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from stillroom.cli.display import LOOK_EVERY_S, Display, shown
from stillroom.cli.exits import STOPPED
from stillroom.cli.progress import counted, size_text
from stillroom.cli.rate import RATE
from stillroom.errors import ConfigurationError

if TYPE_CHECKING:
    from stillroom.maintenance.verify import Finding, Progress, Verification

ALL_RIGHT: Final = 0
PROBLEMS: Final = 1

_SAVE_EVERY_S: Final = 2.0


@click.command()
@click.option(
    "--prefix", default="", help="Only images whose path begins with this; not the library."
)
@click.option("--quarantine", is_flag=True, help="Move bad images out of every reader's way.")
@click.option("--adopt", is_flag=True, help="Note the hashes of images that have none (disk).")
@click.option("--rate", type=RATE, help="Read no faster than this: 50MB/s.  [no bound]")
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
    from stillroom.assembly import opened_inspection
    from stillroom.maintenance.verify import Pace, Verification
    from stillroom.paths import ImagePrefix, KeyPrefix
    from stillroom.settings import Settings

    settings = Settings.read(data_dir=data_dir)
    prefixes = [KeyPrefix.of_images(ImagePrefix.parse(prefix))]
    if not prefix:
        prefixes.append(KeyPrefix.of_library())

    async def run() -> int:
        async with opened_inspection(settings) as store:
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
            finished = await _run(verification, place, shown(store, prefixes))
        report.end(progress, finished=finished)
        if not finished:
            return STOPPED
        return PROBLEMS if progress.problems else ALL_RIGHT

    sys.exit(asyncio.run(run()))


async def _run(
    verification: "Verification",
    place: "_Bookmark",
    showing: contextlib.AbstractAsyncContextManager[Display],
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
                await asyncio.wait([task], timeout=LOOK_EVERY_S)
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
        from stillroom.maintenance.verify import Finding, Kind, Progress

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
            f"{counted(progress.images, 'image')}, {size_text(progress.size)}: "
            + (counts or "all right")
            + (f", {progress.adopted:,} hashes noted" if progress.adopted else "")
            + ("" if finished else "; stopped, and the same command goes on")
        )
