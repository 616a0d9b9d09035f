"""`stillroom migrate`: one store's images and rows into another, checked where they arrive."""

import asyncio
import contextlib
import io
import json
import os
import signal
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

import click

from stillroom.cli.display import LOOK_EVERY_S, shown
from stillroom.cli.exits import FAILED, STOPPED, code_of
from stillroom.cli.progress import counted, size_text
from stillroom.cli.rate import RATE
from stillroom.errors import BackendUnavailable, ConfigurationError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from stillroom.maintenance.migration import Migration, MigrationStats, ProgressEvent, Target
    from stillroom.maintenance.row_transfer import TransferStats
    from stillroom.paths import KeyPrefix
    from stillroom.settings import Settings
    from stillroom.storage.inspection import Inspection

_WRITTEN: Final = frozenset(("differs", "failed", "stray", "extra"))
"""Outcomes that are a line on standard output; the others are counted."""

_STORE = click.Path(exists=True, path_type=Path)


@click.command()
@click.option(
    "--from", "source", type=_STORE, help="Settings file or data directory.  [the environment]"
)
@click.option(
    "--to", "target", type=_STORE, help="Settings file or data directory.  [the environment]"
)
@click.option(
    "--prefix", default="", help="Only images whose path begins with this; not the library."
)
@click.option("--overwrite", is_flag=True, help="Replace what differs also where it is newer.")
@click.option("--extra", is_flag=True, help="Also name the images that only the target has.")
@click.option("--rate", type=RATE, help="Read no faster than this: 50MB/s.  [no bound]")
@click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on standard output.")
@click.option(
    "--report",
    type=click.Path(dir_okay=False),
    help="Add a line of JSON for each image to this file.",
)
def migrate(
    *,
    source: Path | None,
    target: Path | None,
    prefix: str,
    overwrite: bool,
    extra: bool,
    rate: float | None,
    dry_run: bool,
    as_json: bool,
    report: str | None,
) -> None:
    """Copy images and the media library's rows from one store to another: disk or bucket.

    A settings file has NAME=value lines, as systemd and Docker read them; nothing else is believed
    for that side. What is there with the same hash is skipped, so run it again after an
    interruption, or for what has come since. The source is not changed.

    Ends with 0 if all is there, 1 if something is not, 2 if it could not run, 3 if it was
    stopped, and 5 if a store or a database is out of reach.
    """
    from stillroom.paths import ImagePrefix, KeyPrefix

    if source is None and target is None:
        raise click.UsageError("say --from, --to or both: a settings file, or a data directory")
    prefixes = [KeyPrefix.of_images(ImagePrefix.parse(prefix))]
    if not prefix:
        prefixes.append(KeyPrefix.of_library())
    run = _Run(
        _settings(source),
        _settings(target),
        prefixes,
        overwrite=overwrite,
        extra=extra,
        rate=rate,
        dry_run=dry_run,
        as_json=as_json,
    )
    with contextlib.ExitStack() as opened:
        if report is not None:
            run.report = opened.enter_context(_opened_report(Path(report)))
        status = _loop(run.run())
    sys.exit(status)


def _opened_report(file: Path) -> IO[str]:
    """Open it for more lines; the last one of a run that was killed may have no end."""
    report = file.open("a+b")
    if report.tell() and (report.seek(-1, os.SEEK_END), report.read())[1] != b"\n":
        report.write(b"\n")
    return io.TextIOWrapper(report, encoding="utf-8")


def _settings(where: Path | None) -> "Settings":
    from stillroom.settings import Settings

    if where is None:
        return Settings.read()
    return Settings.of_values(data_dir=where) if where.is_dir() else Settings.read_file(where)


def _loop(main: Any) -> int:  # noqa: ANN401  (a coroutine; uvloop has its own name for it)
    import uvloop

    status: int = uvloop.run(main)
    return status


