"""`stillroom media`: the media library at the prompt."""

import asyncio
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from stillroom.errors import StillroomError

if TYPE_CHECKING:
    from stillroom.settings import Settings

_DATA_DIR = click.option(
    "--data-dir", help="Where everything lies.  [STILLROOM_DATA_DIR, ./stillroom-data]"
)


@click.group()
def media() -> None:
    """The media library: what is worth keeping."""


@media.command()
@click.argument("keys", nargs=-1, required=True, metavar="KEY...")
@click.option("--keep", is_flag=True, help="Record them where they lie; nothing is copied.")
@_DATA_DIR
def ingest(keys: tuple[str, ...], *, keep: bool, data_dir: str | None) -> None:
    """Take compute results into the library, and print what each has become.

    A KEY is `compute/` and an image's path. For each a line with the resource's id, its new key and
    the KEY, in order; what failed is said on standard error, and the status is then 1.
    """
    from stillroom.settings import Settings

    if not asyncio.run(_ingest(Settings.read(data_dir=data_dir), keys, relocate=not keep)):
        sys.exit(1)


async def _ingest(settings: "Settings", keys: Sequence[str], *, relocate: bool) -> bool:
    from stillroom.app import opened_library
    from stillroom.paths import StorageKey, path_of_key

    all_well = True
    async with opened_library(settings) as library:
        for text in keys:
            try:
                key = StorageKey.of_image(path_of_key(text, at=("argument", "KEY")))
                resource = await library.ingest_from_storage_key(key, relocate=relocate)
            except StillroomError as error:
                click.echo(f"stillroom: {text}: {error}", err=True)
                all_well = False
            else:
                click.echo(f"{resource.id}  {resource.storage_key.text}  {text}")
    return all_well


@media.command()
@_DATA_DIR
def migrate(data_dir: str | None) -> None:
    """Bring the library's tables to the newest form; the server does the same when it starts."""
    from stillroom.media.migrations import migrate as run
    from stillroom.settings import Settings

    before, after = run(Settings.read(data_dir=data_dir).rows)
    click.echo(f"{before or 'none'} -> {after}" if before != after else f"{after}, up to date")
