"""Commands `stillroom webhooks ls`, `test` and `replay`, with the settings of the server."""

import time
import uuid
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from stillroom.cli import options
from stillroom.cli.output import echo_record
from stillroom.errors import InvalidParameter

if TYPE_CHECKING:  # commands import the server's libraries only when they run
    from stillroom.features.events.webhook_file import Endpoint, WebhookFile
    from stillroom.features.events.webhook_values import EndpointMetrics
    from stillroom.settings import AllSettings
    from stillroom.store.feature import Store

_AS_JSON = options.json_option("One JSON object per line.")
_NAMES = click.argument("names", nargs=-1, metavar="[NAME...]")


@click.group(cls=options.Group)
def webhooks() -> None:
    """List, test and replay the webhooks that webhooks.toml configures."""


@webhooks.command("ls")
@_AS_JSON
@options.with_features
async def list_webhooks(store: "Store", *, as_json: bool) -> None:
    """List the endpoints: name, state, lag, waiting events, lost events and URL.

    The state is `delivering`, `paused` (after ten failures in a row), `gone` (after a 410, until
    webhooks.toml changes), `removed` (not in the file any more) or `new`.
    """
    from stillroom.features.database.clock import now
    from stillroom.features.database.feature import DatabaseFeature
    from stillroom.features.events.database import webhook_rows
    from stillroom.features.events.webhook_opening import watched_webhooks
    from stillroom.features.events.webhook_values import LEASE, EndpointMetrics, EndpointState

    file = watched_webhooks(store.settings).content
    rows = await (await webhook_rows(store.need(DatabaseFeature).database)).metrics()
    unknown = {name: EndpointMetrics(EndpointState(name, 0), 0, None) for name in file.endpoints}
    progress = {metrics.state.name: metrics for metrics in rows}
    for name, metrics in sorted((unknown | progress).items()):
        endpoint, lag_s = file.endpoints.get(name), metrics.lag_s(now())
        known = {
            "name": name,
            "state": _state_of(file, metrics) if name in progress else "new",
            "lag_seconds": round(lag_s, 3),
            "waiting": metrics.waiting,
            "lost": metrics.state.lost,
            "url": endpoint and endpoint.url,
            "last_error": metrics.state.last_error,
        }
        # Servers store their position at intervals, so a short lag alone does not mean lateness.
        late_s = lag_s if metrics.waiting or lag_s > LEASE.total_seconds() else 0
        line = "{name}  {state}  {late_s:,.0f} s late  {waiting} waiting  {lost} lost"
        shown = [line.format(late_s=late_s, **known), *([endpoint.url] if endpoint else [])]
        echo_record(known, "  ".join(shown), as_json=as_json)
    if not unknown | progress:
        click.echo("there is no webhooks.toml (docs/webhooks.md)", err=True)


@webhooks.command("test")
@_NAMES
@_AS_JSON
@options.DATA_DIR
@options.asynchronous
async def send_test(names: tuple[str, ...], *, as_json: bool, data_dir: str | None) -> bool:
    """Send a signed event of the type webhook.test now, to all or only the named endpoints.

    The output has each endpoint's name, the status code and the duration. The exit status is 1 if
    an endpoint did not accept the event.
    """
    from stillroom.features.database.clock import now
    from stillroom.features.events.delivery import Sender
    from stillroom.features.events.event import Event

    all_well = True
    for endpoint in _chosen(options.read_settings(data_dir), names):
        sender, began = Sender(endpoint), time.monotonic()
        event = Event(
            "webhook.test", None, actor="cli", id=uuid.uuid4(), position=0, occurred_at=now()
        )
        attempt = await sender.send(event.as_json())
        await sender.close()
        seconds = round(time.monotonic() - began, 3)
        named = {"name": endpoint.name, "result": attempt.result, "status": attempt.status}
        known = {**named, "seconds": seconds, "detail": attempt.detail}
        line = f"{endpoint.name}  {attempt.status or attempt.detail}  {seconds:.3f} s"
        echo_record(known, line, as_json=as_json)
        all_well = all_well and attempt.is_delivered
    return all_well


@webhooks.command()
@_NAMES
@click.option("--from", "cursor", required=True, metavar="CURSOR", help="A cursor from the feed.")
@_AS_JSON
@options.with_features
async def replay(store: "Store", *, names: tuple[str, ...], cursor: str, as_json: bool) -> bool:
    """Deliver all events after CURSOR again, to all or only the named endpoints.

    Running servers begin within a few seconds. Receivers get the same ids again, so that they can
    skip what they have processed. Cursors come from the feed: stillroom events --json.
    """
    from stillroom.features.database.feature import DatabaseFeature
    from stillroom.features.events.cursor import position_of
    from stillroom.features.events.database import event_rows, webhook_rows

    database, all_well = store.need(DatabaseFeature).database, True
    endpoints = _chosen(store.settings, names)
    state = await (await event_rows(database)).state()
    try:
        position = position_of(cursor, state.feed_id)
    except InvalidParameter as error:
        raise click.UsageError(f"--from {error}") from None
    if position < state.dropped_position:
        raise click.UsageError("the events after this cursor were deleted: use a later cursor")
    rows = await webhook_rows(database)
    for endpoint in endpoints:
        if await rows.replay(endpoint.name, after=position):
            echo_record({"name": endpoint.name, "from": cursor}, as_json=as_json)
        else:
            message = "no server has delivered to it yet: start the server first"
            click.echo(f"stillroom: {endpoint.name}: {message}", err=True)
            all_well = False
    return all_well


def _chosen(settings: "AllSettings", names: Sequence[str]) -> "list[Endpoint]":
    from stillroom.features.events.webhook_opening import watched_webhooks

    file = watched_webhooks(settings).content
    if unknown := [name for name in names if name not in file.endpoints]:
        known = ", ".join(file.endpoints) or "none"
        raise click.UsageError(f"there is no webhook {unknown[0]!r} (existing: {known})")
    if not file.endpoints:
        raise click.UsageError("there are no webhooks: configure them in webhooks.toml")
    return [file.endpoints[name] for name in names or file.endpoints]


def _state_of(file: "WebhookFile", metrics: "EndpointMetrics") -> str:
    if metrics.state.name not in file.endpoints:
        return "removed"
    if metrics.state.gone_digest == file.digest:
        return "gone"
    return "paused" if metrics.state.is_paused else "delivering"
