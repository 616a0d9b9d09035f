"""Command `stillroom show`, which prints properties and generation parameters of an image."""

from collections.abc import Iterator
from dataclasses import asdict
from typing import Final

import click

from stillroom.cli.images import PROMPT_DEADLINE_S, completed
from stillroom.cli.options import json_option
from stillroom.cli.output import safe_json, size_text, time_text
from stillroom.cli.server_options import SERVER, open_store, server_options
from stillroom.client import Generation, ImageMetadata

_WIDTH: Final = 16


@click.command(epilog=SERVER)
@click.argument("path", shell_complete=completed)
@json_option("All metadata as a JSON object, also `raw`.")
@server_options
def show(path: str, *, as_json: bool) -> None:
    """Print the size and type of one image, and the generation parameters in its file."""
    with open_store(deadline_s=PROMPT_DEADLINE_S) as store:
        found = store.metadata(path)
    if as_json:
        click.echo(json_line(found))
        return
    for label, text in _lines(found):
        click.echo(labelled(label, text))


def json_line(found: ImageMetadata) -> str:
    """Format the metadata of an image as one line of JSON without control characters."""
    facts = found.generation.as_json() if found.generation is not None else None
    return safe_json({**asdict(found), "generation": facts})


def labelled(label: str, text: str) -> str:
    """Format a label and an untrusted text. Further lines of the text are indented."""
    below = "\n" + " " * _WIDTH
    return f"{label:{_WIDTH}}{below.join(printable(text).splitlines())}"


def printable(text: str) -> str:
    """Replace control characters in an untrusted text, so that a terminal does not obey them."""
    return "".join(char if char.isprintable() or char == "\n" else "\ufffd" for char in text)


def _lines(found: ImageMetadata) -> Iterator[tuple[str, str]]:
    yield "path", found.path
    yield "size", size_text(found.size)
    yield "saved", time_text(found.modified)
    if found.expires_at is not None:
        yield "expires", time_text(found.expires_at)
    yield "type", found.content_type
    yield "sha256", found.sha256 or "unknown"
    yield "AI mark", found.ai_mark or "unknown"
    if found.generation is None:
        yield "generation", "unknown"
    else:
        yield from facts_lines(found.generation)


def facts_lines(facts: Generation) -> Iterator[tuple[str, str]]:
    """Yield a label and a text for each known generation parameter, except for `raw`."""
    for name, value in facts.as_json().items():
        if name == "loras" and facts.loras:
            named = (
                one.name if one.weight is None else f"{one.name} ({one.weight:g})"
                for one in facts.loras
            )
            yield name, "\n".join(named)
        elif name == "derived_from" and facts.derived_from:
            yield "derived from", "\n".join(facts.derived_from)
        elif isinstance(value, str | int | float) and value != "":
            yield name.replace("_", " "), str(value)
