"""PNG parser: chunks, size and colour profile (https://www.w3.org/TR/png-3/)."""

import heapq
import itertools
import zlib
from collections.abc import Collection, Iterator
from typing import Final

from stillroom.formats.file_parts import BrokenHeader, FileParts
from stillroom.formats.pixels import CODED_SPACES, SRGB, icc_name
from stillroom.formats.work_budget import WorkBudget

SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
PIXELS: Final = b"IDAT"
LAST: Final = b"IEND"
MAX_CHUNKS: Final = 4096  # limit of metadata chunks to parse, and of offsets in `chunks_at_end`

_END: Final = b"\0\0\0\0IEND\xaeB`\x82"
_MAX_PROFILE_BYTES: Final = 1024**2  # most colour profiles have a few kilobytes
Chunk = tuple[bytes, int, int]  # type of a chunk, and offset and length of the content


def chunks(parts: FileParts) -> Iterator[Chunk]:
    """Yield the chunks from IHDR to IEND. The last one may extend past the end of the file."""
    at, kind = len(SIGNATURE), b""
    while kind != LAST:
        head = parts.bytes_at(at, 8)
        length, kind = int.from_bytes(head[:4], "big"), head[4:]
        yield kind, at + 8, length
        at += length + 12


def chunks_before_pixels(parts: FileParts) -> Iterator[Chunk]:
    """Yield the chunks that precede the first IDAT or IEND chunk."""
    return itertools.takewhile(lambda chunk: chunk[0] not in (PIXELS, LAST), chunks(parts))


def chunks_at_end(tail: bytes, kinds: Collection[bytes], budget: WorkBudget) -> list[Chunk]:
    """Return the chunks of the types `kinds` in `tail`, the last bytes of a file.

    `tail` may begin inside a chunk. The search therefore tries all offsets of the text `IDAT`,
    then those of `kinds`, until it finds consecutive chunks up to IEND, the last chunk.
    """
    first = tail.find(PIXELS)
    if first >= 0 and tail.endswith(_END) and tail.find(_END, 0, first) < 0:
        chain = _chain(tail, first - 4, set(), kinds, budget)  # usual; nothing follows the image
        if chain is not None:
            return chain
    end = tail.find(_END)
    if end < 0:
        raise BrokenHeader
    tail = tail[: end + len(_END)]  # bytes after it are not part of the image
    dead: set[int] = set()
    for searched in ((PIXELS,), kinds):
        budget.hand_out(len(tail) * len(searched))
        places = heapq.merge(*(_places(tail, kind) for kind in searched))
        for place in itertools.islice(places, MAX_CHUNKS):
            chain = _chain(tail, place - 4, dead, kinds, budget)
            if chain is not None:
                return chain
    return []


def _places(tail: bytes, kind: bytes) -> Iterator[int]:
    at = tail.find(kind)
    while at >= 0:
        yield at
        at = tail.find(kind, at + 1)


def _chain(
    tail: bytes, at: int, dead: set[int], kinds: Collection[bytes], budget: WorkBudget
) -> list[Chunk] | None:
    """Return the chunks of `kinds` from the offset `at` to the end; None if there is no such chain.

    `dead` contains offsets from which no chain leads to the end. The function adds more to it.
    """
    passed: list[int] = []
    chain: list[Chunk] = []
    last = len(tail) - len(_END)
    budget.look()
    while 0 <= at < last and at not in dead:
        budget.look()
        passed.append(at)
        length, kind = int.from_bytes(tail[at : at + 4], "big"), tail[at + 4 : at + 8]
        if kind == LAST or not kind.isalpha():
            break
        if kind in kinds:
            chain.append((kind, at + 8, length))
        at += length + 12
    if at == last:
        return chain
    dead.update(passed)
    return None


def size(parts: FileParts) -> tuple[int, int]:
    """Return the width and height from the IHDR chunk."""
    if parts.bytes_at(12, 4) != b"IHDR":
        raise BrokenHeader
    width, height = parts.numbers(">II", 16)
    return width, height


def color_profile(parts: FileParts) -> str | None:
    """Return the name of the colour profile in the chunk cICP, iCCP or sRGB, or None."""
    places = {kind: (start, length) for kind, start, length in chunks_before_pixels(parts)}
    if b"cICP" in places:
        return CODED_SPACES.get(parts.numbers("BB", places[b"cICP"][0]))
    if b"iCCP" in places:
        _, _, packed = parts.bytes_at(*places[b"iCCP"]).partition(b"\0")
        try:
            profile, _ = parts.budget.inflate(packed[1:], _MAX_PROFILE_BYTES)
        except zlib.error:
            raise BrokenHeader from None
        return icc_name(profile)
    return SRGB if b"sRGB" in places else None
