"""Command `stillroom migrate`, which copies images and database rows between two stores."""

import contextlib
import functools
import io
import json
import os
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

import click

from stillroom.cli.display import key_prefixes, run_until_signal
from stillroom.cli.exits import FAILED, STOPPED, code_of
from stillroom.cli.options import DRY_RUN, PREFIX, RATE, flag, json_option, rows_config
from stillroom.cli.output import counted, erase_line, size_text
from stillroom.errors import BackendUnavailable, ConfigurationError
from stillroom.paths import KeyPrefix, StorageKey

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Sequence

    from stillroom.maintenance.migration import Migration, Target
    from stillroom.maintenance.migration_report import MigrationStats, ProgressEvent
    from stillroom.maintenance.row_transfer import TransferStats
    from stillroom.settings import AllSettings

_WRITTEN: Final = frozenset(("differs", "failed", "stray", "extra"))
"""Outcomes that are printed with the name of the image. Other outcomes are only counted."""

_store_option = functools.partial(
    click.option,
    type=click.Path(exists=True, path_type=Path),
    help="Settings file or data directory.  [the environment]",
)


@click.command()
@_store_option("--from", "source")
@_store_option("--to", "target")
@PREFIX
@flag("--overwrite", help="Replace images that differ even if the target's are newer.")
@flag("--extra", help="Also list the images that only the target has.")
@RATE
@DRY_RUN
@json_option("One JSON document on standard output.")
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
    report: str | None,
    **options: Any,  # noqa: ANN401  (see `_Run`)
) -> None:
    """Copy images and the media library's rows from one store (disk or bucket) to another.

    A settings file has NAME=value lines, as for systemd and Docker. It replaces the environment.
    Images that the target has with the same hash are skipped, so repeat the command to resume it or
    to copy new images. The source is not changed.

    The exit status is 0 if everything was copied, 1 if something was not, 2 if it could not run,
    3 if it was stopped, and 5 if a store or a database is unreachable.
    """
    import uvloop

    if source is None and target is None:
        raise click.UsageError("pass --from, --to or both, with a settings file or data directory")
    run = _Run(_settings(source), _settings(target), key_prefixes(prefix), **options)
    with contextlib.ExitStack() as opened:
        if report is not None:
            run.report = opened.enter_context(_opened_report(Path(report)))
        status: int = uvloop.run(run.run())
    sys.exit(status)


def _opened_report(file: Path) -> IO[str]:
    report = file.open("a+b")
    if report.tell() and (report.seek(-1, os.SEEK_END), report.read())[1] != b"\n":
        report.write(b"\n")
    return io.TextIOWrapper(report, encoding="utf-8")


def _settings(where: Path | None) -> "AllSettings":
    from stillroom.settings import AllSettings

    if where is None:
        return AllSettings.read()
    return AllSettings.of_values(data_dir=where) if where.is_dir() else AllSettings.read_file(where)


