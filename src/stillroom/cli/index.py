"""Command `stillroom index`, with which operators maintain the search index."""

import time
from typing import TYPE_CHECKING

import click

from stillroom.cli.group import Group
from stillroom.cli.options import DATA_DIR, asynchronous, json_option, read_settings
from stillroom.cli.output import StatusLine, counted, echo_record

if TYPE_CHECKING:  # commands import the server's libraries only when they run
    from stillroom.features.search.comparing import Healed


@click.group(cls=Group)
def index() -> None:
    """Maintain the search index, with the settings of the server."""


@index.command()
@click.option("--restart", is_flag=True, help="Do not resume an interrupted run; start over.")
@json_option("A JSON object with the numbers.")
@DATA_DIR
@asynchronous
async def rebuild(*, restart: bool, as_json: bool, data_dir: str | None) -> bool:
    """Read every image again and write its search entry.

    Servers add missing entries by themselves. Run this after an upgrade to a version that reads
    more formats, or if another tool has replaced images in the bucket. It can run alongside
    servers, and it resumes after an interruption.
    """
    from stillroom.assembly import opened_features
    from stillroom.features.search.feature import SearchFeature
    from stillroom.features.search.healing import never_pauses

    settings = read_settings(data_dir)
    began, status_line = time.monotonic(), StatusLine(10, redrawn="{}\r")

    def counts(healed: "Healed") -> str:
        rate = healed.images / max(time.monotonic() - began, 0.001)
        return f"{counted(healed.images, 'image')}, {rate:,.0f} a second"

    def show(healed: "Healed") -> None:
        status_line.update(f"{counts(healed)}, at {healed.after!r}")

    async with opened_features(settings) as store:
        healing = store.need(SearchFeature).healing
        healed = await healing.rebuild(never_pauses, restart=restart, progress=show)
    if healed is None:
        click.echo("stillroom: another process is rebuilding the index", err=True)
        return False
    known = {"images": healed.images, "written": healed.written, "removed": healed.removed}
    echo_record(
        known, f"{counts(healed)}; {healed.removed} did not exist any more", as_json=as_json
    )
    return True
