"""Duration of WebM files whose header has no duration, computed from the last cluster."""

from typing import Final

from stillroom.file_parts import BrokenHeader
from stillroom.media.headers.ebml import element_at, elements, number, unsigned
from stillroom.media.headers.header_bytes import MAX_READ_BYTES, HeaderBytes

CLUSTER: Final = 0x1F43B675
_TIMESTAMP: Final = 0xE7
_SIMPLE_BLOCK: Final = 0xA3
_BLOCK_GROUP: Final = 0xA0
_BLOCK: Final = 0xA1
_MIN_SEGMENT_LEVEL: Final = 0x10000000
"""Smallest id of top-level elements. Such an element ends a cluster whose size is unknown."""

_TRIES: Final = 8
"""Number of candidates to try, because encoded video may look like the start of a cluster."""


def end_of_last_cluster(header: HeaderBytes) -> int | None:
    """Return the end time of the last block, in the file's time units.

    Return None if the last cluster begins before the last 256 KiB of the file.
    """
    length = min(MAX_READ_BYTES, header.size)
    start = header.size - length
    last_part = header.bytes_at(start, length)
    at = length
    for _ in range(_TRIES):
        at = last_part.rfind(CLUSTER.to_bytes(4, "big"), 0, at)
        if at < 0:
            break
        try:
            return _end_of_cluster(header, start + at)
        except BrokenHeader:
            continue
    return None


def _end_of_cluster(header: HeaderBytes, start: int) -> int:
    """Return the last block's end time, assuming that it lasts as long as the block before it."""
    _, at, length = element_at(header, start)
    end = header.size if length is None else min(at + length, header.size)
    base: int | None = None
    times: dict[int | None, list[int]] = {}
    for kind, first, last in elements(header, at, end):
        if kind >= _MIN_SEGMENT_LEVEL:
            break
        if kind == _TIMESTAMP:
            base = unsigned(header, first, last)
        elif kind == _SIMPLE_BLOCK:
            track, time = _track_and_time(header, first)
            times.setdefault(track, []).append(time)
        elif kind == _BLOCK_GROUP:
            for below, inner, _ in elements(header, first, last):
                if below == _BLOCK:
                    track, time = _track_and_time(header, inner)
                    times.setdefault(track, []).append(time)
    if base is None or not times:
        raise BrokenHeader
    return base + max(_end_of_track(sorted(of_track)) for of_track in times.values())


def _track_and_time(header: HeaderBytes, start: int) -> tuple[int | None, int]:
    track, at = number(header, start)
    (time,) = header.numbers(">h", at)
    return track, time


def _end_of_track(times: list[int]) -> int:
    return times[-1] + (times[-1] - times[-2] if len(times) > 1 else 0)
