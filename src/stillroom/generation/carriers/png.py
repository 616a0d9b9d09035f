"""PNG reader: chunks tEXt, zTXt, iTXt, eXIf, caBX and `comf`, before and after the pixels.

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
from stillroom.generation.texts import decode_text
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


def read(parts: FileParts, entries: Entries) -> None:
    """Read the metadata chunks before the pixels into `entries`."""
    at = len(SIGNATURE)
    for _ in range(_MAX_CHUNKS):
        head = parts.bytes_at(at, 8)
        length, kind = int.from_bytes(head[:4], "big"), head[4:]
        if kind in (_PIXELS, _LAST):
            return
        if kind == _MANIFEST:
            entries.add_manifest(parts.bytes_at(at + 8, min(length, c2pa.HEAD_BYTES)))
        elif kind in _KINDS:
            if is_readable(parts, at + 8, length):
                _read_chunk(kind, parts.bytes_at(at + 8, length), entries)
            else:
                entries.mark_broken(with_mark=kind == b"iTXt")
        at += length + 12
    entries.mark_broken()


def read_tail(parts: FileParts, entries: Entries) -> None:
    """Read the chunks after the pixels, in the last 256 KiB of the file.

    Skipping the pixel chunks from the start would take many reads, each of which is a request in a
    bucket. The 256 KiB are therefore searched for offsets from which consecutive chunks lead to the
    last chunk. Pixel chunks are searched first; only if that fails, all types are.
    """
    start = max(0, parts.size - _TAIL_BYTES)  # the tail that uploads retain, so it is not copied
    length = parts.size - start
    if not parts.allows(start, length):
        entries.mark_broken()
        return
    tail = parts.bytes_at(start, length)
    chunks = _plain_end(tail, entries.budget)
    if chunks is not None:
        for kind, begin, end in chunks:
            _read_chunk(kind, tail[begin:end], entries)
        return
    end = tail.find(_END)
    if end < 0:
        entries.hides_mark = True
        return
    tail = tail[: end + len(_END)]  # bytes after it are not part of the image
    dead: set[int] = set()
    for kinds in ((_PIXELS,), _KINDS):
        entries.budget.hand_out(len(tail) * len(kinds))
        for place in itertools.islice(_places(tail, kinds), _MAX_CHUNKS):
            chunks = _chain(tail, place - 4, dead, entries.budget)
            if chunks is not None:
                for kind, begin, end in chunks:
                    _read_chunk(kind, tail[begin:end], entries)
                return


def _plain_end(tail: bytes, budget: WorkBudget) -> list[tuple[bytes, int, int]] | None:
    """Return the chunks from the first pixel chunk on if the last one ends the file, else None.

    In this usual case, no search for an earlier end of the image is needed.
    """
    first = tail.find(_PIXELS)
    if first < 0 or not tail.endswith(_END) or tail.find(_END, 0, first) >= 0:
        return None
    return _chain(tail, first - 4, set(), budget)


def _places(tail: bytes, kinds: Iterable[bytes]) -> Iterator[int]:
    """Yield offsets at which chunks of these types may be. `find` is faster than a regex."""

    def places(kind: bytes) -> Iterator[int]:
        at = tail.find(kind)
        while at >= 0:
            yield at
            at = tail.find(kind, at + 1)

    return heapq.merge(*map(places, kinds))


def _chain(
    tail: bytes, at: int, dead: set[int], budget: WorkBudget
) -> list[tuple[bytes, int, int]] | None:
    """Return the type and the start and end of the content of each known chunk from `at` on.

    Return None if the consecutive chunks do not lead to the end of the file.

    Args:
        tail: Last bytes of the file.
        at: Start of the first chunk.
        dead: Offsets for which this function returned None. It adds new ones.
        budget: Work budget, charged for each chunk.
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


def _read_chunk(kind: bytes, content: bytes, entries: Entries) -> None:
    try:
        if kind == b"eXIf":
            exif.read(content, entries)
            return
        if kind == _MANIFEST:
            entries.add_manifest(content[: c2pa.HEAD_BYTES])
            return
        keyword, text = _text_of(kind, content, entries)
    except BrokenHeader:
        entries.mark_broken(with_mark=content.startswith(XMP_KEYWORD.encode()))
        return
    if keyword == XMP_KEYWORD:
        xmp.read(text, entries)
    else:
        entries.add(keyword, decode_text(text))


def _text_of(kind: bytes, content: bytes, entries: Entries) -> tuple[str, bytes]:
    name, separator, rest = content.partition(b"\0")
    if not separator or len(name) > 79:
        raise BrokenHeader
    if kind == b"zTXt":
        if rest[:1] != b"\0":
            raise BrokenHeader
        rest = entries.inflate(rest[1:])
    elif kind == b"iTXt":
        rest = itxt_text(content, entries)
    return name.decode("latin-1"), rest


def itxt_text(content: bytes, entries: Entries) -> bytes:
    """Return the decompressed text of an iTXt chunk. Raise `BrokenHeader` if it is malformed."""
    _name, _, rest = content.partition(b"\0")
    flags, rest = rest[:2], rest[2:]
    _language, _, rest = rest.partition(b"\0")
    _translated, separator, rest = rest.partition(b"\0")
    if not separator or flags not in (b"\0\0", b"\1\0"):
        raise BrokenHeader
    return entries.inflate(rest) if flags[0] else rest
