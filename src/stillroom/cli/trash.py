"""Command `stillroom trash`: list, restore and empty the trash of a server."""

import re
from functools import partial
from typing import Final

import click

from stillroom.cli import output
from stillroom.cli.options import CONCURRENCY, DRY_RUN, Group, flag, json_option
from stillroom.cli.progress import Transfer
from stillroom.cli.selection import folder_of
from stillroom.cli.server_options import ServerCommand, open_store
from stillroom.client import ImageStore
from stillroom.client.threads import Workers, outcomes_of
from stillroom.errors import TrashNotFound
from stillroom.wire.trash import TrashedImage

_ID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@click.group(cls=Group)
def trash() -> None:
    """Manage the trash: deleted images and runs, which can be restored for a while."""


@trash.command("ls", cls=ServerCommand)
@click.argument("prefix", default="")
@json_option("JSON, with all facts.")
def list_trash(prefix: str, *, as_json: bool) -> None:
    """List what is in the trash, newest first: time of the deletion, expiration, size, path."""
    with open_store() as store:
        for item in store.trash(prefix):
            name = item.path if item.count is None else f"{item.path}/ ({item.count})"
            times = f"{output.time_text(item.deleted_at):20}  {output.time_text(item.purge_at):20}"
            line = f"{times}  {output.size_text(item.size):>9}  {name}"
            output.echo_record(item, line, as_json=as_json)


@trash.command(cls=ServerCommand)
@click.argument("paths", nargs=-1, required=True)
@flag("-r", "--recursive", help="Each path is a folder; restore everything from it.")
@CONCURRENCY
@DRY_RUN
@json_option("One JSON object per line: path, result and size.")
def restore(
    paths: tuple[str, ...], *, recursive: bool, concurrency: int, dry_run: bool, as_json: bool
) -> None:
    """Restore what was last deleted from each path, or from each path in a folder (`cats/`).

    A PATH may also be an id. An image that exists is not replaced, and the exit status is then 1.
    """
    with open_store() as store:
        found: dict[str, TrashedImage] = {}
        for path in paths:
            found |= _find(store, path, is_folder=recursive or path.endswith("/"))
        if dry_run:
            for path in found:
                output.echo_result("would restore", path, as_json=as_json)
            return
        if any(item.count is not None for item in found.values()):
            concurrency = 1  # an image of a run may also be in the trash itself; the newest wins
        restores = {path: partial(store.undelete, item) for path, item in found.items()}
        sizes = {path: item.size for path, item in found.items()}
        with Transfer("restored", sizes, as_json=as_json) as transfer:
            jobs = (partial(outcomes_of, path, restore) for path, restore in restores.items())
            Workers(concurrency).run(jobs, transfer.finish)


def _find(store: ImageStore, path: str, *, is_folder: bool) -> dict[str, TrashedImage]:
    """Return what was last deleted from a path or, if nothing was, from a folder, by path.

    Images that were deleted from the folder of a run before the run are left out.
    """
    folder, exact = folder_of(path), path.rstrip("/")
    found: dict[str, TrashedImage] = {}
    runs: tuple[str, ...] = ()
    for item in store.trash("" if _ID.fullmatch(path) else exact):
        if item.id == path or (item.path == exact and not is_folder):
            return {item.path: item}
        if f"{item.path}/".startswith(folder) and not item.path.startswith(runs):
            found.setdefault(item.path, item)
            runs += () if item.count is None else (f"{item.path}/",)
    if not found:
        raise TrashNotFound(f"{path}: nothing in the trash has this path, folder or id")
    return found


@trash.command(cls=ServerCommand)
@click.argument("prefix", default="")
@flag("-y", "--yes", help="Do not ask.")
def empty(prefix: str, *, yes: bool) -> None:
    """Delete everything in the trash for good or, with PREFIX, only paths that begin with it."""
    with open_store() as store:
        items = list(store.trash(prefix))
        number = output.counted(len(items), "item")
        if items and not yes:
            output.confirm_deletion(number, " for good")
        for item in items:
            store.purge(item)
        click.echo(f"{number} deleted for good" if items else output.NOTHING_DELETED, err=True)
