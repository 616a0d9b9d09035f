"""WebM parser: display size and duration (RFC 9559, https://www.webmproject.org/docs/container/)."""

from typing import Final

from stillroom.file_parts import BrokenHeader
from stillroom.media.headers.ebml import element_at, elements, floating, unsigned
from stillroom.media.headers.header_bytes import HeaderBytes
from stillroom.media.headers.shape import display_size

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

_PIXELS: Final = (0xB0, 0xBA)
_CROPPED: Final = ((0x54CC, 0x54DD), (0x54BB, 0x54AA))
_DISPLAY: Final = (0x54B0, 0x54BA)
_DISPLAY_UNIT: Final = 0x54B2
_SIZE_FIELDS: Final = frozenset({*_PIXELS, *_CROPPED[0], *_CROPPED[1], *_DISPLAY, _DISPLAY_UNIT})
"""Ids of the size fields, in pairs: width and height, left and right, top and bottom."""

_UNKNOWN_UNIT: Final = 4
_PROJECTION: Final = 0x7670
_ROLL: Final = 0x7675
_QUARTER: Final = 90.0
_USUAL_SCALE: Final = 1_000_000
_NANOSECONDS: Final = 10**9


def size(header: HeaderBytes) -> tuple[int, int]:
    """Return width and height of the first video track, after cropping and rotation."""
    start, end = _find_top_level(header, _TRACKS)
    for kind, at, until in elements(header, start, end):
        if kind == _TRACK_ENTRY:
            for below, first, last in elements(header, at, until):
                if below == _VIDEO:
                    width, height = _display_size(_read_numbers(header, first, last, _SIZE_FIELDS))
                    return (height, width) if _is_turned(header, first, last) else (width, height)
    raise BrokenHeader


def duration(header: HeaderBytes) -> float | None:
    """Return the duration in seconds. Files recorded by browsers have none."""
    start, end = _find_top_level(header, _INFO)
    scale, units = _USUAL_SCALE, None
    for kind, at, until in elements(header, start, end):
        if kind == _TIMESTAMP_SCALE:
            scale = unsigned(header, at, until)
        elif kind == _DURATION:
            units = floating(header, at, until)
    return None if units is None else units * scale / _NANOSECONDS


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


def _is_turned(header: HeaderBytes, start: int, end: int) -> bool:
    """Return whether players rotate the track by 90° or 270° (RFC 9559, ProjectionPoseRoll)."""
    for kind, at, until in elements(header, start, end):
        if kind == _PROJECTION:
            for below, first, last in elements(header, at, until):
                if below == _ROLL:
                    return abs(floating(header, first, last)) == _QUARTER
    return False


def _find_top_level(header: HeaderBytes, element: int) -> tuple[int, int]:
    """Return the content start and end of an element before the clusters or in the `SeekHead`."""
    first, end = _find_segment(header)
    position = None
    for kind, at, until in elements(header, first, end):
        if kind == element:
            return at, until
        if kind == _SEEK_HEAD and position is None:
            position = _seek(header, at, until, element)
        if kind == _CLUSTER:
            break
    if position is None or first + position >= end:
        raise BrokenHeader
    kind, at, length = element_at(header, first + position)
    if kind != element or length is None:
        raise BrokenHeader
    return at, at + length


def _find_segment(header: HeaderBytes) -> tuple[int, int]:
    """Return the segment's content start and end. In a truncated file, the end is the file's."""
    kind, at, length = element_at(header, 0)
    if kind != _EBML or length is None or not _is_webm(header, at, at + length):
        raise BrokenHeader
    kind, start, size_in_file = element_at(header, at + length)
    if kind != _SEGMENT:
        raise BrokenHeader
    return start, header.size if size_in_file is None else min(start + size_in_file, header.size)


def _is_webm(header: HeaderBytes, start: int, end: int) -> bool:
    """Return whether a Matroska header specifies the WebM document type."""
    return any(
        kind == _DOC_TYPE and header.bytes_at(at, until - at).rstrip(b"\0") == b"webm"
        for kind, at, until in elements(header, start, end)
    )


def _seek(header: HeaderBytes, start: int, end: int, element: int) -> int | None:
    """Return an element's position according to a `SeekHead`, relative to the segment's content."""
    for kind, at, until in elements(header, start, end):
        if kind == _SEEK:
            seek = _read_numbers(header, at, until, frozenset({_SEEK_ID, _SEEK_POSITION}))
            if seek.get(_SEEK_ID) == element:
                return seek.get(_SEEK_POSITION)
    return None


def _read_numbers(header: HeaderBytes, start: int, end: int, ids: frozenset[int]) -> dict[int, int]:
    return {
        kind: unsigned(header, at, until)
        for kind, at, until in elements(header, start, end)
        if kind in ids
    }
