"""Duration of fragmented MP4 files whose header has no duration: the end of the last fragment."""

from dataclasses import dataclass
from typing import Final

from stillroom.file_parts import BrokenHeader, boxes
from stillroom.media.headers.header_bytes import HeaderBytes

_INDEX_END_BYTES: Final = 16
"""Size of a file's last box, `mfro`, which contains the index's size (ISO/IEC 14496-12, 8.8.11)."""


@dataclass(frozen=True, slots=True)
class TrackRuns:
    """Samples of one track in all fragments. Times are in the track's time units.

    Attributes:
        track: The track's `track_ID`.
        default_duration: Duration of samples for which the fragment specifies no duration.
        base_time: End time of the samples that precede the first fragment.
    """

    track: int
    default_duration: int
    base_time: int

    def end(self, header: HeaderBytes, start: int) -> int:
        """Return the last sample's end time, from the index or from the boxes after `start`."""
        time, indexed = self.base_time, self._last_in_index(header)
        if indexed is not None:
            time, start = indexed
        for kind, at, until in boxes(header, start, header.size):
            if kind == b"moof":
                time = self._end_of_fragment(header, at, until, time)
            if indexed is not None:
                break
            if until < header.size:
                header.read_ahead(until, 16)
        return time

    def _last_in_index(self, header: HeaderBytes) -> tuple[int, int] | None:
        """Return the start time and file position of the last fragment in the index, or None."""
        at_end = header.size - _INDEX_END_BYTES
        if at_end < 0:
            return None
        if header.bytes_at(at_end + 4, 4) != b"mfro":
            return None
        (index_length,) = header.numbers(">I", at_end + 12)
        for kind, at, until in boxes(header, header.size - index_length, header.size):
            if kind != b"mfra":
                return None
            for below, first, last in boxes(header, at, until):
                if below == b"tfra" and header.numbers(">I", first + 4) == (self.track,):
                    return _last_entry(header, first, last)
        return None

    def _end_of_fragment(self, header: HeaderBytes, start: int, end: int, time: int) -> int:
        """Return a fragment's end time. `time` is its start unless the fragment specifies one."""
        for kind, at, until in boxes(header, start, end):
            if kind == b"traf":
                time = self._end_of_run(header, at, until, time)
        return time

    def _end_of_run(self, header: HeaderBytes, start: int, end: int, time: int) -> int:
        default_duration = self.default_duration
        for kind, at, until in boxes(header, start, end):
            if kind == b"tfhd":
                flags, number = header.numbers(">II", at)
                if number != self.track:
                    break
                if flags & 0x8:
                    skipped = 8 * bool(flags & 0x1) + 4 * bool(flags & 0x2)
                    (default_duration,) = header.numbers(">I", at + 8 + skipped)
            elif kind == b"tfdt":
                form = ">I" if header.bytes_at(at, 1) == b"\0" else ">Q"
                (time,) = header.numbers(form, at + 4)
            elif kind == b"trun":
                time += _duration(header, at, until, default_duration)
        return time


def _last_entry(header: HeaderBytes, start: int, end: int) -> tuple[int, int] | None:
    """Return the time and file position in the last entry of a `tfra` box (8.8.10)."""
    is_wide = header.bytes_at(start, 1) != b"\0"
    lengths, count = header.numbers(">II", start + 8)
    length = (16 if is_wide else 8) + sum((lengths >> shift & 3) + 1 for shift in (0, 2, 4))
    at = start + 16 + (count - 1) * length
    if not count or at + length > end:
        return None
    time, position = header.numbers(">QQ" if is_wide else ">II", at)
    return time, position


def _duration(header: HeaderBytes, start: int, end: int, default_duration: int) -> int:
    """Return the total duration of the samples in a `trun` box (8.8.8)."""
    flags, count = header.numbers(">II", start)
    if not flags & 0x100:
        return count * default_duration
    fields = sum(bool(flags & bit) for bit in (0x100, 0x200, 0x400, 0x800))
    at = start + 8 + 4 * bool(flags & 0x1) + 4 * bool(flags & 0x4)
    if at + 4 * fields * count > end:
        raise BrokenHeader
    return sum(header.numbers(f">{fields * count}I", at)[::fields])
