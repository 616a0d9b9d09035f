"""The facts in a file: what its carriers hold, by the first tool that knows it; and its mark."""

import asyncio
import concurrent.futures
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final, Protocol, TypeVar

from stillroom.file_parts import BrokenHeader, FileParts, MoreNeeded
from stillroom.generation.ai_mark import AiMark, mark_of, says_ai
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
from stillroom.work_budget import TooMuchWork, WorkBudget

MAX_BYTES: Final = 1024**2
"""Of one file, all reads together."""

_FIRST_BYTES: Final = 64 * 1024
_READ_BYTES: Final = 16 * 1024
_MAX_READS: Final = 24
_SNIFFED_BYTES: Final = 16
_parsing: Final = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="generation")
"""One: each more that computes makes the event loop wait for another turn of a thread."""

exceeded_reports: Final[set[Callable[[], None]]] = set()
"""Called for each file that takes more work than one file may."""

Read = Callable[[int, int], Awaitable[bytes]]
"""Reads so many bytes of a file, from a place on."""

Carrier = Callable[[FileParts, Entries], None]
T = TypeVar("T")
Parts = TypeVar("Parts", bound=FileParts)

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
        broken: Whether something was malformed, larger than is read, or too much work.
        ai_mark: None where it cannot be told, also of a format that is not read.
    """

    generation: Generation | None
    broken: bool = False
    ai_mark: AiMark | None = None


UNKNOWN: Final = Found(None, broken=True)
"""Nothing is known of a file that takes too much work."""


class Readable(Protocol):
    """An open file of which pieces can be read."""

    def chunks(self, start: int, length: int) -> AsyncIterator[bytes]:
        """The bytes from `start` on, `length` of them."""


def reader_of(file: Readable) -> Read:
    """What reads parts of an open file."""

    async def read(start: int, length: int) -> bytes:
        return b"".join([chunk async for chunk in file.chunks(start, length)])

    return read


def find(parts: FileParts) -> Found:
    """The facts in the parts of a file, and its mark.

    Raises:
        MoreNeeded: more of it must be read to know.
        TooMuchWork: the budget of the parts is spent.
    """
    broken, generation, gathered = False, None, []
    for carrier in _carriers(parts):
        if generation is not None and any(map(says_ai, gathered)):
            break  # whatever else there is costs another read
        entries = _gather(carrier, parts)
        gathered.append(entries)
        broken = broken or entries.broken
        if generation is None:
            found = interpret(entries.texts, parts.budget)
            broken, generation = broken or found.broken, found.generation
    return Found(generation, broken, mark_of(gathered))


def find_mark(parts: FileParts) -> AiMark | None:
    """The mark alone.

    Raises:
        MoreNeeded: more of the file must be read to know.
        TooMuchWork: the budget of the parts is spent.
    """
    return mark_of([_gather(carrier, parts) for carrier in _carriers(parts)])


def find_in(data: bytes) -> Found:
    """The facts in a whole file, or in its beginning if that is all that there is."""
    try:
        return find(FileParts.whole(data))
    except TooMuchWork:
        return UNKNOWN


def texts_in(data: bytes) -> Mapping[str, str]:
    """All texts of a whole file, by name as `carriers` gives them."""
    parts, found = FileParts.whole(data), {}
    for carrier in reversed(_carriers(parts)):
        found.update(_gather(carrier, parts).texts)
    return found


async def find_by_reading(size: int, read: Read) -> Found:
    """The facts in a file of `size` bytes, and its mark, as `by_reading`."""
    try:
        return await by_reading(size, read, find)
    except TooMuchWork:
        return UNKNOWN


async def by_reading(size: int, read: Read, look: Callable[[FileParts], T]) -> T:
    """What `look` finds in a file of `size` bytes, of which `read` is asked for 1 MiB at most.

    Raises:
        TooMuchWork: as `looked`.
    """
    parts = FileParts(size, MAX_BYTES)
    start, length = 0, min(size, _FIRST_BYTES)
    for _ in range(_MAX_READS):
        parts.add(start, await read(start, length))
        try:
            return await looked(parts, look)
        except MoreNeeded as more:
            if not parts.allows(more.start, more.length):
                break
            start = more.start
            room = max(more.length, min(_READ_BYTES, MAX_BYTES - parts.held))
            length = min(room, size - start)
    parts.end()
    return await looked(parts, look)


async def looked(parts: Parts, look: Callable[[Parts], T]) -> T:
    """What `look` finds in these parts: here if it takes a millisecond, else in a thread.

    Raises:
        TooMuchWork: it takes more work than one file may cause; this is counted.
    """
    whole = parts.budget
    parts.budget = part = whole.part_at_once()
    try:
        return look(parts)
    except (TooMuchWork, RecursionError):
        pass  # it is tried again with all that is left
    finally:
        whole.put_back(part)
        parts.budget = whole
    return await asyncio.get_running_loop().run_in_executor(_parsing, _look_in_full, parts, look)


def _look_in_full(parts: Parts, look: Callable[[Parts], T]) -> T:
    try:
        return look(parts)
    except (TooMuchWork, RecursionError) as error:
        for report in exceeded_reports:
            report()
        raise TooMuchWork from error


def _gather(carrier: Carrier, parts: FileParts) -> Entries:
    """What one carrier holds, as far as it can be read."""
    entries = Entries(parts.budget)
    try:
        carrier(parts, entries)
    except BrokenHeader:
        entries.lose()
    return entries


def interpret(texts: Mapping[str, str], budget: WorkBudget) -> Found:
    """The facts in the texts of one file, by name as `carriers` gives them.

    What the SDK has written stands above what a tool has: of a fact that it lacks, the tool's.

    Raises:
        TooMuchWork: the budget is spent.
    """
    ours, broken = _read_by(own.read, texts, budget)
    for tool in _TOOLS:
        theirs, unreadable = _read_by(tool, texts, budget)
        broken = broken or unreadable
        if theirs is not None:
            return Found(ours.over(theirs) if ours else theirs, broken)
    if ours is not None and ours.tool is None:
        ours = ours.over(Generation(tool="Stillroom"))
    return Found(ours, broken)


def _read_by(
    tool: Callable[[Mapping[str, str], WorkBudget], Generation | None],
    texts: Mapping[str, str],
    budget: WorkBudget,
) -> tuple[Generation | None, bool]:
    try:
        return tool(texts, budget), False
    except Unreadable:
        return None, True


def _carriers(parts: FileParts) -> tuple[Carrier, ...]:
    start = parts.bytes_at(0, min(parts.size, _SNIFFED_BYTES))
    for is_one, carriers in _FORMATS:
        if is_one(start):
            return carriers
    return ()
