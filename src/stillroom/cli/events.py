"""Command `stillroom events`, which prints what has happened in a store."""

from dataclasses import asdict
from typing import Final

import click

from stillroom.cli.facts import printable
from stillroom.cli.options import json_option
from stillroom.cli.output import safe_json, time_text
from stillroom.cli.server_options import ServerCommand, open_store
from stillroom.client import Event

_TYPE_WIDTH: Final = 15


@click.command(cls=ServerCommand)
@click.option(
    "--after", default="", metavar="CURSOR", help="Only later events; `latest`: new ones."
)
@click.option("--type", "types", multiple=True, help="Such as image.saved; repeat for several.")
@click.option("--prefix", default="", help="Text that paths begin with.")
@click.option("--follow", is_flag=True, help="Wait for more events until interrupted.")
@json_option("A line of JSON for each event, with its cursor.")
def events(*, after: str, types: tuple[str, ...], prefix: str, follow: bool, as_json: bool) -> None:
    """Print events, oldest first: saved and deleted images, runs and media resources.

    A server keeps events for a limited time, seven days by default. With --json, store the last
    cursor to resume after it with --after.
    """
    with open_store() as store:
        for event in store.events(after, types=types, prefix=prefix, follow=follow):
            click.echo(_json_line(event) if as_json else _line(event))


def _json_line(event: Event) -> str:
    stamp = event.timestamp.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return safe_json({**asdict(event), "timestamp": stamp})


def _line(event: Event) -> str:
    about = event.data.get("path") or event.data.get("storage_key") or ""
    notes = [str(event.data["reason"])] if event.data.get("reason") else []
    notes += [f"by {event.actor}"] if event.actor else []
    notes += ["found later"] if event.found else []
    text = f"{time_text(event.timestamp)}  {event.type:{_TYPE_WIDTH}}  {about}"
    return " ".join(printable(f"{text}  {', '.join(notes)}").splitlines()).rstrip()
