"""Command `stillroom unmarked`, which lists images without an AI mark (docs/ai-mark.md)."""

import json
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field

import click

from stillroom.cli.images import completed
from stillroom.cli.options import CONCURRENCY, asynchronous, json_option
from stillroom.cli.output import StatusLine, counted
from stillroom.cli.server_options import SERVER, open_async_store, server_options
from stillroom.client import ImageMetadata
from stillroom.concurrently import for_each_concurrently
from stillroom.errors import ImageNotFound
from stillroom.generation.ai_mark import TYPES


@dataclass
class _Findings:
    as_json: bool
    images: int = 0
    unmarked: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)  # the file is damaged
    others: int = 0  # of types that support no marks
    _status_line: StatusLine = field(default_factory=lambda: StatusLine(10, redrawn="\r{} …\x1b[K"))

    def add(self, found: ImageMetadata) -> None:
        self.images += 1
        if found.ai_mark == "none":
            self.unmarked.append(found.path)
            self._say(found.path)
        elif found.ai_mark is None and found.content_type in TYPES:
            self.unknown.append(found.path)
            self._say(f"unknown: {found.path}", err=True)
        elif found.ai_mark is None:
            self.others += 1
        self._status_line.update(self._summary)

    @property
    def _summary(self) -> str:
        said = f"{counted(self.images, 'image')}, {len(self.unmarked):,} without a mark"
        said += f", {len(self.unknown):,} unknown" if self.unknown else ""
        return said + (f", {self.others:,} of other types" if self.others else "")

    def end(self) -> None:
        self._status_line.erase()
        if not self.as_json:
            click.echo(self._summary, err=True)
            return
        found = {
            "images": self.images,
            "unmarked": sorted(self.unmarked),
            "unknown": sorted(self.unknown),
            "other_types": self.others,
        }
        click.echo(json.dumps(found, indent=1))

    def _say(self, line: str, *, err: bool = False) -> None:
        if not self.as_json:
            self._status_line.erase()
            click.echo(line, err=err)


@click.command(epilog=SERVER)
@click.argument("prefix", default="", shell_complete=completed)
@json_option("One JSON document on standard output.")
@CONCURRENCY
@server_options
@asynchronous
async def unmarked(prefix: str, *, as_json: bool, concurrency: int) -> bool:
    """List images without an AI mark, which states that AI made the image.

    Only images whose paths begin with PREFIX are checked. The server reads at most 1 MiB of each.
    The exit status is 1 if an image has no mark, or if its mark cannot be read. Types that support
    no mark, such as text, are only counted.
    """
    findings = _Findings(as_json)
    async with open_async_store() as store:

        async def look(path: str) -> None:
            try:
                findings.add(await store.metadata(path))
            except ImageNotFound:  # deleted after it was listed
                return

        async def paths() -> AsyncGenerator[str, None]:
            async for path in store.iter(prefix):
                yield path

        await for_each_concurrently(look, paths(), limit=concurrency)
    findings.end()
    return not (findings.unmarked or findings.unknown)
