"""PNG metadata: chunks tEXt, zTXt, iTXt, eXIf, caBX and `comf`, before and after the pixels.

Source: https://www.w3.org/TR/png-3/#11textinfo; `comf`: SaveAnimatedPNG in ComfyUI's
comfy_extras/nodes_images.py.
"""

import struct
import zlib
from collections.abc import Callable, Iterator
from typing import Final

from stillroom.formats import png
from stillroom.formats.file_parts import LOOKS_OF_A_READ, BrokenHeader, FileParts, at_most
from stillroom.formats.work_budget import WorkBudget
from stillroom.generation.carriers import exif, xmp
from stillroom.generation.carriers.entries import C2PA_BYTES, Entries
from stillroom.generation.facts import decode_text
from stillroom.generation.tools.own import KEY

_XMP_KEYWORD: Final = "XML:com.adobe.xmp"
_MANIFEST: Final = b"caBX"
_KINDS: Final = (b"tEXt", b"zTXt", b"iTXt", b"eXIf", b"comf", _MANIFEST)
_TAIL_BYTES: Final = 256 * 1024
_HEAD: Final = KEY.encode("ascii") + b"\0"
_PACKET: Final = _XMP_KEYWORD.encode("ascii") + b"\0"
_MAX_CHUNKS: Final = 200_000


def read(parts: FileParts, entries: Entries) -> None:
    """Add the metadata chunks before the pixels to `entries`."""
    for kind, start, length in at_most(png.MAX_CHUNKS, png.chunks_before_pixels(parts)):
        if kind == _MANIFEST:
            entries.add_manifest(parts.bytes_at(start, min(length, C2PA_BYTES)))
        elif kind in _KINDS:
            content = entries.read(parts, (start, length), with_mark=kind == b"iTXt")
            _read_chunk(kind, content, entries)


def read_tail(parts: FileParts, entries: Entries) -> None:
    """Add the metadata chunks after the pixels to `entries`, from the last 256 KiB of the file."""
    start = max(0, parts.size - _TAIL_BYTES)  # the tail that uploads retain, so it is not copied
    tail = entries.read(parts, (start, parts.size - start))
    try:
        chunks = png.chunks_at_end(tail, _KINDS, entries.budget)
    except BrokenHeader:
        entries.hides_mark = True
        return
    for kind, begin, size in chunks:
        _read_chunk(kind, tail[begin : begin + size], entries)


def _read_chunk(kind: bytes, content: bytes, entries: Entries) -> None:
    try:
        if kind == b"eXIf":
            exif.read(content, entries)
            return
        if kind == _MANIFEST:
            entries.add_manifest(content[:C2PA_BYTES])
            return
        keyword, text = _text_of(kind, content, entries)
    except BrokenHeader:
        entries.mark_broken(with_mark=content.startswith(_XMP_KEYWORD.encode()))
        return
    if keyword == _XMP_KEYWORD:
        xmp.read(text, entries)
    else:
        entries.add(keyword, decode_text(text))


def _text_of(kind: bytes, content: bytes, entries: Entries) -> tuple[str, bytes]:
    name, separator, rest = content.partition(b"\0")
    if not separator or len(name) > 79 or (kind == b"zTXt" and rest[:1] != b"\0"):
        raise BrokenHeader
    if kind == b"zTXt":
        rest = entries.inflate(rest[1:])
    elif kind == b"iTXt":
        rest = _itxt_text(content, entries)
    return name.decode("latin-1"), rest


def _itxt_text(content: bytes, entries: Entries) -> bytes:
    _name, _, rest = content.partition(b"\0")
    flags, rest = rest[:2], rest[2:]
    _language, _, rest = rest.partition(b"\0")
    _translated, separator, rest = rest.partition(b"\0")
    if not separator or flags not in (b"\0\0", b"\1\0"):
        raise BrokenHeader
    return entries.inflate(rest) if flags[0] else rest


def embed(data: bytes, facts: bytes) -> bytes:
    """Return a PNG file with generation parameters (JSON), which replace earlier parameters."""
    (_, _, header_end), *others = _chunks(data)
    kept = [data[:header_end], _chunk(_HEAD + b"\0\0\0\0" + facts)]
    for kind, start, end in others:
        if kind != b"iTXt" or not data.startswith(_HEAD, start + 8):
            kept.append(data[start:end])
    return b"".join(kept)


def with_packet(data: bytes, change: Callable[[bytes | None], bytes]) -> bytes:
    """Replace the XMP packet of a PNG file; see `Writer`."""
    chunks = list(_chunks(data))
    packets = (
        (start, end)
        for kind, start, end in chunks
        if kind == b"iTXt" and data.startswith(_PACKET, start + 8)
    )
    pixels = next(start for kind, start, _ in chunks if kind in (png.PIXELS, png.LAST))
    start, end = next(packets, (pixels, pixels))
    content = data[start + 8 : end - 4]
    packet = _itxt_text(content, Entries(WorkBudget())) if start < end else None
    return data[:start] + _chunk(_PACKET + b"\0\0\0\0" + change(packet)) + data[end:]


def _chunk(content: bytes) -> bytes:
    checked = b"iTXt" + content
    return struct.pack(">I", len(content)) + checked + struct.pack(">I", zlib.crc32(checked))


def _chunks(data: bytes) -> Iterator[png.Chunk]:
    if data[12:16] != b"IHDR":
        raise BrokenHeader
    budget = WorkBudget(LOOKS_OF_A_READ * _MAX_CHUNKS, len(data))
    for kind, start, length in png.chunks(FileParts.whole(data, budget)):
        end = start + length + 4
        if end > len(data):
            raise BrokenHeader
        yield kind, start - 8, len(data) if kind == png.LAST else end
