"""Commands `stillroom media ingest`, `sweep`, `orphans`, `dead-letters` and `migrate`."""

import asyncio
import json
import sys
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Final

import click

from stillroom.cli.group import Group
from stillroom.cli.progress import counted
from stillroom.cli.resources import heal, list_resources, show, tag
from stillroom.errors import StillroomError

if TYPE_CHECKING:
    from stillroom.maintenance.orphans import Mismatch
    from stillroom.media.resource import DeadLetter
    from stillroom.media.rows.dead_letters import DeadLetterRows
    from stillroom.settings import Settings

_PAGE: Final = 1000
_PROGRESS_S: Final = 5.0

_DATA_DIR = click.option(
    "--data-dir", help="The data directory.  [STILLROOM_DATA_DIR, ./stillroom-data]"
)

_AS_JSON = click.option("--json", "as_json", is_flag=True, help="One JSON object per line.")

_EVERYTHING = click.option("--all", "everything", is_flag=True, help="All dead letters.")


@click.group(cls=Group)
def media() -> None:
    """Manage the media library: resources, ingest, sweep, orphans, dead letters, migrations."""


for command in (list_resources, show, tag, heal):
    media.add_command(command)


@media.command()
@click.argument("keys", nargs=-1, required=True, metavar="KEY...")
@click.option("--keep", is_flag=True, help="Record them at their present keys, without copying.")
@_AS_JSON
@_DATA_DIR
def ingest(keys: tuple[str, ...], *, keep: bool, as_json: bool, data_dir: str | None) -> None:
    """Take compute results into the media library, and print the new resources.

    A KEY is an image's path, with or without `compute/` before it. Each line has the
    resource's id, its storage key and the KEY, in order. Failures go to standard error, and the
    exit status is then 1.
    """
    from stillroom.settings import Settings

    settings = Settings.read(data_dir=data_dir)
    if not asyncio.run(_ingest(settings, keys, relocate=not keep, as_json=as_json)):
        sys.exit(1)


async def _ingest(
    settings: "Settings", keys: Sequence[str], *, relocate: bool, as_json: bool
) -> bool:
    from stillroom.assembly import opened_library
    from stillroom.paths import StorageKey, path_of_key

    all_well = True
    async with opened_library(settings) as library:
        for text in keys:
            try:
                key = StorageKey.of_image(path_of_key(_key_of(text), at=("argument", "KEY")))
                resource = await library.service.ingest_from_storage_key(key, relocate=relocate)
            except StillroomError as error:
                click.echo(f"stillroom: {text}: {error}", err=True)
                all_well = False
            else:
                known = {"id": str(resource.id), "storage_key": resource.storage_key.text}
                line = f"{resource.id}  {resource.storage_key.text}  {text}"
                click.echo(json.dumps({**known, "key": text}) if as_json else line)
    return all_well


def _key_of(text: str) -> str:
    """Return the storage key for a KEY argument, in which the prefix `compute/` is optional."""
    from stillroom.paths import COMPUTE_PREFIX

    return text if text.startswith(COMPUTE_PREFIX) else COMPUTE_PREFIX + text


@media.command()
@click.option("--dry-run", is_flag=True, help="List due deletions without executing them.")
@_AS_JSON
@_DATA_DIR
def sweep(*, dry_run: bool, as_json: bool, data_dir: str | None) -> None:
    """Delete what is due now, as the server does every STILLROOM_SWEEP_INTERVAL_SECONDS.

    With rules of retention it also marks what has expired, if the next round is due; a
    million images take an hour. It is safe to run beside servers and other sweeps. The exit status
    is 1 if a deletion failed.
    """
    from stillroom.settings import Settings

    settings = Settings.read(data_dir=data_dir)
    if not asyncio.run(_sweep(settings, dry_run=dry_run, as_json=as_json)):
        sys.exit(1)


