"""Commands `stillroom show`, `du` and `unmarked`, which print properties of stored images."""

import itertools
import json
from collections import Counter
from collections.abc import AsyncGenerator, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Final, cast

import click

from stillroom.cli.images import PROMPT_DEADLINE_S, completed
from stillroom.cli.options import CONCURRENCY, asynchronous, json_option, with_default
from stillroom.cli.output import StatusLine, counted, echo_record, erase_line, size_text, time_text
from stillroom.cli.selection import Filter, filter_options, folder_of
from stillroom.cli.server_options import ServerCommand, open_async_store, open_store
from stillroom.client import Generation, ImageMetadata
from stillroom.concurrently import for_each_concurrently
from stillroom.errors import ImageNotFound
from stillroom.generation.ai_mark import TYPES

_WIDTH: Final = 16


@click.command(cls=ServerCommand)
@click.argument("path", shell_complete=completed)
@json_option("All metadata, with `raw`, as a JSON object.")
def show(path: str, *, as_json: bool) -> None:
    """Print the size and type of one image, and the generation parameters in its file."""
    with open_store(deadline_s=PROMPT_DEADLINE_S) as store:
        image = store.metadata(path)
    echo_record(image, labelled(_lines(image)), as_json=as_json)


def labelled(texts: Iterable[tuple[str, str]]) -> str:
    """Format untrusted texts with their labels. Further lines of a text are indented."""
    below = "\n" + " " * _WIDTH
    return "\n".join(
        f"{label:{_WIDTH}}{below.join(printable(text).splitlines())}" for label, text in texts
    )


def printable(text: str) -> str:
    """Replace control characters in an untrusted text, since a terminal would execute them."""
    return "".join(char if char.isprintable() or char == "\n" else "\ufffd" for char in text)


def _lines(image: ImageMetadata) -> Iterator[tuple[str, str]]:
    yield "path", image.path
    yield "size", size_text(image.size)
    yield "saved", time_text(image.modified)
    if image.expires_at is not None:
        yield "expires", time_text(image.expires_at)
    yield "type", image.content_type
    yield "sha256", image.sha256 or "unknown"
    yield "AI mark", image.ai_mark or "unknown"
    if image.generation is None:
        yield "generation", "unknown"
    else:
        yield from facts_lines(image.generation)
    if image.derived_from:
        yield "made from", "\n".join(image.derived_from)
    if image.derivatives:
        yield "derivatives", f"{image.derivatives:,}"


def facts_lines(facts: Generation) -> Iterator[tuple[str, str]]:
    """Yield a label and a text for each known generation parameter, except for `raw`."""
    for name, value in facts.as_json().items():
        if name == "loras" and facts.loras:
            texts = (
                lora.name if lora.weight is None else f"{lora.name} ({lora.weight:g})"
                for lora in facts.loras
            )
            yield name, "\n".join(texts)
        elif name == "derived_from" and facts.derived_from:
            yield "derived from", "\n".join(facts.derived_from)
        elif isinstance(value, str | int | float) and value != "":
            yield name.replace("_", " "), str(value)


@click.command(cls=ServerCommand)
@click.argument("folder", default="", shell_complete=completed)
@with_default("-d", "--depth", type=click.IntRange(0), default=1, help="Number of levels.")
@json_option("One JSON object per line: path, size, images.")
@filter_options
def du(folder: str, *, depth: int, as_json: bool, chosen: Filter) -> None:
    """Print the total size, the number of images and the path of each folder.

    Listing a million images takes minutes. A server with a bucket sends one request per image.
    """
    folder = folder_of(folder)
    sizes, numbers = Counter({folder: 0}), Counter({folder: 0})
    with open_store() as store:
        for entry in store.entries(folder):
            name = entry.path[len(folder) :]
            if chosen.takes(name):
                parts = (f"{part}/" for part in name.split("/")[:-1][:depth])
                for inner in itertools.accumulate(parts, initial=folder):
                    sizes[inner] += entry.size
                    numbers[inner] += 1
        if folder and not numbers[folder] and not any(store.iter(folder)):
            raise ImageNotFound(f"{folder}: no such folder")
    for name in sorted(sizes, key=lambda name: (name == folder, name)):
        size, images = sizes[name], numbers[name]
        line = f"{size_text(size):>9}  {images:>9,}  {name or '/'}"
        echo_record({"path": name, "size": size, "images": images}, line, as_json=as_json)


@dataclass
class _Findings:
    images: int = 0
    unmarked: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)  # images whose file is damaged
    other_types: int = 0  # number of files whose type does not support a mark

    def summary(self) -> str:
        text = f"{counted(self.images, 'image')}, {len(self.unmarked):,} without a mark"
        text += f", {len(self.unknown):,} unknown" if self.unknown else ""
        return text + (f", {self.other_types:,} of other types" if self.other_types else "")


@click.command(cls=ServerCommand)
@click.argument("prefix", default="", shell_complete=completed)
@json_option("One JSON document on standard output.")
@CONCURRENCY
@asynchronous
async def unmarked(prefix: str, *, as_json: bool, concurrency: int) -> bool:
    """List images without an AI mark, which states that AI made the image.

    Only images whose paths begin with PREFIX are checked. The server reads at most 1 MiB of each.
    The exit status is 1 if an image has no mark, or if its mark cannot be read. Types that support
    no mark, such as text, are only counted.
    """
    findings, status_line = _Findings(), StatusLine(10)

    async def look(path: str) -> None:
        try:
            image = await store.metadata(path)
        except ImageNotFound:  # deleted after it was listed
            return
        findings.images += 1
        line, is_unknown = "", image.ai_mark is None and image.content_type in TYPES
        if image.ai_mark == "none":
            findings.unmarked.append(path)
            line = path
        elif is_unknown:
            findings.unknown.append(path)
            line = f"unknown: {path}"
        elif image.ai_mark is None:
            findings.other_types += 1
        if line and not as_json:
            erase_line()
            click.echo(line, err=is_unknown)
        status_line.update(findings.summary())

    async with open_async_store() as store:
        paths = cast("AsyncGenerator[str, None]", store.iter(prefix))
        await for_each_concurrently(look, paths, limit=concurrency)
    erase_line()
    if as_json:
        findings.unmarked.sort()
        findings.unknown.sort()
        click.echo(json.dumps(asdict(findings), indent=1))
    else:
        click.echo(findings.summary(), err=True)
    return not (findings.unmarked or findings.unknown)
