"""Commands `stillroom index` and `retention`, which use features of the server directly."""

import json
import time
from collections import Counter, defaultdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from stillroom.cli.options import DATA_DIR, Group, asynchronous, flag, json_option, read_settings
from stillroom.cli.output import StatusLine, counted, echo_record, json_text, size_text, time_text
from stillroom.paths import image_entry

if TYPE_CHECKING:  # commands import the server's libraries only when they run
    from stillroom.features.retention.plan import PlannedImage
    from stillroom.features.search.comparing import Healed


@click.group(cls=Group)
def index() -> None:
    """Maintain the search index, with the settings of the server."""


@index.command()
@flag("--restart", help="Do not resume an interrupted run; start over.")
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


def _moment(text: str) -> datetime:
    try:
        given = datetime.fromisoformat(text)
        return (given if given.tzinfo else given.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        said = f"{text!r} is not a time such as 2026-12-01 or 2026-12-01T09:00Z"
        raise click.BadParameter(said) from error


@click.group(cls=Group)
def retention() -> None:
    """Preview the retention rules, with the settings of the server: docs/retention.md."""


@retention.command()
@click.option(
    "--at",
    type=_moment,
    metavar="TIME",
    help="What would expire at this time: 2026-12-01, 2026-12-01T09:00Z.  [now]",
)
@flag("--summary", help="Print only the counts for each rule.")
@json_option("One JSON object per line; the last has the counts.")
@DATA_DIR
@asynchronous
async def plan(*, at: datetime | None, summary: bool, as_json: bool, data_dir: str | None) -> None:
    """Print the images that expire, with the time and the retention rule. Nothing is changed.

    It reads the current retention.toml, so you can test a change before you restart the server.
    Images are deleted after a scan of the server has marked them and the grace period is over.
    """
    from stillroom.assembly import opened_features
    from stillroom.features.library.feature import LibraryFeature
    from stillroom.features.retention.feature import RetentionFeature
    from stillroom.features.retention.plan import planned_images
    from stillroom.features.runs.deletion import SHORTEST_GRACE

    moment = at or datetime.now(UTC)
    totals, by_rule = Counter(images=0, bytes=0, runs=0), defaultdict[str, Counter[str]](Counter)
    last_run, status_line, images = None, StatusLine(5, redrawn="{}\r"), 0

    def show(more: int) -> None:
        nonlocal images
        images += more
        status_line.update(f"{counted(images, 'image')} checked …")

    async with opened_features(read_settings(data_dir)) as store:
        library, retention = store.need(LibraryFeature), store.need(RetentionFeature)
        async for planned in planned_images(retention.evaluator, moment, show):
            is_new_run = planned.run not in (None, last_run)  # a run's images are consecutive
            last_run = planned.run or last_run
            for numbers in (totals, by_rule[planned.expiration.rule.name]):
                numbers.update(images=1, bytes=planned.image.size, runs=int(is_new_run))
            if not summary:
                status_line.erase()
                click.echo(_as_json(planned) if as_json else _line(planned))
    status_line.erase()
    if as_json:
        click.echo(json.dumps({"at": moment.isoformat(), **totals, "rules": by_rule}))
        return
    if not retention.rules.expire_anything:
        click.echo("there are no rules, so nothing expires (docs/retention.md)", err=True)
        return
    for rule in retention.rules:
        if not rule.keep:
            click.echo(f"{rule.name} ({rule.prefix!r}): {_said(by_rule[rule.name])}", err=True)
    grace_s = max(library.grace, SHORTEST_GRACE).total_seconds()
    said = f"{_said(totals)}, deleted {grace_s:,.0f} s after a scan has found them"
    click.echo(f"in all: {said}", err=True)


def _said(numbers: Counter[str]) -> str:
    said = f"{counted(numbers['images'], 'image')}, {size_text(numbers['bytes'])}"
    return f"{said}, {counted(numbers['runs'], 'run')}" if numbers["runs"] else said


def _line(planned: "PlannedImage") -> str:
    expires_at, rule = time_text(planned.expiration.at), planned.expiration.rule.name
    path = image_entry(planned.image.key.text)
    return f"{expires_at}  {rule}  {size_text(planned.image.size):>9}  {path}"


def _as_json(planned: "PlannedImage") -> str:
    return json_text(
        {
            "path": image_entry(planned.image.key.text),
            "size": planned.image.size,
            "ends_at": planned.expiration.at,
            "rule": planned.expiration.rule.name,
            "prefix": planned.expiration.rule.prefix,
            "run": planned.run.text if planned.run is not None else None,
            "marked_until": planned.due_at,
        }
    )