async def _sweep(settings: "Settings", *, dry_run: bool, as_json: bool) -> bool:
    from stillroom.assembly import opened_library
    from stillroom.media.expiry import never_stops

    async with opened_library(settings) as library:
        if dry_run:
            marks, after = (await library.database.rows()).deletions, None
            while page := await marks.due(after=after, limit=_PAGE):
                for mark in page:
                    since = mark.due_at.isoformat(timespec="seconds")
                    key = mark.storage_key.text
                    known = {"due_at": since, "reason": mark.reason, "storage_key": key}
                    line = f"{since}  {mark.reason}  {key}"
                    click.echo(json.dumps(known) if as_json else line)
                after = page[-1]
            return True
        progress = _StatusLine()
        if library.expiry is not None:
            await library.expiry.mark_expired(never_stops)
        swept = await library.sweeper.sweep(
            lambda swept: progress.show(swept.deleted + swept.gone + swept.kept, "marks")
        )
    told = (
        f"deleted {swept.deleted}, already gone {swept.gone}, kept {swept.kept}, failed "
        f"{swept.failed + swept.dead_lettered}; unneeded copies deleted {swept.copies}, empty "
        f"folders removed {swept.folders}"
    )
    click.echo(json.dumps(asdict(swept)) if as_json else told)
    return not swept.failed + swept.dead_lettered


@media.command()
@click.option(
    "--delete", is_flag=True, help="Delete the orphans. Without this option they are only listed."
)
@click.option(
    "--most-percent",
    "max_percent",
    type=click.FloatRange(0, 100),
    default=10,
    show_default=True,
    help="Delete nothing if a larger share of the stored images are orphans.",
)
@_AS_JSON
@_DATA_DIR
def orphans(*, delete: bool, max_percent: float, as_json: bool, data_dir: str | None) -> None:
    """Compare the library's stored images with its rows, and print the mismatches.

    `orphan` is an image without a row; `young` is the same, but too new to be sure; `foreign` is
    a file that the library has not made and never deletes; `missing` is a resource without its
    image. The last line has their numbers. The exit status is 1 if a mismatch is left, and 2 if
    the scan failed or is implausible.
    """
    from stillroom.settings import Settings

    settings = Settings.read(data_dir=data_dir)
    scanning = _orphans(settings, delete=delete, max_percent=max_percent, as_json=as_json)
    if not asyncio.run(scanning):
        sys.exit(1)


async def _orphans(
    settings: "Settings", *, delete: bool, max_percent: float, as_json: bool
) -> bool:
    from stillroom.assembly import opened_library
    from stillroom.maintenance.orphans import OrphanScan, ScanStats

    scanned, progress = ScanStats(), _StatusLine()

    def report(mismatch: "Mismatch") -> None:
        progress.show(scanned.objects, "images")
        known = {"kind": mismatch.kind, "storage_key": mismatch.key}
        click.echo(json.dumps(known) if as_json else f"{mismatch.kind}  {mismatch.key}")

    async with opened_library(settings) as library:
        scan = OrphanScan(library.storage, library.database, grace=settings.deletion_grace)
        failed = 0
        if delete:
            await scan.delete(report, scanned, max_percent=max_percent)
            swept = await library.sweeper.sweep()
            failed = swept.failed + swept.dead_lettered
        else:
            await scan.report(report, scanned)
    told = (
        f"{counted(scanned.objects, 'image')}, {counted(scanned.resources, 'resource')}: "
        f"orphans {scanned.orphans}, young {scanned.young}, foreign {scanned.foreign}, "
        f"missing {scanned.missing}" + (f"; deletions failed {failed}" if delete else "")
    )
    click.echo(json.dumps({**asdict(scanned), "failed": failed}) if as_json else told)
    left = failed if delete else scanned.orphans
    return not left + scanned.foreign + scanned.missing


class _StatusLine:
    """Progress line on standard error, printed every few seconds."""

    def __init__(self) -> None:
        self._shown_at = time.monotonic()

    def show(self, number: int, of_what: str) -> None:
        """Print the progress if it has not been printed in the last few seconds."""
        if time.monotonic() - self._shown_at >= _PROGRESS_S:
            self._shown_at = time.monotonic()
            click.echo(f"{number} {of_what} …", err=True)


