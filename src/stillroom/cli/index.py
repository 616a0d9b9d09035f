"""Command `stillroom index`, with which operators maintain the search index."""

import asyncio
import json
import sys
import time
from typing import TYPE_CHECKING

import click

from stillroom.cli.exits import FAILED
from stillroom.cli.group import Group
from stillroom.cli.progress import counted

if TYPE_CHECKING:  # commands import the server's libraries only when they run
    from stillroom.media.index.comparing import Healed
    from stillroom.settings import Settings


@click.group(cls=Group)
def index() -> None:
    """Maintain the search index, with the settings of the server."""


@index.command()
@click.option("--restart", is_flag=True, help="Do not resume an interrupted run; start over.")
@click.option("--json", "as_json", is_flag=True, help="A JSON object with the numbers.")
@click.option("--data-dir", help="The data directory.  [STILLROOM_DATA_DIR, ./stillroom-data]")
def rebuild(*, restart: bool, as_json: bool, data_dir: str | None) -> None:
    """Read every image again and write its search entry.

    Servers add missing entries by themselves. Run this after an upgrade that reads more formats,
    or if another tool has replaced images in the bucket. It is safe while servers run, and it
    resumes if it was interrupted.
    """
    from stillroom.settings import Settings

    settings = Settings.read(data_dir=data_dir)
    if not asyncio.run(_rebuild(settings, restart=restart, as_json=as_json)):
        click.echo("stillroom: another process is rebuilding the index", err=True)
        sys.exit(FAILED)


async def _rebuild(settings: "Settings", *, restart: bool, as_json: bool) -> bool:
    from stillroom.assembly import opened_library
    from stillroom.media.index.healing import never_pauses

    began = said = time.monotonic()

    def show(healed: "Healed") -> None:
        nonlocal said
        now = time.monotonic()
        every_s = 0.2 if sys.stderr.isatty() else 10
        if now - said >= every_s:
            said = now
            end = "\r" if sys.stderr.isatty() else "\n"
            click.echo(
                f"{_counts(healed, now - began)}, at {healed.after!r}{end}", err=True, nl=False
            )

    async with opened_library(settings) as library:
        healed = await library.index_healing.rebuild(never_pauses, restart=restart, progress=show)
    if healed is None:
        return False
    known = {"images": healed.images, "written": healed.written, "removed": healed.removed}
    told = f"{_counts(healed, time.monotonic() - began)}; {healed.removed} did not exist any more"
    click.echo(json.dumps(known) if as_json else told)
    return True


def _counts(healed: "Healed", seconds: float) -> str:
    rate = healed.images / max(seconds, 0.001)
    return f"{counted(healed.images, 'image')}, {rate:,.0f} a second"
