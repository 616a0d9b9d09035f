"""The facts in a file: what its carriers hold, by the first tool that knows it."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final

from stillroom.file_parts import BrokenHeader, FileParts, MoreNeeded
from stillroom.generation.carriers import heif, jpeg, jxl, png, webp
from stillroom.generation.carriers.entries import Entries
from stillroom.generation.facts import Generation
from stillroom.generation.texts import Unreadable
from stillroom.generation.tools import (
    a1111,
    comfyui,
    drawthings,
    fooocus,
    invokeai,
    novelai,
    own,
    swarmui,
)

MAX_BYTES: Final = 1024**2
"""Of one file, all reads together."""

_FIRST_BYTES: Final = 64 * 1024
_READ_BYTES: Final = 16 * 1024
_MAX_READS: Final = 24
_SNIFFED_BYTES: Final = 16
_PARSED_AT_ONCE_BYTES: Final = 16 * 1024
"""More is parsed in a thread, while the event loop serves others."""

Read = Callable[[int, int], Awaitable[bytes]]
"""Reads so many bytes of a file, from a place on."""

_TOOLS: Final = (
    swarmui.read,
    fooocus.read,
    invokeai.read,
    novelai.read,
    drawthings.read,
    a1111.read,
    comfyui.read,
)
"""Those first whose texts are marked as theirs."""


_FORMATS: Final = (
    (lambda start: start.startswith(png.SIGNATURE), (png.read, png.read_tail)),
    (lambda start: start.startswith(jpeg.SIGNATURE), (jpeg.read,)),
    (webp.is_webp, (webp.read,)),
    (lambda start: start.startswith(jxl.SIGNATURE), (jxl.read,)),
    (heif.is_heif, (heif.read,)),
)


@dataclass(frozen=True, slots=True)
class Found:
    """What reading one file has found.

    Attributes:
        generation: None where there is nothing that any tool has written.
        broken: Whether something was malformed, or larger than is read.
    """

    generation: Generation | None
    broken: bool = False


def find(parts: FileParts) -> Found:
    """The facts in the parts of a file.

    Raises:
        MoreNeeded: more of it must be read to know.
    """
    broken = False
    for carrier in _carriers(parts):
        entries = Entries()
        try:
            carrier(parts, entries)
        except BrokenHeader:
            entries.broken = True
        found = interpret(entries.texts)
        broken = broken or entries.broken or found.broken
        if found.generation is not None:
            return Found(found.generation, broken)
    return Found(None, broken)


def find_in(data: bytes) -> Found:
    """The facts in a whole file, or in its beginning if that is all that there is."""
    try:
        return find(FileParts.whole(data))
    except MoreNeeded:  # never: all of it is here
        return Found(None, broken=True)


async def find_by_reading(size: int, read: Read) -> Found:
    """The facts in a file of `size` bytes, of which `read` is asked for 1 MiB at most."""
    parts = FileParts(size, MAX_BYTES)
    start, length = 0, min(size, _FIRST_BYTES)
    for _ in range(_MAX_READS):
        parts.add(start, await read(start, length))
        try:
            if parts.held <= _PARSED_AT_ONCE_BYTES:
                return find(parts)
            return await asyncio.to_thread(find, parts)
        except MoreNeeded as more:
            if not parts.allows(more.start, more.length):
                break
            start = more.start
            room = max(more.length, min(_READ_BYTES, MAX_BYTES - parts.held))
            length = min(room, size - start)
    return Found(None, broken=True)


def interpret(texts: Mapping[str, str]) -> Found:
    """The facts in the texts of one file, by name as `carriers` gives them.

    What the SDK has written stands above what a tool has: of a fact that it lacks, the tool's.
    """
    ours, broken = _read_by(own.read, texts)
    for tool in _TOOLS:
        theirs, unreadable = _read_by(tool, texts)
        broken = broken or unreadable
        if theirs is not None:
            return Found(ours.over(theirs) if ours else theirs, broken)
    if ours is not None and ours.tool is None:
        ours = ours.over(Generation(tool="Stillroom"))
    return Found(ours, broken)


def _read_by(
    tool: Callable[[Mapping[str, str]], Generation | None], texts: Mapping[str, str]
) -> tuple[Generation | None, bool]:
    try:
        return tool(texts), False
    except Unreadable:
        return None, True


def _carriers(parts: FileParts) -> tuple[Callable[[FileParts, Entries], None], ...]:
    start = parts.bytes_at(0, min(parts.size, _SNIFFED_BYTES))
    for is_one, carriers in _FORMATS:
        if is_one(start):
            return carriers
    return ()
