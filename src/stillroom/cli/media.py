"""Commands `stillroom media ingest`, `sweep`, `orphans`, `recache`, `dead-letters`, `migrate`."""

import contextlib
import functools
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from dataclasses import asdict
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final

import click

from stillroom.cli.options import DATA_DIR, Group, flag, json_option, read_settings, with_features
from stillroom.cli.output import StatusLine, counted, echo_record
from stillroom.cli.progress import Transfer
from stillroom.cli.resources import heal, list_resources, show, tag
from stillroom.client import Outcome
from stillroom.concurrently import for_each_concurrently
from stillroom.errors import ConfigurationError, DeadLetterNotFound, ImageNotFound, StillroomError
from stillroom.paths import COMPUTE_PREFIX, StorageKey, path_of_key

if TYPE_CHECKING:
    from stillroom.features.library.feature import LibraryFeature
    from stillroom.features.library.resource import DeadLetter, MediaResource
    from stillroom.features.library.rows.dead_letters import DeadLetterRows
    from stillroom.maintenance.orphans import Mismatch
    from stillroom.store.feature import Store

_PAGE: Final = 1000
_AT_ONCE: Final = 8

_AS_JSON = json_option("One JSON object per line.")


def _options(command: Callable[..., Coroutine[Any, Any, bool | None]]) -> Callable[..., None]:
    """Add `--json` and `--data-dir` to a function whose first argument is the open library."""

    @functools.wraps(command)
    async def run(store: "Store", **options: object) -> bool | None:
        from stillroom.features.library.feature import LibraryFeature

        return await command(store.need(LibraryFeature), **options)

    return _AS_JSON(with_features(run))


@click.group(cls=Group)
def media() -> None:
    """Manage the media library: resources, ingest, sweep, orphans, dead letters, migrations."""


for command in (list_resources, show, tag, heal):
    media.add_command(command)


@media.command()
@click.argument("keys", nargs=-1, required=True, metavar="KEY...")
@flag("--keep", help="Record them at their present keys, without copying.")
@_options
async def ingest(
    library: "LibraryFeature", *, keys: tuple[str, ...], keep: bool, as_json: bool
) -> bool:
    """Add images to the media library, and print the new resources.

    A KEY is an image's path, with or without `compute/` before it. Each line of the output has the
    resource's id, its storage key and the KEY. Errors go to standard error, with exit status 1.
    """
    all_well = True
    for text in keys:
        key = text if text.startswith(COMPUTE_PREFIX) else COMPUTE_PREFIX + text
        try:
            resource = await library.service.ingest_from_storage_key(
                StorageKey.of_image(path_of_key(key, at=("argument", "KEY"))), relocate=not keep
            )
        except StillroomError as error:
            click.echo(f"stillroom: {text}: {error}", err=True)
            all_well = False
        else:
            known = {"id": str(resource.id), "storage_key": resource.storage_key.text, "key": text}
            echo_record(known, as_json=as_json)
    return all_well


@media.command()
@flag("--dry-run", help="List due deletions without executing them.")
@_AS_JSON
@with_features
async def sweep(store: "Store", *, dry_run: bool, as_json: bool) -> bool:
    """Execute all due deletions, as the server does every STILLROOM_SWEEP_INTERVAL_SECONDS.

    If there are retention rules and the next scan is due, expired images are marked for deletion
    first. This scan takes an hour for a million images. The command can run alongside servers and
    other sweeps. The exit status is 1 if a deletion failed.
    """
    from stillroom.features.library.feature import LibraryFeature

    library = store.need(LibraryFeature)
    if dry_run:
        page = None
        async for page in (await library.database.rows()).deletions.due(limit=_PAGE):
            for mark in page:
                due_at = mark.due_at.isoformat(timespec="seconds")
                key = mark.storage_key.text
                known = {"due_at": due_at, "reason": mark.reason, "storage_key": key}
                echo_record(known, as_json=as_json)
        if not page:
            click.echo("nothing is due", err=True)
        return True
    progress = StatusLine(5)
    if "retention" in store.features:
        from stillroom.features.retention.expiry import never_stops
        from stillroom.features.retention.feature import RetentionFeature

        if (expiry := store.need(RetentionFeature).expiry) is not None:
            await expiry.mark_expired(never_stops)
    swept = await library.sweeper.sweep(
        lambda swept: progress.update(f"{swept.deleted + swept.gone + swept.kept} marks …")
    )
    failed = swept.failed + swept.dead_lettered
    summary = (
        f"deleted {swept.deleted}, already gone {swept.gone}, kept {swept.kept}, failed "
        f"{failed}; unneeded copies deleted {swept.copies}, empty folders removed "
        f"{swept.folders}"
    )
    echo_record(asdict(swept), summary, as_json=as_json)
    return not failed