@dataclass
class _Run:
    """One migration, and what is said of it."""

    source: "Settings"
    target: "Settings"
    prefixes: "Sequence[KeyPrefix]"
    overwrite: bool
    extra: bool
    rate: float | None
    dry_run: bool
    as_json: bool
    report: IO[str] | None = None
    followed: "TransferStats | None" = None
    _lines: list[str] = field(default_factory=list)

    async def run(self) -> int:
        """Run to the end, or until a signal; the exit status."""
        from stillroom.assembly import opened_inspection
        from stillroom.maintenance.migration import Migration, MigrationStats
        from stillroom.maintenance.verify import Pace

        is_one_store = _is_one_store(self.source, self.target)
        if is_one_store and (len(self.prefixes) == 1 or _is_one_database(self.source, self.target)):
            raise ConfigurationError("--from and --to are the same store: nothing is to be copied")
        tally = MigrationStats()
        async with opened_inspection(self.source) as source:
            await source.check()
            async with self._opened_target() as target:
                migration = Migration(
                    source,
                    target,
                    *self.prefixes,
                    pace=Pace(self.rate),
                    tally=tally,
                    overwrite=self.overwrite,
                    dry_run=self.dry_run,
                    tell=self._tell,
                )
                return await self._run(migration, source, tally, rows_alone=is_one_store)

    @contextlib.asynccontextmanager
    async def _opened_target(self) -> "AsyncIterator[Target | None]":
        from stillroom.assembly import opened_inspection, opened_storage
        from stillroom.maintenance.migration import Target
        from stillroom.storage.choose import EVERY_IMAGE, is_begun

        if self.dry_run and not is_begun(self.target.storage):
            yield None
            return
        async with opened_storage(self.target, EVERY_IMAGE) as storage:
            await storage.check()
            async with opened_inspection(self.target) as inspection:
                yield Target(storage, inspection)

    async def _run(
        self,
        migration: "Migration",
        source: "Inspection",
        tally: "MigrationStats",
        *,
        rows_alone: bool,
    ) -> int:
        task = asyncio.ensure_future(self._work(migration, rows_alone=rows_alone))
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, task.cancel)
        async with shown(source, self.prefixes) as display:
            while not task.done():
                await asyncio.wait([task], timeout=LOOK_EVERY_S)
                self._say()
                display.show(tally)
        if task.cancelled():
            self._end(tally, finished=False)
            return STOPPED
        error = task.exception()
        self._end(tally, finished=error is None)
        if isinstance(error, BackendUnavailable):
            click.echo(f"stillroom: {error}; the same command goes on later", err=True)
            return code_of(error)
        if error is not None:
            raise error
        wrong = tally.wrong + (self.followed.wrong if self.followed else 0)
        return FAILED if wrong else 0

    async def _work(self, migration: "Migration", *, rows_alone: bool) -> None:
        if not rows_alone:
            await migration.run()
            if self.extra:
                await migration.find_extras()
        if len(self.prefixes) == 1:
            return  # a part of the images: the library stays as it is
        from stillroom.maintenance.row_transfer import TransferStats, follow

        self.followed = TransferStats()
        await follow(
            migration, self.source.rows, self.target.rows, self.followed, dry_run=self.dry_run
        )

    # Saying ------------------------------------------------------------------------------

    def _tell(self, event: "ProgressEvent") -> None:
        if self.report is not None:
            self.report.write(f"{json.dumps(asdict(event))}\n")
        if self.as_json:
            return
        if event.outcome in _WRITTEN:
            self._lines.append(f"{event.outcome}  {event.name}: {event.detail}")
        elif self.dry_run and event.outcome != "same":
            what = "copy" if event.outcome == "copied" else "replace"
            self._lines.append(f"would {what}  {event.name}")

    def _say(self) -> None:
        """Print what has come together; a bar is drawn again below."""
        if self.report is not None:
            self.report.flush()
        if self._lines and sys.stderr.isatty():
            click.echo("\r\033[K", err=True, nl=False)
        for line in self._lines:
            click.echo(line)
        self._lines.clear()

    def _end(self, tally: "MigrationStats", *, finished: bool) -> None:
        self._say()
        if self.as_json:
            click.echo(json.dumps(self._document(tally, finished=finished), indent=1))
            return
        if self.followed is not None:
            for left in self.followed.left_out:
                click.echo(f"left out  {left.resource_id} {left.name}: {left.detail}")
        counts = ", ".join(f"{count:,} {outcome}" for outcome, count in tally.counts.items())
        dry = "it would be " if self.dry_run else ""
        stopped = "" if finished else "; stopped, and the same command goes on"
        click.echo(
            f"{counted(tally.images, 'image')}: {dry}{counts or 'nothing to copy'}, "
            f"{size_text(tally.size)}{self._rows_said()}{stopped}"
        )

    def _rows_said(self) -> str:
        rows = self.followed
        if rows is None or not rows.resources:
            return ""
        counts = [f"{count:,} {taken}" for taken, count in rows.counts.items()]
        counts += [f"{rows.wrong:,} left out"] if rows.wrong else []
        marks = f", {rows.marks:,} marks" if rows.marks else ""
        return f"; {rows.resources:,} resources: {', '.join(counts)}{marks}"

    def _document(self, tally: "MigrationStats", *, finished: bool) -> dict[str, Any]:
        rows = self.followed
        return {
            "finished": finished,
            "dry_run": self.dry_run,
            "images": tally.images,
            "bytes": tally.size,
            "counts": tally.counts,
            "problems": [asdict(event) for event in tally.problems],
            "problems_left_out": tally.event_of - len(tally.problems),
            "rows": None
            if rows is None
            else {
                "resources": rows.resources,
                "counts": rows.counts,
                "marks": rows.marks,
                "dead_letters": rows.dead_letters,
                "taken_back": rows.taken_back,
                "left_out": [
                    {**asdict(left), "resource_id": str(left.resource_id)} for left in rows.left_out
                ],
                "left_out_count": rows.wrong,
            },
        }


def _is_one_store(source: "Settings", target: "Settings") -> bool:
    from stillroom.storage.choose import is_same_place

    return is_same_place(source.storage, target.storage)


def _is_one_database(source: "Settings", target: "Settings") -> bool:
    from stillroom.maintenance.row_transfer import is_same

    return is_same(source.rows, target.rows)
