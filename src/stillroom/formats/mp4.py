"""MP4 and QuickTime parser: display size and duration (ISO/IEC 14496-12)."""

import contextlib
from typing import Final, NamedTuple

from stillroom.formats.file_parts import BrokenHeader, FileParts
from stillroom.formats.isobmff import boxes, find_box, inner_boxes
from stillroom.formats.pixels import display_size

# `struct` formats of boxes. The second of each pair is for newer versions with 64-bit times.
_MOVIE_HEADER: Final = (">12xII16x5i", ">20xIQ16x5i")
_TRACK_HEADER: Final = (">I16xI16x9iII", ">I24xQ16x9iII")
_MEDIA_HEADER: Final = (">12xII", ">20xIQ")
_FRAGMENTS_HEADER: Final = (">4xI", ">4xQ")

_FIXED_POINT: Final = 1 << 16
_MAX_TRACKS: Final = 64

# Values for an unknown duration: zero (during a recording), or all bits set (8.2.2).
_UNKNOWN: Final = (0, 2**32 - 1, 2**64 - 1)
# Size in bytes of the fixed fields at the start of a video's sample description (12.1.3).
_VISUAL_ENTRY_BYTES: Final = 86
_HEADS_BYTES: Final = 4096  # size of the start of the `moov` box; enough for most movies


class _Track(NamedTuple):
    is_enabled: bool  # if False, players ignore the track
    size: tuple[int, int]  # before rotation
    is_turned: bool
    duration: int  # in the movie's time units, including edits
    media_seconds: float | None
    has_samples: bool  # outside fragments


def size(parts: FileParts) -> tuple[int, int]:
    """Return the width and height of the first video track, after rotation."""
    return _read_movie(parts)[0]


def duration(parts: FileParts) -> float | None:
    """Return the duration in seconds that players display, or None if it is unknown."""
    return _read_movie(parts)[1]


def _read_movie(parts: FileParts) -> tuple[tuple[int, int], float | None]:
    timescale = units = 0
    total, is_turned, tracks = None, False, list[_Track]()
    for kind, at, until in boxes(parts, *_find_movie(parts)):
        if kind == b"mvhd":
            timescale, units, *matrix = _read_numbers(parts, at, _MOVIE_HEADER)
            is_turned = _is_turned(matrix)
        elif kind == b"trak" and len(tracks) < _MAX_TRACKS:
            if (track := _read_video_track(parts, at, until)) is not None:
                tracks.append(track)
        elif kind == b"mvex":
            header = inner_boxes(parts, at, until).get(b"mehd")
            total = _read_numbers(parts, header[0], _FRAGMENTS_HEADER)[0] if header else 0
    if not tracks:
        raise BrokenHeader
    tracks.sort(key=lambda track: not track.is_enabled)
    first = tracks[0]
    display = first.size[::-1] if first.is_turned != is_turned else first.size
    if total is not None:  # the movie is fragmented, and `units` excludes the fragments
        is_total = total not in _UNKNOWN or first.has_samples
        return display, _seconds(total if is_total else units, timescale)
    for length in (units, *(track.duration for track in tracks)):
        if length not in _UNKNOWN:
            return display, _seconds(length, timescale)
    return display, first.media_seconds


def _seconds(units: int, timescale: int) -> float | None:
    return units / timescale if timescale and units not in _UNKNOWN else None


def _find_movie(parts: FileParts) -> tuple[int, int]:
    for kind, start, end in boxes(parts, 0, parts.size):
        if kind == b"moov":
            parts.read_ahead(start, min(end - start, _HEADS_BYTES))
            return start, end
        if end < parts.size:
            parts.read_ahead(end, 16)
    raise BrokenHeader


def _read_video_track(parts: FileParts, start: int, end: int) -> _Track | None:
    inner = inner_boxes(parts, start, end, b"tkhd", b"mdia")
    media = inner_boxes(parts, *inner[b"mdia"])
    if b"hdlr" not in media or parts.bytes_at(media[b"hdlr"][0] + 8, 4) != b"vide":
        return None
    if b"mdhd" not in media or b"minf" not in media:
        raise BrokenHeader
    flags, length, *matrix, width, height = _read_numbers(parts, inner[b"tkhd"][0], _TRACK_HEADER)
    timescale, media_duration = _read_numbers(parts, media[b"mdhd"][0], _MEDIA_HEADER)
    _, *table = find_box(parts, *media[b"minf"], b"stbl")
    coded, (across, down), has_samples = _read_samples(parts, *table)
    display = _round_fixed(width), _round_fixed(height)
    if display == coded:
        display = display[0] * across, display[1] * down
    display, seconds = display_size(coded, display), _seconds(media_duration, timescale)
    return _Track(flags & 1 != 0, display, _is_turned(matrix), length, seconds, has_samples)


def _read_samples(
    parts: FileParts, start: int, end: int
) -> tuple[tuple[int, int], tuple[int, int], bool]:
    coded, spacing, has_samples = (0, 0), (0, 0), False
    for kind, at, until in boxes(parts, start, end):
        if kind == b"stsd":
            width, height = parts.numbers(">HH", at + 8 + 32)
            coded = width, height
            spacing = _read_spacing(parts, at + 8, until)
        elif kind == b"stts":
            has_samples = parts.numbers(">I", at + 4)[0] > 0
        if coded != (0, 0) and has_samples:
            break  # the tables that follow are large and not needed
    return coded, spacing, has_samples


def _read_spacing(parts: FileParts, start: int, end: int) -> tuple[int, int]:
    """Return the pixel aspect ratio in the first `pasp` box (12.1.4). Zeros if there is none."""
    (length,) = parts.numbers(">I", start)
    with contextlib.suppress(BrokenHeader):  # QuickTime may have a colour table there
        end = min(start + length, end)
        _, at, _ = find_box(parts, start + _VISUAL_ENTRY_BYTES, end, b"pasp")
        across, down = parts.numbers(">II", at)
        return across, down
    return 0, 0


def _read_numbers(parts: FileParts, start: int, forms: tuple[str, str]) -> tuple[int, ...]:
    return parts.numbers(forms[parts.bytes_at(start, 1) != b"\0"], start)


def _is_turned(matrix: list[int]) -> bool:
    """Return whether a transformation matrix (6.2.2) rotates by 90° or 270°."""
    a, b, _, c, d = matrix[:5]
    return a == d == 0 and b != 0 and c != 0


def _round_fixed(fixed: int) -> int:
    return (fixed + _FIXED_POINT // 2) // _FIXED_POINT
