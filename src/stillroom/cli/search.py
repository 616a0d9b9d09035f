"""Commands `stillroom search` and `facets`, and the filter options of `media ls`."""

import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, TypeVar, cast, get_args

import click

from stillroom.cli.facts import printable
from stillroom.cli.images import PROMPT_DEADLINE_S
from stillroom.cli.options import json_option, moment, with_default
from stillroom.cli.output import counted, json_text, time_text
from stillroom.cli.server_options import ServerCommand, open_store
from stillroom.client import FoundImage
from stillroom.client.values import SearchFilters, SearchSort
from stillroom.generation.facets import FACETS, Facet
from stillroom.generation.facts import MAX_SEED

_Command = TypeVar("_Command", bound=Callable[..., None])


def _option(facet: Facet) -> Callable[[_Command], _Command]:
    kind: click.ParamType[Any] | None = click.Choice(facet.choices) if facet.choices else None
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
    """Add search words and filter options to a command. The API has filters of the same names."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return click.argument("words", nargs=-1)(command)


def query_of(words: Iterable[str]) -> str:
    """Join the words of a command to the search query `q`. A word with spaces becomes a phrase."""
    return " ".join(f'"{word}"' if " " in word and '"' not in word else word for word in words)


_MAX_WIDTH: Final = 60
_ALIGNED: Final = 1000
"""Number of results that are read before the first line is printed, to align the columns."""


@click.command(cls=ServerCommand)
@facts_options
@click.option("--type", "content_type", help="Such as image/png.")
@click.option("--prefix", help="Only paths that begin with this text.")
@click.option("--from", "saved_from", type=moment, metavar="TIME", help="Saved since TIME.")
@click.option("--before", "saved_before", type=moment, metavar="TIME", help="Saved before TIME.")
@with_default("--sort", type=click.Choice(get_args(SearchSort)), default="-saved")
@with_default("--limit", type=click.IntRange(0), default=100, help="0 prints all.")
@json_option("A line of JSON for each image.")
def search(words: tuple[str, ...], *, limit: int, as_json: bool, **filters: object) -> None:
    """Search images by words in their prompt, path and model. Without words, list the newest.

    An image must match all words; the beginning of a word is enough. A WORD with spaces, 'red fox',
    is a phrase. A WORD can also be a filter, such as name:fox or size:>2MB. After --, a leading
    minus excludes a word: -- fox -snow.
    """
    if filters["content_type"] and "/" not in str(filters["content_type"]):
        raise click.UsageError("--type must be a content type such as image/png")
    options = {name: value for name, value in filters.items() if value is not None}
    with open_store(deadline_s=PROMPT_DEADLINE_S) as store:
        images = store.search(
            query_of(words), limit=limit + 1 if limit else None, **cast("SearchFilters", options)
        )
        page = itertools.islice(images, limit or None)
        line = None
        for line in map(json_text, page) if as_json else _table(page):
            click.echo(line)
        if line is None:
            click.echo("nothing found", err=True)
        if next(images, None) is not None:
            stopped = f"Stopped after {counted(limit, 'image')}. Show more with --limit 1000, or"
            click.echo(f"{stopped} all with --limit 0.", err=True)


@click.command(cls=ServerCommand)
@click.argument("words", metavar="[QUERY]...", nargs=-1)
@click.option("--prefix", default="", help="Only paths that begin with this text.")
@json_option("A JSON object with all lists.")
def facets(words: tuple[str, ...], prefix: str, *, as_json: bool) -> None:
    """Count images by model, LoRA, sampler, tool, tag and day. With QUERY, count its matches."""
    with open_store(deadline_s=PROMPT_DEADLINE_S) as store:
        counts = store.facets(query_of(words), prefix=prefix)
    if as_json:
        click.echo(json_text(counts))
        return
    for kind in ("model", "lora", "sampler", "tool", "tag", "day"):
        for facet in getattr(counts, kind) or ():
            click.echo(f"{kind:8}{facet.count:>10,}  {printable(facet.value)}")
    more = "" if counts.complete else "; there are more"
    click.echo(f"{counted(counts.counted, 'image')} counted{more}", err=True)


def _table(images: Iterator[FoundImage]) -> Iterator[str]:
    first = [*itertools.islice(images, _ALIGNED)]
    width = min(max((len(image.path) for image in first), default=0), _MAX_WIDTH)
    for image in itertools.chain(first, images):
        facts = image.generation
        seed = "" if facts is None or facts.seed is None else str(facts.seed)
        prompt = " ".join(printable((facts and facts.prompt) or "").split())
        if len(prompt) > _MAX_WIDTH:
            prompt = prompt[: _MAX_WIDTH - 1] + "…"
        yield f"{time_text(image.modified)}  {image.path:{width}}  {seed:>20}  {prompt}".rstrip()
