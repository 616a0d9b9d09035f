"""Commands `stillroom index` and `retention`, which use features of the server directly."""

import json
import time
from collections import Counter, defaultdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from stillroom.cli.options import Group, flag, json_option, moment, with_features
from stillroom.cli.output import StatusLine, counted, echo_record, erase_line, size_text, time_text
from stillroom.paths import image_entry

if TYPE_CHECKING:  # commands import the server's libraries only when they run
    from stillroom.features.retention.plan import PlannedImage
    from stillroom.features.search.comparing import Healed
    from stillroom.store.feature import Store


@click.group(cls=Group)
def index() -> None:
    """Maintain the search index, with the settings of the server."""


@index.command()
@flag("--restart", help="Do not resume an interrupted run; start over.")
@json_option("A JSON object with the numbers.")
@with_features
async def rebuild(store: "Store", *, restart: bool, as_json: bool) -> bool:
    """Read every image again and write its search entry.

    Servers add missing entries by themselves. Run this after an upgrade to a version that reads
    more formats, or if another tool has replaced images in the bucket. The command can run
    alongside servers, and resumes after an interruption.
    """
    from stillroom.features.search.feature import SearchFeature
    from stillroom.features.search.healing import never_pauses

    began, status_line = time.monotonic(), StatusLine(10)

    def counts(healed: "Healed") -> str:
        rate = healed.images / max(time.monotonic() - began, 0.001)
        return f"{counted(healed.images, 'image')}, {rate:,.0f} a second"

    def show(healed: "Healed") -> None:
        status_line.update(f"{counts(healed)}, at {healed.after!r}")

    healing = store.need(SearchFeature).healing
    healed = await healing.rebuild(never_pauses, restart=restart, progress=show)
    erase_line()
    if healed is None:
        click.echo("stillroom: another process is rebuilding the index", err=True)
        return False
    known = {"images": healed.images, "written": healed.written, "removed": healed.removed}
    line = f"{counts(healed)}; {healed.removed} did not exist any more"
    echo_record(known, line, as_json=as_json)
    return True


@click.group(cls=Group)
def retention() -> None:
    """Preview the retention rules, with the settings of the server: docs/retention.md."""


@retention.command()
@click.option(
    "--at",
    type=lambda text: moment(text, UTC),
    metavar="TIME",
    help="What would expire at this time: 2026-12-01, 2026-12-01T09:00Z.  [now]",
)
@flag("--summary", help="Print only the counts for each rule.")
@json_option("One JSON object per line; the last has the counts.")
@with_features
async def plan(store: "Store", *, at: datetime | None, summary: bool, as_json: bool) -> None:
    """Print the images that expire, with the time and the retention rule. Nothing is changed.

    The command reads the current retention.toml. So you can test a change before a restart.
    Images are deleted after a scan of the server has marked them and the grace period is over.
    """
    from stillroom.features.library.feature import LibraryFeature
    from stillroom.features.retention.feature import RetentionFeature
    from stillroom.features.retention.plan import planned_images
    from stillroom.features.runs.deletion import SHORTEST_GRACE

    due_at = at or datetime.now(UTC)
    totals, by_rule = Counter(images=0, bytes=0, runs=0), defaultdict[str, Counter[str]](Counter)
    last_run, status_line, images = None, StatusLine(5), 0

    def show(more: int) -> None:
        nonlocal images
        images += more
        status_line.update(f"{counted(images, 'image')} checked …")

    library, retention = store.need(LibraryFeature), store.need(RetentionFeature)
    async for planned in planned_images(retention.evaluator, due_at, show):
        is_new_run = planned.run not in (None, last_run)  # a run's images are consecutive
        last_run = planned.run or last_run
        for numbers in (totals, by_rule[planned.expiration.rule.name]):
            numbers.update(images=1, bytes=planned.image.size, runs=int(is_new_run))
        if not summary:
            _echo(planned, as_json=as_json)
    erase_line()
    if as_json:
        click.echo(json.dumps({"at": due_at.isoformat(), **totals, "rules": by_rule}))
        return
    if retention.expiry is None:
        click.echo("there are no rules, so nothing expires (docs/retention.md)", err=True)
        return
    for rule in retention.rules:
        if not rule.keep:
            click.echo(f"{rule.name} ({rule.prefix!r}): {_said(by_rule[rule.name])}", err=True)
    grace_s = max(library.grace, SHORTEST_GRACE).total_seconds()
    text = f"{_said(totals)}, deleted {grace_s:,.0f} s after a scan has found them"
    click.echo(f"in all: {text}", err=True)
    schedule = await retention.expiry.schedule()
    text = "on a server that runs with these rules, {}; a start with changed rules begins a scan"
    click.echo(text.format(schedule), err=True)


def _said(numbers: Counter[str]) -> str:
    text = f"{counted(numbers['images'], 'image')}, {size_text(numbers['bytes'])}"
    return f"{text}, {counted(numbers['runs'], 'run')}" if numbers["runs"] else text


def _echo(planned: "PlannedImage", *, as_json: bool) -> None:
    path, size = image_entry(planned.image.key.text), planned.image.size
    expires_at, rule = planned.expiration.at, planned.expiration.rule
    known = {
        "path": path,
        "size": size,
        "ends_at": expires_at,
        "rule": rule.name,
        "prefix": rule.prefix,
        "run": planned.run.text if planned.run is not None else None,
        "marked_until": planned.due_at,
    }
    line = f"{time_text(expires_at)}  {rule.name}  {size_text(size):>9}  {path}"
    due = f"  (deletion at {time_text(planned.due_at)})" if planned.due_at else ""
    echo_record(known, line + due, as_json=as_json)
