"""Search words and filter options of `stillroom search` and `stillroom media ls`."""

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Final, TypeVar

import click

from stillroom.generation.facets import FACETS, Facet
from stillroom.generation.facts import MAX_SEED

_Command = TypeVar("_Command", bound=Callable[..., None])


def moment(text: str) -> datetime:
    """Parse the value of an option that is a date or time, by default in the local time zone."""
    try:
        return datetime.fromisoformat(text).astimezone()
    except (ValueError, OverflowError) as error:
        said = "must be a time such as 2026-11-24 or 2026-11-24T18:00:00Z"
        raise click.BadParameter(said) from error


def _option(facet: Facet) -> Callable[[_Command], _Command]:
    kind: click.Choice[str] | click.IntRange | None = (
        click.Choice(facet.choices) if facet.choices else None
    )
    if facet.matches == "number":
        kind = click.IntRange(0, MAX_SEED)
    name = f"--{facet.name.replace('_', '-')}"
    return click.option(name, type=kind, help=facet.help or facet.description)


_OPTIONS: Final = (
    *map(_option, FACETS.values()),
    click.option(
        "--tag", multiple=True, help="Only with this tag; `-cat`: only without the tag `cat`."
    ),
)


def facts_options(command: _Command) -> _Command:
    """Add search words and filter options to a command. The options are named as in the API."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return click.argument("words", nargs=-1)(command)


def query_of(words: Iterable[str]) -> str:
    """Join the search words of a command to the query `q`. A word with spaces becomes a phrase."""
    return " ".join(f'"{word}"' if " " in word and '"' not in word else word for word in words)
