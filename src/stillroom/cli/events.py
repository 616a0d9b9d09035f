"""Command `stillroom events`, which prints what has happened in a store."""

from dataclasses import asdict

import click

from stillroom.cli.facts import printable
from stillroom.cli.options import json_option
from stillroom.cli.output import echo_record, time_text
from stillroom.cli.server_options import ServerCommand, open_store
from stillroom.client import Event


@click.command(cls=ServerCommand)
@click.option(
    "--after",
    default="",
    metavar="CURSOR",
    help="Only events after this; `latest`: only new events.",
)
@click.option("--type", "types", multiple=True, help="Such as image.saved; repeat for several.")
@click.option("--prefix", default="", help="Only paths that begin with this text.")
@click.option("--follow", is_flag=True, help="Wait for more events until interrupted.")
@json_option("A line of JSON for each event, with its cursor.")
def events(*, after: str, types: tuple[str, ...], prefix: str, follow: bool, as_json: bool) -> None:
    """Print events, oldest first: saved and deleted images, runs and media resources.

    A server keeps events for a limited time, seven days by default. To resume later, store the
    last cursor that --json prints, and pass it as --after.
    """
    with open_store() as store:
        for event in store.events(after, types=types, prefix=prefix, follow=follow):
            stamp = event.timestamp.isoformat(timespec="milliseconds").replace("+00:00", "Z")
            echo_record({**asdict(event), "timestamp": stamp}, _line(event), as_json=as_json)


def _line(event: Event) -> str:
    about = event.data.get("path") or event.data.get("storage_key") or ""
    notes = [str(event.data["reason"])] if event.data.get("reason") else []
    notes += [f"by {event.actor}"] if event.actor else []
    notes += ["found later"] if event.found else []
    text = f"{time_text(event.timestamp)}  {event.type:15}  {about}"
    return " ".join(printable(f"{text}  {', '.join(notes)}").splitlines()).rstrip()
