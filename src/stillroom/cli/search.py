"""`stillroom search`: images by their prompt, model, seed and time, the newest first."""

from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, cast

import click

from stillroom.cli.images import PROMPT_DEADLINE_S
from stillroom.cli.server_options import SERVER, open_store, server_options
from stillroom.cli.show import json_line, printable
from stillroom.client import ImageMetadata

if TYPE_CHECKING:
    from stillroom.client.searching import SearchFilters

_SORTS: Final = ("-saved", "saved", "-path", "path")
_MAX_SEED: Final = 2**64 - 1
_PROMPT_LETTERS: Final = 60


class _Time(click.ParamType):  # type: ignore[type-arg]  # click is generic only since 8.4
    """A day or a time; without a zone it is of this machine."""

    name = "TIME"

    def convert(self, value: Any, param: Any, ctx: Any) -> datetime:  # noqa: ANN401  (click's signature)
        """Read an option's text."""
        try:
            return datetime.fromisoformat(str(value)).astimezone()
        except (ValueError, OverflowError):
            self.fail("must be a time such as 2026-11-24 or 2026-11-24T18:00:00Z", param, ctx)


@click.command(epilog=SERVER)
@click.argument("words", nargs=-1)
@click.option("--prompt", help="Words in the prompt alone.")
@click.option("--model", help="Words of its name that follow each other.")
@click.option("--lora", help="The same of the name of a LoRA.")
@click.option("--sampler", help="Its whole name.")
@click.option("--seed", type=click.IntRange(0, _MAX_SEED), help="The seed.")
@click.option("--tool", help="The tool's whole name, such as ComfyUI.")
@click.option("--type", "content_type", help="Such as image/png.")
@click.option(
    "--ai-mark",
    type=click.Choice(("c2pa", "iptc", "both", "none")),
    help="Whether it says that AI made it.",
)
@click.option("--prefix", help="Text that paths begin with.")
@click.option("--from", "saved_from", type=_Time(), help="Saved then or later.")
@click.option("--before", "saved_before", type=_Time(), help="Saved earlier.")
@click.option("--sort", type=click.Choice(_SORTS), default="-saved", show_default=True)
@click.option(
    "--limit", type=click.IntRange(0), default=100, show_default=True, help="0: all that there are."
)
@click.option("--json", "as_json", is_flag=True, help="A line of JSON for each image.")
@server_options
def search(words: tuple[str, ...], *, limit: int, as_json: bool, **filters: object) -> None:
    """Search images by words of their prompt, path and model; without any, list the newest.

    All words must be there. A word with blanks, 'red fox', is a phrase.
    """
    given = cast("SearchFilters", {name: one for name, one in filters.items() if one is not None})
    terms = (f'"{word}"' if " " in word and '"' not in word else word for word in words)
    with open_store(deadline_s=PROMPT_DEADLINE_S) as store:
        found = store.search(" ".join(terms), limit=limit or None, **given)
        for line in map(json_line, found) if as_json else _table(found):
            click.echo(line)


def _table(found: Iterator[ImageMetadata]) -> Iterator[str]:
    for image in found:
        facts = image.generation
        seed = "" if facts is None or facts.seed is None else str(facts.seed)
        prompt = " ".join(printable((facts and facts.prompt) or "").split())
        if len(prompt) > _PROMPT_LETTERS:
            prompt = prompt[: _PROMPT_LETTERS - 1] + "…"
        saved = image.modified.strftime("%Y-%m-%dT%H:%M:%SZ")
        yield f"{saved}  {image.path}  {seed:>20}  {prompt}".rstrip()