@dataclass
class _Run:
    source: "AllSettings"
    target: "AllSettings"
    prefixes: "Sequence[KeyPrefix]"
    overwrite: bool
    extra: bool
    rate: float | None
    dry_run: bool
    as_json: bool
    report: IO[str] | None = None
    row_stats: "TransferStats | None" = None
    in_trash: int = 0  # files of the source that are not copied
    _lines: list[str] = field(default_factory=list)

    async def run(self) -> int:
        from stillroom.assembly import opened_inspection
        from stillroom.maintenance.migration import Migration
        from stillroom.maintenance.migration_report import MigrationStats
        from stillroom.maintenance.rate_limiter import RateLimiter
        from stillroom.maintenance.row_transfer import is_same as is_same_database

        is_one_store = self.source.storage.place == self.target.storage.place
        if is_one_store and (
            len(self.prefixes) == 1
            or is_same_database(rows_config(self.source), rows_config(self.target))
        ):
            raise ConfigurationError("--from and --to are the same store: there is nothing to copy")
        stats = MigrationStats()
        async with contextlib.AsyncExitStack() as opened:
            source = await opened.enter_async_context(opened_inspection(self.source))
            await source.check()
            migration = Migration(
                source,
                await self._open_target(opened),
                self.prefixes,
                rate_limit=RateLimiter(self.rate),
                stats=stats,
                overwrite=self.overwrite,
                dry_run=self.dry_run,
                on_event=self._on_event,
            )
            work = self._work(migration, rows_alone=is_one_store)
            task = await run_until_signal(work, source, self.prefixes, stats, self._print_lines)
            return self._status_of(task, stats)

    async def _open_target(self, opened: contextlib.AsyncExitStack) -> "Target | None":
        from stillroom.assembly import opened_inspection, opened_storage
        from stillroom.maintenance.inspection.choose import has_store
        from stillroom.maintenance.migration import Target
        from stillroom.store.choose import EVERY_IMAGE

        if self.dry_run and not has_store(self.target.storage):
            return None
        storage = await opened.enter_async_context(opened_storage(self.target, EVERY_IMAGE))
        await storage.check()
        return Target(storage, await opened.enter_async_context(opened_inspection(self.target)))

    def _status_of(self, task: "asyncio.Task[object]", stats: "MigrationStats") -> int:
        if task.cancelled():
            self._end(stats, finished=False)
            return STOPPED
        error = task.exception()
        self._end(stats, finished=error is None)
        if isinstance(error, BackendUnavailable):
            click.echo(f"stillroom: {error}; run the same command again later", err=True)
            return code_of(error)
        if error is not None:
            raise error
        return FAILED if stats.wrong or (self.row_stats and self.row_stats.wrong) else 0

    async def _work(self, migration: "Migration", *, rows_alone: bool) -> None:
        if not rows_alone:
            await migration.run()
            if self.extra:
                await migration.find_extras()
        if len(self.prefixes) == 1:  # only some images are migrated, so rows are not
            return
        from stillroom.maintenance.row_transfer import TransferStats, transfer_rows

        self.row_stats = TransferStats()
        rows = rows_config(self.source), rows_config(self.target)
        await transfer_rows(migration, *rows, self.row_stats)
        if not rows_alone:
            async for entry in migration.source.walk(KeyPrefix(migration.source.trash_prefix), ""):
                self.in_trash += isinstance(entry, StorageKey)

    def _on_event(self, event: "ProgressEvent") -> None:
        if self.report is not None:
            self.report.write(f"{json.dumps(asdict(event))}\n")
        if self.as_json:
            return
        if event.outcome in _WRITTEN:
            self._lines.append(f"{event.outcome}  {event.name}: {event.detail}")
        elif self.dry_run and event.outcome != "same":
            what = "copy" if event.outcome == "copied" else "replace"
            self._lines.append(f"would {what}  {event.name}")

    def _print_lines(self) -> None:
        if self.report is not None:
            self.report.flush()
        if self._lines:
            erase_line()
        for line in self._lines:
            click.echo(line)
        self._lines.clear()

    def _end(self, stats: "MigrationStats", *, finished: bool) -> None:
        self._print_lines()
        if self.as_json:
            click.echo(json.dumps(self._document(stats, finished=finished), indent=1))
            return
        if self.row_stats is not None:
            for left in self.row_stats.left_out:
                click.echo(f"left out  {left.resource_id} {left.name}: {left.detail}")
        counts = ", ".join(f"{count:,} {outcome}" for outcome, count in stats.counts.items())
        dry = "it would be " if self.dry_run else ""
        stopped = "" if finished else "; stopped; run the same command again to resume"
        click.echo(
            f"{counted(stats.images, 'image')}: {dry}{counts or 'nothing to copy'}, "
            f"{size_text(stats.size)}{self._rows_summary()}{stopped}"
        )
        if self.in_trash:
            click.echo(
                f"not copied: {counted(self.in_trash, 'file')} in the trash of the source; "
                "restore there what you need, then run the same command again",
                err=True,
            )

    def _rows_summary(self) -> str:
        rows = self.row_stats
        if rows is None or not rows.resources:
            return ""
        counts = [f"{count:,} {taken}" for taken, count in rows.counts.items()]
        counts += [f"{rows.wrong:,} left out"] if rows.wrong else []
        marks = f", {counted(rows.marks, 'mark')}" if rows.marks else ""
        return f"; {counted(rows.resources, 'resource')}: {', '.join(counts)}{marks}"

    def _document(self, stats: "MigrationStats", *, finished: bool) -> dict[str, Any]:
        rows = self.row_stats
        return {
            "finished": finished,
            "dry_run": self.dry_run,
            "images": stats.images,
            "bytes": stats.size,
            "counts": stats.counts,
            "problems": [asdict(event) for event in stats.problems],
            "problems_left_out": stats.reported - len(stats.problems),
            "not_copied_from_trash": self.in_trash,
            "rows": rows
            and {
                "resources": rows.resources,
                "counts": rows.counts,
                "marks": rows.marks,
                "dead_letters": rows.dead_letters,
                "taken_back": rows.withdrawn,
                "left_out": [
                    {**asdict(left), "resource_id": str(left.resource_id)} for left in rows.left_out
                ],
                "left_out_count": rows.wrong,
            },
        }
