"""Command `stillroom runs`: list, show, publish and delete runs."""

from typing import Literal, get_args

import click

from stillroom.cli import output
from stillroom.cli.exits import pasteable
from stillroom.cli.options import DRY_RUN, Group, flag, json_option, with_default
from stillroom.cli.server_options import ServerCommand, open_store
from stillroom.client import RunInfo
from stillroom.client.values import RunSort, RunState

_JSON = json_option("JSON, with all fields.")
_SORT = click.Choice(get_args(RunSort))


@click.group(cls=Group)
def runs() -> None:
    """Manage runs: folders whose images are published together and deleted together."""


@runs.command("ls", cls=ServerCommand)
@click.argument("prefix", default="")
@with_default(
    "--state",
    type=click.Choice([*get_args(RunState), "all"]),
    default="published",
    help="Only runs in this state. Any folder with images in it is an open run.",
)
@with_default("--sort", type=_SORT, default="folder", help="Sorted by time, at most 10,000.")
@_JSON
def list_runs(
    prefix: str, *, state: RunState | Literal["all"], sort: RunSort, as_json: bool
) -> None:
    """List published runs whose folder begins with PREFIX: time, number of images, folder."""
    with open_store() as store:
        for run in store.runs(prefix, state=None if state == "all" else state, sort=sort):
            output.echo_record(run, _line(run), as_json=as_json)


@runs.command(cls=ServerCommand)
@click.argument("folder")
@_JSON
def show(folder: str, *, as_json: bool) -> None:
    """Show the images in a run's manifest or, if it is not published, in its folder."""
    with open_store() as store:
        run = store.run(folder.rstrip("/")).read()
    if as_json:
        click.echo(output.json_text(run))
        return
    click.echo(_line(RunInfo(run.folder, run.state, run.published_at, run.count)), err=True)
    for image in run.images:
        click.echo(f"{output.size_text(image.size):>9}  {image.sha256}  {image.path}")


@runs.command(cls=ServerCommand)
@click.argument("folder")
@click.option("--expected", type=click.IntRange(0), help="Required number of images in the run.")
@_JSON
def publish(folder: str, *, expected: int | None, as_json: bool) -> None:
    """Publish a run: write its manifest, the final list of all images in the folder."""
    with open_store() as store:
        run = store.publish_run(folder.rstrip("/"), expected=expected)
    output.echo_record(run, f"published {run.folder}", as_json=as_json)


@runs.command(cls=ServerCommand)
@click.argument("folder")
@flag("-y", "--yes", help="Do not ask.")
@DRY_RUN
@_JSON
def rm(folder: str, *, yes: bool, dry_run: bool, as_json: bool) -> None:
    """Delete a run, after a confirmation: its manifest now, its images after the grace period."""
    with open_store() as store:
        run = store.run(folder.rstrip("/"))
        if dry_run or not yes:
            number = sum(1 for _ in store.iter(f"{run.folder}/"))
            images = output.counted(number, "image")
        if dry_run:
            known = {"folder": run.folder, "result": "would delete", "images": number}
            output.echo_record(known, f"would delete {run.folder}: {images}", as_json=as_json)
            return
        if not yes:
            output.confirm_deletion(f"the run {run.folder} with {images}")
        deleted = run.delete()
    if as_json:
        click.echo(output.json_text(deleted))
        return
    result = "marked for deletion"
    if deleted.trash_id is not None:
        when = pasteable("`stillroom trash ls` shows until when they can be restored")
        result = f"moved to the trash ({when})"
    click.echo(f"{output.counted(deleted.marked, 'image')} {result}", err=True)
    for number, why in ((deleted.kept, "in the media library"), (deleted.newer, "saved later")):
        if number:
            click.echo(f"{output.counted(number, 'image')} kept: {why}", err=True)


def _line(run: RunInfo) -> str:
    when = "open" if run.published_at is None else output.time_text(run.published_at)
    return f"{when:20}  {'-' if run.count is None else run.count:>7}  {run.folder}"
