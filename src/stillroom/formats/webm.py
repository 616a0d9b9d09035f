"""WebM parser (RFC 8794, RFC 9559 and https://www.webmproject.org/docs/container/)."""

import struct
from collections.abc import Iterator
from typing import Final

from stillroom.formats.file_parts import BrokenHeader, FileParts
from stillroom.formats.pixels import display_size

_EBML: Final = 0x1A45DFA3
_DOC_TYPE: Final = 0x4282
_SEGMENT: Final = 0x18538067
_SEEK_HEAD: Final = 0x114D9B74
_SEEK: Final = 0x4DBB
_SEEK_ID: Final = 0x53AB
_SEEK_POSITION: Final = 0x53AC
_CLUSTER: Final = 0x1F43B675
_INFO: Final = 0x1549A966
_TIMESTAMP_SCALE: Final = 0x2AD7B1
_DURATION: Final = 0x4489
_TRACKS: Final = 0x1654AE6B
_TRACK_ENTRY: Final = 0xAE
_VIDEO: Final = 0xE0

# Ids of elements with sizes. The pairs are width and height, left and right, top and bottom.
_PIXELS: Final = (0xB0, 0xBA)
_CROPPED: Final = ((0x54CC, 0x54DD), (0x54BB, 0x54AA))
_DISPLAY: Final = (0x54B0, 0x54BA)
_DISPLAY_UNIT: Final = 0x54B2
_SIZE_FIELDS: Final = frozenset({*_PIXELS, *_CROPPED[0], *_CROPPED[1], *_DISPLAY, _DISPLAY_UNIT})
_UNKNOWN_UNIT: Final = 4
_PROJECTION: Final = 0x7670
_ROLL: Final = 0x7675
_MAX_ID_BYTES: Final = 4
_MAX_NUMBER_BYTES: Final = 8


def elements(parts: FileParts, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Yield the id, content start and content end of each element from `start` to `end`."""
    while start < end:
        name, start, length = _element_at(parts, start)
        until = end if length is None else start + length  # None: written by a live recorder
        if until > end:
            raise BrokenHeader
        yield name, start, until
        start = until


def _elements_of(parts: FileParts, start: int, end: int, kind: int) -> Iterator[tuple[int, int]]:
    return ((at, until) for name, at, until in elements(parts, start, end) if name == kind)


def _element_at(parts: FileParts, start: int) -> tuple[int, int, int | None]:
    name, at = _coded(parts, start, _MAX_ID_BYTES)
    coded, end = _coded(parts, at, _MAX_NUMBER_BYTES)
    marker = 1 << 7 * (end - at)
    return name, end, None if coded == 2 * marker - 1 else coded - marker


def _unsigned(parts: FileParts, start: int, end: int) -> int:
    if end - start > _MAX_NUMBER_BYTES:
        raise BrokenHeader
    return int.from_bytes(parts.bytes_at(start, end - start), "big")


def _floating(parts: FileParts, start: int, end: int) -> float:
    form = {0: ">", 4: ">f", 8: ">d"}.get(end - start)
    if form is None:
        raise BrokenHeader
    return float((struct.unpack(form, parts.bytes_at(start, end - start)) or (0.0,))[0])


def _coded(parts: FileParts, start: int, max_bytes: int) -> tuple[int, int]:
    """Return a variable-size integer (RFC 8794, 4 and 5) with marker bit, and its end offset."""
    length = 9 - parts.bytes_at(start, 1)[0].bit_length()
    if length > max_bytes:
        raise BrokenHeader
    return int.from_bytes(parts.bytes_at(start, length), "big"), start + length


def size(parts: FileParts) -> tuple[int, int]:
    """Return the width and height of the first video track, after cropping and rotation."""
    for track in _elements_of(parts, *_find_top_level(parts, _TRACKS), _TRACK_ENTRY):
        for start, end in _elements_of(parts, *track, _VIDEO):
            width, height = _display_size(_read_numbers(parts, start, end, _SIZE_FIELDS))
            return (height, width) if _is_turned(parts, start, end) else (width, height)
    raise BrokenHeader


def duration(parts: FileParts) -> float | None:
    """Return the duration in seconds. None if it is missing, as in recordings by browsers."""
    start, end = _find_top_level(parts, _INFO)
    scale, units = 1_000_000, None  # nanoseconds per unit
    for kind, at, until in elements(parts, start, end):
        if kind == _TIMESTAMP_SCALE:
            scale = _unsigned(parts, at, until)
        elif kind == _DURATION:
            units = _floating(parts, at, until)
    return None if units is None else units * scale / 10**9


def _display_size(video: dict[int, int]) -> tuple[int, int]:
    width, height = (
        video.get(name, 0) - sum(video.get(edge, 0) for edge in edges)
        for name, edges in zip(_PIXELS, _CROPPED, strict=True)
    )
    if min(width, height) <= 0:
        raise BrokenHeader
    if video.get(_DISPLAY_UNIT, 0) >= _UNKNOWN_UNIT:
        return width, height
    across, down = (video.get(name, 0) for name in _DISPLAY)
    return display_size((width, height), (across, down))


def _is_turned(parts: FileParts, start: int, end: int) -> bool:
    """Return whether players rotate the track by 90° or 270° (RFC 9559, ProjectionPoseRoll)."""
    for projection in _elements_of(parts, start, end, _PROJECTION):
        for roll in _elements_of(parts, *projection, _ROLL):
            return abs(_floating(parts, *roll)) == 90
    return False


def _find_top_level(parts: FileParts, element: int) -> tuple[int, int]:
    """Return the content start and end of a top-level element, found by `SeekHead` if necessary."""
    first, end = _find_segment(parts)
    position = None
    for kind, at, until in elements(parts, first, end):
        if kind == element:
            return at, until
        if kind == _SEEK_HEAD and position is None:
            position = _seek(parts, at, until, element)
        if kind == _CLUSTER:
            break
    if position is None or first + position >= end:
        raise BrokenHeader
    return _content_at(parts, first + position, element)


def _find_segment(parts: FileParts) -> tuple[int, int]:
    start, end = _content_at(parts, 0, _EBML)
    types = _elements_of(parts, start, end, _DOC_TYPE)
    if not any(parts.bytes_at(at, until - at).rstrip(b"\0") == b"webm" for at, until in types):
        raise BrokenHeader
    kind, start, length = _element_at(parts, end)
    if kind != _SEGMENT:
        raise BrokenHeader
    return start, parts.size if length is None else min(start + length, parts.size)


def _content_at(parts: FileParts, start: int, element: int) -> tuple[int, int]:
    kind, at, length = _element_at(parts, start)
    if kind != element or length is None:
        raise BrokenHeader
    return at, at + length


def _seek(parts: FileParts, start: int, end: int, element: int) -> int | None:
    for at, until in _elements_of(parts, start, end, _SEEK):
        seek = _read_numbers(parts, at, until, frozenset({_SEEK_ID, _SEEK_POSITION}))
        if seek.get(_SEEK_ID) == element:
            return seek.get(_SEEK_POSITION)
    return None


def _read_numbers(parts: FileParts, start: int, end: int, ids: frozenset[int]) -> dict[int, int]:
    return {
        kind: _unsigned(parts, at, until)
        for kind, at, until in elements(parts, start, end)
        if kind in ids
    }