class _DeadLetters(Group):
    """Command group that also accepts `list`, the former name of its command `ls`."""

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return the command with this name, or None."""
        return super().get_command(ctx, "ls" if cmd_name == "list" else cmd_name)


@media.group("dead-letters", cls=_DeadLetters)
def dead_letters() -> None:
    """List, retry or drop dead letters: deletions that failed for good."""


@dead_letters.command("ls")
@_AS_JSON
@_DATA_DIR
def list_dead_letters(*, as_json: bool, data_dir: str | None) -> None:
    """List dead letters, newest first: id, time, attempts, reason, key and error."""
    from stillroom.settings import Settings

    asyncio.run(_list_dead_letters(Settings.read(data_dir=data_dir), as_json=as_json))


@dead_letters.command("retry")
@click.argument("ids", nargs=-1, type=click.UUID, metavar="[ID...]")
@_EVERYTHING
@_AS_JSON
@_DATA_DIR
def retry_dead_letters(
    ids: tuple[uuid.UUID, ...], *, everything: bool, as_json: bool, data_dir: str | None
) -> None:
    """Make dead letters due again; all checks are repeated before anything is deleted."""
    settings = _settings_for(ids, everything=everything, data_dir=data_dir)
    _change_dead_letters(settings, ids, lambda rows, one: rows.retry(one), as_json=as_json)


@dead_letters.command("drop")
@click.argument("ids", nargs=-1, type=click.UUID, metavar="[ID...]")
@_EVERYTHING
@_AS_JSON
@_DATA_DIR
def drop_dead_letters(
    ids: tuple[uuid.UUID, ...], *, everything: bool, as_json: bool, data_dir: str | None
) -> None:
    """Remove dead letters; their images stay."""
    settings = _settings_for(ids, everything=everything, data_dir=data_dir)
    _change_dead_letters(settings, ids, lambda rows, one: rows.drop(one), as_json=as_json)


async def _list_dead_letters(settings: "Settings", *, as_json: bool) -> None:
    from stillroom.assembly import opened_library

    async with opened_library(settings) as library:
        async for dead_letter in _dead_letters((await library.database.rows()).dead_letters):
            when = dead_letter.failed_at.isoformat(timespec="seconds")
            if as_json:
                known = {
                    "id": str(dead_letter.id),
                    "failed_at": when,
                    "attempts": dead_letter.attempts,
                    "reason": dead_letter.reason,
                    "storage_key": dead_letter.storage_key.text,
                    "last_error": dead_letter.last_error,
                }
                click.echo(json.dumps(known))
                continue
            click.echo(
                f"{dead_letter.id}  {when}  {dead_letter.attempts}  {dead_letter.reason}  "
                f"{dead_letter.storage_key.text}  {dead_letter.last_error}"
            )


async def _dead_letters(rows: "DeadLetterRows") -> AsyncIterator["DeadLetter"]:
    after = None
    while page := await rows.page(after=after, limit=_PAGE):
        for dead_letter in page:
            yield dead_letter
        after = page[-1].id


def _settings_for(
    ids: Sequence[uuid.UUID], *, everything: bool, data_dir: str | None
) -> "Settings":
    from stillroom.settings import Settings

    if bool(ids) == everything:
        raise click.UsageError("pass the ids, or --all")
    return Settings.read(data_dir=data_dir)


def _change_dead_letters(
    settings: "Settings",
    ids: Sequence[uuid.UUID],
    change: "Callable[[DeadLetterRows, uuid.UUID], Awaitable[DeadLetter]]",
    *,
    as_json: bool,
) -> None:
    """Call `change` for each dead letter and print it. Exit with 1 if an id does not exist."""
    if not asyncio.run(_each_dead_letter(settings, ids, change, as_json=as_json)):
        sys.exit(1)


async def _each_dead_letter(
    settings: "Settings",
    ids: Sequence[uuid.UUID],
    change: "Callable[[DeadLetterRows, uuid.UUID], Awaitable[DeadLetter]]",
    *,
    as_json: bool,
) -> bool:
    from stillroom.assembly import opened_library
    from stillroom.errors import DeadLetterNotFound

    all_well = True
    async with opened_library(settings) as library:
        rows = (await library.database.rows()).dead_letters
        wanted = ids or [dead_letter.id async for dead_letter in _dead_letters(rows)]
        for dead_letter_id in wanted:
            try:
                dead_letter = await change(rows, dead_letter_id)
            except DeadLetterNotFound as error:
                click.echo(f"stillroom: {dead_letter_id}: {error}", err=True)
                all_well = False
            else:
                known = {"id": str(dead_letter.id), "storage_key": dead_letter.storage_key.text}
                click.echo(json.dumps(known) if as_json else "  ".join(known.values()))
    return all_well


@media.command()
@_AS_JSON
@_DATA_DIR
def migrate(*, as_json: bool, data_dir: str | None) -> None:
    """Migrate the library's tables to the newest version, as the server does when it starts."""
    from stillroom.media.migrations import migrate as run
    from stillroom.settings import Settings

    before, after = run(Settings.read(data_dir=data_dir).rows)
    told = f"{before or 'none'} -> {after}" if before != after else f"{after}, up to date"
    click.echo(json.dumps({"before": before, "after": after}) if as_json else told)
