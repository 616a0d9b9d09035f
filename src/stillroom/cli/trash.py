"""Command `stillroom trash`: list, restore and empty the trash of a server."""

import sys

import click

from stillroom.cli.options import Group, flag, json_option
from stillroom.cli.output import counted, echo_record, size_text, time_text
from stillroom.cli.server_options import ServerCommand, open_store


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
            times = f"{time_text(item.deleted_at):20}  {time_text(item.purge_at):20}"
            line = f"{times}  {size_text(item.size):>9}  {name}"
            echo_record(item, line, as_json=as_json)


@trash.command(cls=ServerCommand)
@click.argument("paths", nargs=-1, required=True)
def restore(paths: tuple[str, ...]) -> None:
    """Restore the image or run that was last deleted under each path or folder."""
    with open_store() as store:
        for path in paths:
            store.undelete(path.rstrip("/"))
            click.echo(f"restored {path}", err=True)


@trash.command(cls=ServerCommand)
@click.argument("prefix", default="")
@flag("-y", "--yes", help="Do not ask.")
def empty(prefix: str, *, yes: bool) -> None:
    """Delete everything in the trash for good or, with PREFIX, only paths that begin with it."""
    with open_store() as store:
        items = list(store.trash(prefix))
        number = counted(len(items), "item")
        if not yes:
            if not sys.stdin.isatty():
                raise click.UsageError(f"{number} would be deleted for good: add --yes to confirm")
            click.confirm(f"Delete {number} for good?", abort=True)
        for item in items:
            store.purge(item)
        click.echo(f"{number} deleted for good", err=True)
