"""PNG: tEXt, zTXt, iTXt, eXIf, caBX, and ComfyUI's `comf`, in front of the pixels and behind them.

Source: https://www.w3.org/TR/png-3/#11textinfo; `comf`: SaveAnimatedPNG in ComfyUI's
comfy_extras/nodes_images.py.
"""

import heapq
import itertools
from collections.abc import Iterable, Iterator
from typing import Final

from stillroom.file_parts import BrokenHeader, FileParts
from stillroom.generation.carriers import c2pa, exif, xmp
from stillroom.generation.carriers.entries import Entries, is_readable
from stillroom.generation.texts import decoded
from stillroom.work_budget import WorkBudget

SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
XMP_KEYWORD: Final = "XML:com.adobe.xmp"
_MANIFEST: Final = b"caBX"

_TEXTS: Final = (b"zTXt", b"iTXt")
_KINDS: Final = (b"tEXt", *_TEXTS, b"eXIf", b"comf", _MANIFEST)
_PIXELS: Final = b"IDAT"
_LAST: Final = b"IEND"
_MAX_CHUNKS: Final = 4096
_TAIL_BYTES: Final = 256 * 1024
_END: Final = b"\0\0\0\0IEND\xaeB`\x82"


def read(parts: FileParts, found: Entries) -> None:
    """What stands in front of the pixels."""
    at = len(SIGNATURE)
    for _ in range(_MAX_CHUNKS):
        head = parts.bytes_at(at, 8)
        length, kind = int.from_bytes(head[:4], "big"), head[4:]
        if kind in (_PIXELS, _LAST):
            return
        if kind == _MANIFEST:
            found.take_manifest(parts.bytes_at(at + 8, min(length, c2pa.HEAD_BYTES)))
        elif kind in _KINDS:
            if is_readable(parts, at + 8, length):
                _take(kind, parts.bytes_at(at + 8, length), found)
            else:
                found.lose(with_mark=kind == b"iTXt")
        at += length + 12
    found.lose()


def read_tail(parts: FileParts, found: Entries) -> None:
    """What stands behind the pixels, in the last 256 KiB.

    There are dozens of chunks of pixels in between, and in a bucket each look is a request. So the
    chunks are found from the end: a place is one if others follow it up to the last. Mostly a chunk
    of pixels is near; only where there is none the tail is searched for all kinds.
    """
    start = max(0, parts.size - _TAIL_BYTES)  # all that was kept of an upload: it is not copied
    length = parts.size - start
    if not parts.allows(start, length):
        found.lose()
        return
    tail = parts.bytes_at(start, length)
    chunks = _plain_end(tail, found.budget)
    if chunks is not None:
        for kind, begin, end in chunks:
            _take(kind, tail[begin:end], found)
        return
    end = tail.find(_END)
    if end < 0:
        found.hides_mark = True
        return
    tail = tail[: end + len(_END)]  # what stands behind it is no part of the image
    dead: set[int] = set()
    for kinds in ((_PIXELS,), _KINDS):
        found.budget.hand_out(len(tail) * len(kinds))
        for place in itertools.islice(_places(tail, kinds), _MAX_CHUNKS):
            chunks = _chain(tail, place - 4, dead, found.budget)
            if chunks is not None:
                for kind, begin, end in chunks:
                    _take(kind, tail[begin:end], found)
                return


def _plain_end(tail: bytes, budget: WorkBudget) -> list[tuple[bytes, int, int]] | None:
    """The chunks behind the first pixels if these lead to the file's very end, as they mostly do.

    Then what is behind the pixels need not be searched for an end that comes before.
    """
    first = tail.find(_PIXELS)
    if first < 0 or not tail.endswith(_END) or tail.find(_END, 0, first) >= 0:
        return None
    return _chain(tail, first - 4, set(), budget)


def _places(tail: bytes, kinds: Iterable[bytes]) -> Iterator[int]:
    """Where a chunk of one of these kinds may be; `find` is ten times as fast as a pattern."""

    def places(kind: bytes) -> Iterator[int]:
        at = tail.find(kind)
        while at >= 0:
            yield at
            at = tail.find(kind, at + 1)

    return heapq.merge(*map(places, kinds))


def _chain(
    tail: bytes, at: int, dead: set[int], budget: WorkBudget
) -> list[tuple[bytes, int, int]] | None:
    """Kind, start and end of the content of each chunk from `at` on, if they end with the file.

    Args:
        tail: End of the file.
        at: Start of the first chunk.
        dead: Places whose chunks do not end with the file; more are added.
        budget: Spent by each chunk.
    """
    passed: list[int] = []
    chunks: list[tuple[bytes, int, int]] = []
    last = len(tail) - len(_END)
    budget.look()
    while 0 <= at < last and at not in dead:
        budget.look()
        passed.append(at)
        end = at + 8 + int.from_bytes(tail[at : at + 4], "big")
        kind = tail[at + 4 : at + 8]
        if kind == _LAST or not kind.isalpha():
            break
        if kind in _KINDS:
            chunks.append((kind, at + 8, end))
        at = end + 4
    if at == last:
        return chunks
    dead.update(passed)
    return None


def _take(kind: bytes, content: bytes, found: Entries) -> None:
    try:
        if kind == b"eXIf":
            exif.read(content, found)
            return
        if kind == _MANIFEST:
            found.take_manifest(content[: c2pa.HEAD_BYTES])
            return
        keyword, text = _text_of(kind, content, found)
    except BrokenHeader:
        found.lose(with_mark=content.startswith(XMP_KEYWORD.encode()))
        return
    if keyword == XMP_KEYWORD:
        xmp.read(text, found)
    else:
        found.add(keyword, decoded(text))


def _text_of(kind: bytes, content: bytes, found: Entries) -> tuple[str, bytes]:
    name, separator, rest = content.partition(b"\0")
    if not separator or len(name) > 79:
        raise BrokenHeader
    if kind == b"zTXt":
        if rest[:1] != b"\0":
            raise BrokenHeader
        rest = found.inflate(rest[1:])
    elif kind == b"iTXt":
        rest = itxt_text(content, found)
    return name.decode("latin-1"), rest


def itxt_text(content: bytes, found: Entries) -> bytes:
    """The text of an iTXt chunk, inflated.

    Raises:
        BrokenHeader: it is none, or too large.
    """
    _name, _, rest = content.partition(b"\0")
    flags, rest = rest[:2], rest[2:]
    _language, _, rest = rest.partition(b"\0")
    _translated, separator, rest = rest.partition(b"\0")
    if not separator or flags not in (b"\0\0", b"\1\0"):
        raise BrokenHeader
    return found.inflate(rest) if flags[0] else rest
