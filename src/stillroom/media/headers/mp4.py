"""MP4 and QuickTime: size as shown, and duration, by the header of the movie (ISO/IEC 14496-12)."""

import contextlib
from dataclasses import dataclass
from typing import Final

from stillroom.file_parts import BrokenHeader, boxes
from stillroom.media.headers.fragments import TrackRuns
from stillroom.media.headers.header_bytes import HeaderBytes
from stillroom.media.headers.isobmff import only_box
from stillroom.media.headers.shape import shown_size

_ENABLED: Final = 1
_FIXED_POINT: Final = 1 << 16

_UNKNOWN: Final = (0, 2**32 - 1, 2**64 - 1)
"""Durations that say nothing: zero while it is written, all ones where nothing is known (8.2.2)."""

_MAX_TRACKS: Final = 64

_VISUAL_ENTRY_BYTES: Final = 86
"""Of a description of video, before the boxes in it (12.1.3)."""

_HEADS_BYTES: Final = 4096
"""What is asked for of most movies and their first track lies within."""


@dataclass(frozen=True, slots=True)
class Movie:
    """What `moov` says.

    Attributes:
        timescale: Units a second, of `durations` and of `tkhd`.
        durations: Of all fragments (`mehd`), and of what `moov` itself describes (`mvhd`).
        is_turned: The movie's own matrix turns by a quarter, one way or the other.
        tracks: Of video, those that are switched on first.
        sample_durations: Of a sample in a fragment that says nothing else, by the track's number;
            None where no fragments can follow.
        end: Where the box ends.
    """

    timescale: int
    durations: dict[bytes, int]
    is_turned: bool
    tracks: list["Track"]
    sample_durations: dict[int, int] | None
    end: int


@dataclass(frozen=True, slots=True)
class Track:
    """A track of video.

    Attributes:
        number: Its `track_ID`.
        is_enabled: It is meant to be shown.
        shown: Width and height by `tkhd`, in pixels.
        coded: The same by the description of its samples.
        spacing: Width and height of a pixel to each other, by the same; zeros: they are equal.
        is_turned: By a quarter, one way or the other.
        duration: In units of the movie, edits included.
        timescale: Units a second, of `media_duration`.
        media_duration: In units of its own.
        has_samples: Also outside of fragments.
    """

    number: int
    is_enabled: bool
    shown: tuple[int, int]
    coded: tuple[int, int]
    spacing: tuple[int, int]
    is_turned: bool
    duration: int
    timescale: int
    media_duration: int
    has_samples: bool


def size(header: HeaderBytes) -> tuple[int, int]:
    """Width and height of the first video track, turned as its matrix says."""
    movie = _movie(header)
    track = movie.tracks[0]
    shown = track.shown
    if shown == track.coded:
        shown = shown[0] * track.spacing[0], shown[1] * track.spacing[1]
    width, height = shown_size(track.coded, shown)
    return (height, width) if track.is_turned != movie.is_turned else (width, height)


def duration(header: HeaderBytes) -> float | None:
    """Seconds, as players show them: of the movie's header, which is its longest track's.

    Of a fragmented file: what `mehd` says, else the end of the last fragment that can be found.
    """
    movie = _movie(header)
    track = movie.tracks[0]
    total, described = movie.durations.get(b"mehd", 0), movie.durations[b"mvhd"]
    if movie.sample_durations is not None:
        if total in _UNKNOWN and not track.has_samples:
            total = described
        if total in _UNKNOWN:
            usual = movie.sample_durations.get(track.number, 0)
            run = TrackRuns(track.number, usual, track.media_duration)
            return _seconds(run.end(header, movie.end), track.timescale)
        return _seconds(total, movie.timescale)
    for found in (described, *(one.duration for one in movie.tracks)):
        if found not in _UNKNOWN:
            return _seconds(found, movie.timescale)
    return _seconds(track.media_duration, track.timescale)


def _seconds(units: int, timescale: int) -> float | None:
    return units / timescale if timescale and units not in _UNKNOWN else None


def _movie(header: HeaderBytes) -> Movie:
    start, end = _place(header)
    timescale, durations, is_turned = 0, {b"mvhd": 0}, False
    sample_durations: dict[int, int] | None = None
    tracks: list[Track] = []
    for kind, at, until in boxes(header, start, end):
        if kind == b"mvhd":
            timescale, durations[kind] = _time(header, at)
            is_turned = _is_turned(header, at + (48 if _is_wide(header, at) else 36))
        elif kind == b"trak" and len(tracks) < _MAX_TRACKS:
            track = _video_track(header, at, until)
            tracks += [track] if track is not None else []
        elif kind == b"mvex":
            sample_durations = {}
            for below, first, _ in boxes(header, at, until):
                if below == b"mehd":
                    form = ">Q" if _is_wide(header, first) else ">I"
                    (durations[below],) = header.numbers(form, first + 4)
                elif below == b"trex":
                    number, _, length = header.numbers(">III", first + 4)
                    sample_durations[number] = length
    if not tracks:
        raise BrokenHeader
    tracks.sort(key=lambda track: not track.is_enabled)
    return Movie(timescale, durations, is_turned, tracks, sample_durations, end)


