"""Search options of `stillroom search` and `stillroom media ls`."""

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Final, TypeVar

import click

_MAX_SEED: Final = 2**64 - 1

_Command = TypeVar("_Command", bound=Callable[..., None])


def moment(text: str) -> datetime:
    """Parse a date or time. If it has no time zone, use that of this machine."""
    try:
        return datetime.fromisoformat(text).astimezone()
    except (ValueError, OverflowError) as error:
        said = "must be a time such as 2026-11-24 or 2026-11-24T18:00:00Z"
        raise click.BadParameter(said) from error


_OPTIONS: Final = (
    click.option("--prompt", help="Words in the prompt."),
    click.option("--model", help="Consecutive words in the name of the model."),
    click.option("--lora", help="Consecutive words in the name of a LoRA."),
    click.option("--sampler", help="Complete name of the sampler."),
    click.option("--seed", type=click.IntRange(0, _MAX_SEED), help="The seed."),
    click.option("--tool", help="Complete name of the tool, such as ComfyUI."),
    click.option(
        "--ai-mark",
        type=click.Choice(("c2pa", "iptc", "both", "none")),
        help="AI mark of the image.",
    ),
    click.option(
        "--tag", multiple=True, help="Only with this tag; `-cat`: only without the tag `cat`."
    ),
)


def facts_options(command: _Command) -> _Command:
    """Add search words and filter options to a command. They are named like API parameters."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return click.argument("words", nargs=-1)(command)


def query_of(words: Iterable[str]) -> str:
    """Join command-line words to the search parameter `q`. A word with spaces becomes a phrase."""
    return " ".join(f'"{word}"' if " " in word and '"' not in word else word for word in words)
