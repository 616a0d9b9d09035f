"""Functions that read generation parameters and the AI mark from image and video files."""

import asyncio
import concurrent.futures
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final, TypeVar

from stillroom.formats.file_parts import BrokenHeader, FileParts, MoreNeeded
from stillroom.formats.work_budget import TooMuchWork, WorkBudget
from stillroom.generation.ai_mark import mark_of, says_ai
from stillroom.generation.carriers.entries import Entries
from stillroom.generation.facts import Unreadable
from stillroom.generation.file_types import Reader, file_type_of
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
from stillroom.wire.generation import AiMark, Generation

MAX_BYTES: Final = 1024**2  # maximum number of bytes that are read from one file
_FIRST_BYTES: Final = 64 * 1024
_READ_BYTES: Final = 16 * 1024
_MAX_READS: Final = 24
# More threads for slow parsing would delay the event loop, since they share an interpreter (GIL).
_parsing: Final = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="generation")

exceeded_reports: Final[set[Callable[[], None]]] = set()
"""Functions that are called when the metadata of a file takes too much work to parse."""

Read = Callable[[int, int], Awaitable[bytes]]
"""Function that reads part of a file: the arguments are the start and the length in bytes."""

T = TypeVar("T")

_TOOLS: Final = (swarmui, fooocus, invokeai, novelai, drawthings, a1111, comfyui)
"""Modules of tools in the order in which they are tried. The most reliable ones are first."""


@dataclass(frozen=True, slots=True)
class Found:
    """Generation parameters and AI mark that were found in a file. Each is None if unknown."""

    generation: Generation | None
    broken: bool = False  # some metadata was malformed, too large or took too much work to parse
    ai_mark: AiMark | None = None


UNKNOWN: Final = Found(None, broken=True)
"""Result for a file whose metadata takes too much work to parse."""


def reader_of(chunks: Callable[[int, int], AsyncIterator[bytes]]) -> Read:
    """Convert a function that yields part of a file in chunks to a function of type `Read`."""

    async def read(start: int, length: int) -> bytes:
        return b"".join([chunk async for chunk in chunks(start, length)])

    return read


def find(parts: FileParts) -> Found:
    """Find the generation parameters and the AI mark. Raises `MoreNeeded` or `TooMuchWork`."""
    broken, generation, gathered = False, None, []
    for reader in _readers(parts):
        if generation is not None and any(map(says_ai, gathered)):
            break  # the remaining readers would read another part of the file
        entries = _gather(reader, parts)
        gathered.append(entries)
        broken = broken or entries.broken
        if generation is None:
            result = interpret(entries.texts, parts.budget)
            broken, generation = broken or result.broken, result.generation
    return Found(generation, broken, mark_of(gathered))


def find_mark(parts: FileParts) -> AiMark | None:
    """Find only the AI mark; like `find`."""
    return mark_of(gather_all(parts))


def gather_all(parts: FileParts) -> list[Entries]:
    """Return the metadata that each reader finds in a file. Raises the errors of `find`."""
    return [_gather(reader, parts) for reader in _readers(parts)]


async def find_by_reading(size: int, read: Read) -> Found:
    """Find the generation parameters and the AI mark in a file of `size` bytes."""
    try:
        return await by_reading(size, read, find)
    except TooMuchWork:
        return UNKNOWN


async def by_reading(size: int, read: Read, parse: Callable[[FileParts], T]) -> T:
    """Call `parse`, and read the parts of the file that it requests, until it returns a result.

    `parse` starts again after each read. A request beyond 1 MiB in total raises `BrokenHeader`.
    """
    parts = FileParts(size, MAX_BYTES)
    start, length = 0, min(size, _FIRST_BYTES)
    for _ in range(_MAX_READS):
        parts.add(start, await read(start, length))
        try:
            return await run_parser(parts, parse)
        except MoreNeeded as more:
            if not parts.allows(more.start, more.length):
                break
            start, room = more.start, min(_READ_BYTES, MAX_BYTES - parts.held)
            length = min(max(more.length, room), size - start)
    parts.end()
    return await run_parser(parts, parse)


async def run_parser(parts: FileParts, parse: Callable[[FileParts], T]) -> T:
    """Call `parse` in the event loop. If that takes more than about 1 ms, use a thread instead."""
    whole = parts.budget
    parts.budget = part = whole.part_at_once()
    try:
        return parse(parts)
    except (TooMuchWork, RecursionError):
        pass  # retried below with the rest of the budget
    finally:
        whole.put_back(part)
        parts.budget = whole
    return await asyncio.get_running_loop().run_in_executor(_parsing, _parse_in_full, parts, parse)


def _parse_in_full(parts: FileParts, parse: Callable[[FileParts], T]) -> T:
    try:
        return parse(parts)
    except (TooMuchWork, RecursionError) as error:
        for report in exceeded_reports:
            report()
        raise TooMuchWork from error


def _gather(reader: Reader, parts: FileParts) -> Entries:
    entries = Entries(parts.budget)
    try:
        reader(parts, entries)
    except BrokenHeader:
        entries.mark_broken()
    return entries


def interpret(texts: Mapping[str, str], budget: WorkBudget) -> Found:
    """Find the generation parameters in a file's texts (see `Entries`), trying each known tool.

    Parameters that the SDK embedded override parameters from another tool.
    """
    ours, broken = None, False
    for tool in (own, *_TOOLS):
        try:
            generation = tool.read(texts, budget)
        except Unreadable:
            broken = True
            continue
        if tool is own:
            ours = generation
        elif generation is not None:
            return Found(ours.over(generation) if ours else generation, broken)
    if ours is not None and ours.tool is None:
        ours = ours.over(Generation(tool="Stillroom"))
    return Found(ours, broken)


def _readers(parts: FileParts) -> tuple[Reader, ...]:
    return file_type_of(parts.bytes_at(0, min(parts.size, 16))).readers