@media.command()
@flag("--delete", help="Delete the orphans. Without this option they are only listed.")
@click.option(
    "--most-percent",
    "max_percent",
    type=click.FloatRange(0, 100),
    default=10,
    show_default=True,
    help="Delete nothing if a larger share of the stored images are orphans.",
)
@_options
async def orphans(
    library: "LibraryFeature", *, delete: bool, max_percent: float, as_json: bool
) -> bool:
    """Compare the library's stored images with its rows, and print the mismatches.

    `orphan` is an image without a row; `young` is one that is too new to count as an orphan;
    `foreign` is a file that the library neither created nor deletes; `missing` is a row without
    its image. The last line has the number of each. The exit status is 1 if a mismatch other than
    `young` remains, and 2 if the scan failed or is implausible.
    """
    from stillroom.maintenance.orphans import OrphanScan, ScanStats

    scanned, progress, failed = ScanStats(), StatusLine(5), 0

    def report(mismatch: "Mismatch") -> None:
        progress.update(f"{scanned.objects} images …")
        echo_record({"kind": mismatch.kind, "storage_key": mismatch.key}, as_json=as_json)

    scan = OrphanScan(library.storage, library.database, grace=library.grace)
    if delete:
        await scan.delete(report, scanned, max_percent=max_percent)
        swept = await library.sweeper.sweep()
        failed = swept.failed + swept.dead_lettered
    else:
        await scan.report(report, scanned)
    summary = (
        f"{counted(scanned.objects, 'image')}, {counted(scanned.resources, 'resource')}: "
        f"orphans {scanned.orphans}, young {scanned.young}, foreign {scanned.foreign}, "
        f"missing {scanned.missing}" + (f"; deletions failed {failed}" if delete else "")
    )
    echo_record({**asdict(scanned), "failed": failed}, summary, as_json=as_json)
    left = failed if delete else scanned.orphans
    return not left + scanned.foreign + scanned.missing


@media.command()
@_options
async def recache(library: "LibraryFeature", *, as_json: bool) -> bool:
    """Set Cache-Control of the library's objects in the bucket to R2_MEDIA_CACHE_CONTROL.

    Each object is copied onto itself (one class A operation). If the command is interrupted, run
    it again: it skips objects that have this value. The exit status is 1 if an object failed.
    """
    rewrite = getattr(library.storage, "recache", None)
    if rewrite is None:
        raise ConfigurationError("only objects in a bucket have this header: set R2_ENDPOINT_URL")
    rows = await library.database.rows()
    all_well = True
    number = await rows.resources.count()
    with Transfer("rewritten", {}, as_json=as_json, number=number) as transfer:

        async def recache_one(resource: "MediaResource") -> None:
            nonlocal all_well
            key = resource.storage_key
            try:
                is_changed = key.is_media and await rewrite(key)
                outcome = Outcome(key.text, SimpleNamespace(skipped=not is_changed))
            except StillroomError as error:
                outcome, all_well = Outcome(key.text, error=error), False
            transfer.finish(outcome, 0)

        async for page in rows.resources.in_order(limit=_PAGE):
            await for_each_concurrently(recache_one, page, limit=_AT_ONCE)
            # A deletion during a copy may have been undone by it.
            copied = [resource.storage_key for resource in page if resource.storage_key.is_media]
            for key in await rows.unknown_keys(copied):
                with contextlib.suppress(ImageNotFound):
                    await library.storage.delete(key)
    return all_well


class _DeadLetters(Group):
    """Command group that also accepts `list`, the former name of its command `ls`."""

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        return super().get_command(ctx, "ls" if cmd_name == "list" else cmd_name)


@media.group("dead-letters", cls=_DeadLetters)
def dead_letters() -> None:
    """List, retry or drop dead letters: deletions, webhooks and purges that failed permanently."""