def _place(header: HeaderBytes) -> tuple[int, int]:
    """Start and end of `moov`, which may stand behind all samples."""
    for kind, start, end in boxes(header, 0, header.size):
        if kind == b"moov":
            header.read_ahead(start, min(end - start, _HEADS_BYTES))
            return start, end
        if end < header.size:
            header.read_ahead(end, 16)
    raise BrokenHeader


def _video_track(header: HeaderBytes, start: int, end: int) -> Track | None:
    """None of a track of sound, text or time codes."""
    found = {kind: (at, until) for kind, at, until in boxes(header, start, end)}
    if b"tkhd" not in found or b"mdia" not in found:
        raise BrokenHeader
    media = {kind: (at, until) for kind, at, until in boxes(header, *found[b"mdia"])}
    if b"hdlr" not in media or header.bytes_at(media[b"hdlr"][0] + 8, 4) != b"vide":
        return None
    if b"mdhd" not in media or b"minf" not in media:
        raise BrokenHeader
    at, _ = found[b"tkhd"]
    shift = 12 if _is_wide(header, at) else 0
    (flags,) = header.numbers(">I", at)
    (number,) = header.numbers(">I", at + (20 if shift else 12))
    (length,) = header.numbers(">Q" if shift else ">I", at + (28 if shift else 20))
    width, height = header.numbers(">II", at + 76 + shift)
    timescale, media_duration = _time(header, media[b"mdhd"][0])
    table = only_box(header, *media[b"minf"], b"stbl")
    coded, spacing, has_samples = _samples(header, *table)
    return Track(
        number=number,
        is_enabled=bool(flags & _ENABLED),
        shown=(_rounded(width), _rounded(height)),
        coded=coded,
        spacing=spacing,
        is_turned=_is_turned(header, at + 40 + shift),
        duration=length,
        timescale=timescale,
        media_duration=media_duration,
        has_samples=has_samples,
    )


def _samples(
    header: HeaderBytes, start: int, end: int
) -> tuple[tuple[int, int], tuple[int, int], bool]:
    """Width and height as coded, the spacing of pixels, and whether there are samples at all."""
    coded, spacing, has_samples = (0, 0), (0, 0), False
    for kind, at, until in boxes(header, start, end):
        if kind == b"stsd":
            width, height = header.numbers(">HH", at + 8 + 32)
            coded = width, height
            spacing = _spacing(header, at + 8, until)
        elif kind == b"stts":
            has_samples = header.numbers(">I", at + 4)[0] > 0
        if coded != (0, 0) and has_samples:
            break  # the tables behind are large, and say nothing that is asked for
    return coded, spacing, has_samples


def _spacing(header: HeaderBytes, start: int, end: int) -> tuple[int, int]:
    """What `pasp` says in the first description (12.1.4); zeros where there is none."""
    (length,) = header.numbers(">I", start)
    with contextlib.suppress(BrokenHeader):  # QuickTime may have a table of colours there
        for kind, at, _ in boxes(header, start + _VISUAL_ENTRY_BYTES, min(start + length, end)):
            if kind == b"pasp":
                across, down = header.numbers(">II", at)
                return across, down
    return 0, 0


def _is_wide(header: HeaderBytes, start: int) -> bool:
    """Whether times in this box have 64 bits."""
    return header.bytes_at(start, 1) != b"\0"


def _time(header: HeaderBytes, start: int) -> tuple[int, int]:
    """Timescale and duration of `mvhd` or `mdhd`."""
    timescale, length = (
        header.numbers(">IQ", start + 20)
        if _is_wide(header, start)
        else header.numbers(">II", start + 12)
    )
    return timescale, length


def _is_turned(header: HeaderBytes, start: int) -> bool:
    """Whether a matrix exchanges width and height: by a quarter turn, mirrored or not (6.2.2)."""
    a, b, _, c, d = header.numbers(">5i", start)
    return a == d == 0 and b != 0 and c != 0


def _rounded(fixed: int) -> int:
    return (fixed + _FIXED_POINT // 2) // _FIXED_POINT