@dead_letters.command("ls")
@_options
async def list_dead_letters(library: "LibraryFeature", *, as_json: bool) -> None:
    """List dead letters, newest first: id, time, attempts, reason, key and error.

    For a webhook, the name of the endpoint and the id of the event replace reason and key. For a
    purge, the URL replaces the key.
    """
    dead_letter = None
    async for dead_letter in _dead_letters((await library.database.rows()).dead_letters):
        known = {
            "id": str(dead_letter.id),
            "failed_at": dead_letter.failed_at.isoformat(timespec="seconds"),
            "attempts": dead_letter.attempts,
            **_job_of(dead_letter),
            "last_error": dead_letter.last_error,
        }
        line = "  ".join(map(str, known.values()))
        echo_record({**known, "kind": dead_letter.kind}, line, as_json=as_json)
    if dead_letter is None:
        click.echo("there are no dead letters", err=True)


def _job_of(dead_letter: "DeadLetter") -> dict[str, object]:
    payload = dead_letter.payload
    if "url" in payload:
        return {"reason": dead_letter.kind, "url": payload["url"]}
    if "storage_key" in payload:
        return {"reason": payload["reason"], "storage_key": payload["storage_key"]}
    return {"endpoint": payload["endpoint"], "event": payload["event"]["id"]}


def _dead_letter_options(
    command: Callable[..., Coroutine[Any, Any, bool | None]],
) -> Callable[..., None]:
    everything = flag("--all", "everything", help="All dead letters.")
    ids = click.argument("ids", nargs=-1, type=click.UUID, metavar="[ID...]")
    return ids(everything(_options(command)))


@dead_letters.command("retry")
@_dead_letter_options
async def retry_dead_letters(library: "LibraryFeature", **how: Any) -> bool:  # noqa: ANN401  (see `_change`)
    """Make dead letters due again; all checks are repeated before anything is deleted."""
    return await _change(library, lambda rows, dead_letter_id: rows.retry(dead_letter_id), **how)


@dead_letters.command("drop")
@_dead_letter_options
async def drop_dead_letters(library: "LibraryFeature", **how: Any) -> bool:  # noqa: ANN401  (see `_change`)
    """Remove dead letters. Their images are kept."""
    return await _change(library, lambda rows, dead_letter_id: rows.drop(dead_letter_id), **how)


async def _dead_letters(rows: "DeadLetterRows") -> AsyncIterator["DeadLetter"]:
    after = None
    while page := await rows.page(after=after, limit=_PAGE):
        for dead_letter in page:
            yield dead_letter
        after = page[-1].id


async def _change(
    library: "LibraryFeature",
    change: "Callable[[DeadLetterRows, uuid.UUID], Awaitable[DeadLetter]]",
    *,
    ids: tuple[uuid.UUID, ...],
    everything: bool,
    as_json: bool,
) -> bool:
    if bool(ids) == everything:
        raise click.UsageError("pass either the ids of failed deletions or --all")
    all_well = True
    rows = (await library.database.rows()).dead_letters
    for dead_letter_id in ids or [letter.id async for letter in _dead_letters(rows)]:
        try:
            dead_letter = await change(rows, dead_letter_id)
        except DeadLetterNotFound as error:
            click.echo(f"stillroom: {dead_letter_id}: {error}", err=True)
            all_well = False
        else:
            *_, (name, value) = _job_of(dead_letter).items()
            echo_record({"id": str(dead_letter.id), name: value}, as_json=as_json)
    return all_well


@media.command()
@_AS_JSON
@DATA_DIR
def migrate(*, as_json: bool, data_dir: str | None) -> None:
    """Migrate the library's tables to the newest version, as the server does when it starts."""
    from stillroom.features.database.config import SqliteConfig
    from stillroom.features.database.migrations import migrate as run
    from stillroom.features.database.settings import DatabaseSettings
    from stillroom.maintenance.inspection.choose import require_store

    settings = read_settings(data_dir)
    rows = settings.section(DatabaseSettings).rows
    if isinstance(rows, SqliteConfig):  # PostgreSQL may be prepared before the store exists
        require_store(settings.storage)
    before, after = run(rows)
    line = f"{before or 'none'} -> {after}" if before != after else f"{after}, up to date"
    echo_record({"before": before, "after": after}, line, as_json=as_json)
