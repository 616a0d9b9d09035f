"""Videos in containers that are made here, around frames that Chromium has recorded once.

`recordings/` has what its `MediaRecorder` made of a canvas; `browser/recording.py` makes them anew.
`ffmpeg.mp4` there was written by libavformat 62.12 (PyAV 18.1): 320 x 180, 24 frames a second,
three seconds of grey in H.264 and four of silence in AAC, `moov` behind the samples.
"""

import itertools
import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

RECORDINGS = Path(__file__).parent / "recordings"
SIZE = (160, 90)

IDENTITY = (1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)
QUARTER = (0, 1 << 16, 0, -1 << 16, 0, 0, 0, 0, 1 << 30)
"""Matrices of `tkhd`: as it is, and turned by 90 degrees, as phones write it."""


def recorded(kind: str) -> bytes:
    """What Chromium has recorded, as `webm` or `mp4`: no duration, clusters of unknown size."""
    return (RECORDINGS / f"canvas.{kind}").read_bytes()


@dataclass(frozen=True)
class Frame:
    data: bytes
    time_ms: int
    is_key: bool


def frames() -> list[Frame]:
    return list(_frames(recorded("webm")))


def _frames(webm: bytes) -> Iterator[Frame]:
    at, base = 0, 0
    while at < len(webm):
        name, length, start = _element(webm, at)
        at = start
        if name in (0x18538067, 0x1F43B675):  # into the segment, and into clusters
            continue
        content = webm[start : start + length]
        if name == 0xE7:
            base = int.from_bytes(content, "big")
        elif name == 0xA3:
            (time,) = struct.unpack_from(">h", content, 1)
            yield Frame(content[4:], base + time, bool(content[3] & 0x80))
        at = start + length


def _element(data: bytes, at: int) -> tuple[int, int, int]:
    def coded(start: int) -> tuple[int, int]:
        length = 9 - data[start].bit_length()
        return int.from_bytes(data[start : start + length], "big"), length

    name, name_bytes = coded(at)
    size, size_bytes = coded(at + name_bytes)
    return name, size - (1 << 7 * size_bytes), at + name_bytes + size_bytes


# MP4


def box(kind: bytes, *content: bytes) -> bytes:
    inner = b"".join(content)
    return struct.pack(">I4s", 8 + len(inner), kind) + inner


def wide_box(kind: bytes, *content: bytes) -> bytes:
    inner = b"".join(content)
    return struct.pack(">I4sQ", 1, kind, 16 + len(inner)) + inner


def full(kind: bytes, version: int, flags: int, *content: bytes) -> bytes:
    return box(kind, struct.pack(">I", version << 24 | flags), *content)


def numbers(form: str, *values: int | bytes) -> bytes:
    return struct.pack(f">{form}", *values)


def ftyp(brand: bytes = b"isom") -> bytes:
    return box(b"ftyp", brand, numbers("I", 512), b"isom", b"mp41")


@dataclass(frozen=True)
class Mp4:
    """How an MP4 is to be made; `mvhd`, `tkhd` and `mdhd` have the duration, or that of the frames.

    Attributes:
        frames: Their times begin at zero.
        shown: Size by `tkhd`, if it is another one.
        spacing: By `pasp`, if there is one.
        version: Of these three; 1 has 64-bit times.
        padding: Bytes of `free` inside of `moov`, behind the tracks.
    """

    frames: Sequence[Frame]
    size: tuple[int, int] = SIZE
    shown: tuple[int, int] | None = None
    spacing: tuple[int, int] | None = None
    matrix: tuple[int, ...] = IDENTITY
    duration_ms: int | None = None
    version: int = 0
    sound: bool = False
    padding: int = 0

    @property
    def length_ms(self) -> int:
        times = [frame.time_ms for frame in self.frames]
        return 2 * times[-1] - times[-2]

    def file(self, *, moov_first: bool = False, brand: bytes = b"isom", before: int = 0) -> bytes:
        """The file; `before`: bytes in `mdat` that stand before all samples."""
        start = ftyp(brand) + box(b"free")
        samples = box(b"mdat", bytes(before), *(frame.data for frame in self.frames))
        if not moov_first:
            return start + samples + self.moov(len(start) + 8 + before)
        length = len(self.moov(0))
        return start + self.moov(len(start) + length + 8 + before) + samples

    def fragmented(self, *, mehd: bool = False, mfra: bool = False, each: int = 10) -> bytes:
        """The same in fragments of `each` frames; with its duration, or an index at the end."""
        total = full(b"mehd", 0, 0, numbers("I", self.length_ms)) if mehd else b""
        trex = full(b"trex", 0, 0, numbers("5I", 2, 1, 0, 0, 0))
        file = ftyp(b"iso5") + self.moov(0, box(b"mvex", total, trex))
        entries = []
        for first in range(0, len(self.frames), each):
            entries.append((self.frames[first].time_ms, len(file)))
            file += self._fragment(first, each)
        if mfra:
            index = numbers("III", 2, 0, len(entries)) + b"".join(
                numbers("IIBBB", *entry, 1, 1, 1) for entry in entries
            )
            content = full(b"tfra", 0, 0, index)
            file += box(b"mfra", content, full(b"mfro", 0, 0, numbers("I", len(content) + 24)))
        return file

    def _fragment(self, first: int, count: int) -> bytes:
        run = self.frames[first : first + count]
        times = [frame.time_ms for frame in self.frames] + [self.length_ms]
        lasts = [times[at + 1] - times[at] for at in range(first, first + len(run))]

        def moof(offset: int) -> bytes:
            samples = b"".join(
                numbers("III", last, len(frame.data), 0x2000000 if frame.is_key else 0x1010000)
                for last, frame in zip(lasts, run, strict=True)
            )
            return box(
                b"moof",
                full(b"mfhd", 0, 0, numbers("I", first // count + 1)),
                box(
                    b"traf",
                    full(b"tfhd", 0, 0x20000, numbers("I", 2)),
                    full(b"tfdt", 1, 0, numbers("Q", times[first])),
                    full(b"trun", 0, 0x701, numbers("Ii", len(run), offset), samples),
                ),
            )

        return moof(len(moof(0)) + 8) + box(b"mdat", *(frame.data for frame in run))

    def moov(self, samples_at: int, mvex: bytes = b"") -> bytes:
        """The movie's header; samples begin at `samples_at` of the file, or follow with `mvex`."""
        said = 0 if mvex else self.length_ms
        duration = said if self.duration_ms is None else self.duration_ms
        mvhd = self._dated(
            b"mvhd",
            0,
            "I",
            (1000,),
            duration,
            numbers("IHH8x9i24xI", 1 << 16, 0x100, 0, *IDENTITY, 3),
        )
        sound = self._trak(1, b"soun", duration, (0, 0), b"") if self.sound else b""
        table = self._table(None if mvex else samples_at)
        video = self._trak(2, b"vide", duration, self.shown or self.size, table)
        return box(b"moov", mvhd, sound, video, mvex, box(b"free", bytes(self.padding)))

    def _dated(
        self, kind: bytes, flags: int, form: str, said: Sequence[int], duration: int, rest: bytes
    ) -> bytes:
        wide = "Q" if self.version else "I"
        numbered = numbers(f"{wide}{wide}{form}{wide}", 0, 0, *said, duration)
        return full(kind, self.version, flags, numbered, rest)

    def _trak(
        self, number: int, handler: bytes, duration: int, shown: tuple[int, int], table: bytes
    ) -> bytes:
        width, height = shown
        place = numbers("8xHHHH9iII", 0, 0, 0, 0, *self.matrix, width << 16, height << 16)
        tkhd = self._dated(b"tkhd", 3, "I4x", (number,), duration, place)
        mdhd = self._dated(b"mdhd", 0, "I", (1000,), duration, numbers("HH", 0x55C4, 0))
        hdlr = full(b"hdlr", 0, 0, numbers("I", 0), handler, bytes(12), b"made here\0")
        is_video = handler == b"vide"
        head = full(b"vmhd", 0, 1, bytes(8)) if is_video else full(b"smhd", 0, 0, bytes(4))
        url = full(b"dref", 0, 0, numbers("I", 1), full(b"url ", 0, 1))
        minf = box(b"minf", head, box(b"dinf", url), box(b"stbl", table or _NO_SAMPLES))
        return box(b"trak", tkhd, box(b"mdia", mdhd, hdlr, minf))

    def _table(self, samples_at: int | None) -> bytes:
        width, height = self.size
        entry = box(
            b"vp09",
            numbers("6xH16xHHIIIH32xHh", 1, width, height, 0x480000, 0x480000, 0, 1, 24, -1),
            full(b"vpcC", 1, 0, numbers("BBBBBBH", 0, 10, 0x82, 1, 1, 1, 0)),
            box(b"pasp", numbers("II", *self.spacing)) if self.spacing else b"",
        )
        stsd = full(b"stsd", 0, 0, numbers("I", 1), entry)
        if samples_at is None:
            return stsd + _NO_SAMPLES
        times = [frame.time_ms for frame in self.frames] + [self.length_ms]
        lasts = [after - time for time, after in itertools.pairwise(times)]
        keys = [at for at, frame in enumerate(self.frames, 1) if frame.is_key]
        count = len(self.frames)
        return b"".join([
            stsd,
            full(b"stts", 0, 0, numbers("I", count), *(numbers("II", 1, last) for last in lasts)),
            full(b"stss", 0, 0, numbers("I", len(keys)), numbers(f"{len(keys)}I", *keys)),
            full(b"stsc", 0, 0, numbers("4I", 1, 1, count, 1)),
            full(
                b"stsz", 0, 0, numbers("II", 0, count),
                numbers(f"{count}I", *(len(frame.data) for frame in self.frames)),
            ),
            full(b"stco", 0, 0, numbers("II", 1, samples_at)),
        ])  # fmt: skip


_NO_SAMPLES = b"".join(
    full(kind, 0, 0, bytes(4 * fields))
    for kind, fields in ((b"stts", 1), (b"stsc", 1), (b"stsz", 2), (b"stco", 1))
)

# WebM

UNKNOWN = b"\x01" + b"\xff" * 7
"""A size that was not known when it was written."""


def element(name: int, *content: bytes, size: bytes | None = None) -> bytes:
    """An element; its size is written in eight bytes."""
    inner = b"".join(content)
    coded = (1 << 56 | len(inner)).to_bytes(8, "big") if size is None else size
    return name.to_bytes((name.bit_length() + 7) // 8, "big") + coded + inner


def unsigned(name: int, value: int) -> bytes:
    return element(name, value.to_bytes(8, "big"))


def floating(name: int, value: float) -> bytes:
    return element(name, struct.pack(">d", value))


def ebml(doc_type: bytes = b"webm") -> bytes:
    return element(0x1A45DFA3, element(0x4282, doc_type), unsigned(0x4287, 4), unsigned(0x4285, 2))


def video_track(size: tuple[int, int] = SIZE, *more: bytes) -> bytes:
    """`Tracks` with one of video; `more`: elements of its `Video`."""
    width, height = size
    video = element(0xE0, unsigned(0xB0, width), unsigned(0xBA, height), *more)
    numbered = unsigned(0xD7, 1) + unsigned(0x73C5, 1) + unsigned(0x83, 1)
    return element(0x1654AE6B, element(0xAE, numbered, element(0x86, b"V_VP9"), video))


def info(duration_ms: float | None, scale: int = 1_000_000) -> bytes:
    said = b"" if duration_ms is None else floating(0x4489, duration_ms)
    return element(0x1549A966, unsigned(0x2AD7B1, scale), element(0x4D80, b"made here"), said)


def cluster(frames: Iterable[Frame], *, size: bytes | None = None) -> bytes:
    """All frames, which must lie within half a minute; in simple blocks."""
    frames = list(frames)
    base = frames[0].time_ms

    def block(frame: Frame) -> bytes:
        head = struct.pack(">hB", frame.time_ms - base, 0x80 * frame.is_key)
        return element(0xA3, b"\x81" + head + frame.data)

    blocks = map(block, frames)
    return element(0x1F43B675, unsigned(0xE7, base), *blocks, size=size)


def webm(
    frames: Sequence[Frame], *, tracks: bytes | None = None, tracks_last: bool = False
) -> bytes:
    """A finished file, with its duration and an index; or with its tracks behind the cluster."""
    length_ms = 2 * frames[-1].time_ms - frames[-2].time_ms
    tracks = video_track() if tracks is None else tracks

    def seek_head(*places: tuple[int, int]) -> bytes:
        seeks = (
            element(0x4DBB, element(0x53AB, name.to_bytes(4, "big")), unsigned(0x53AC, place))
            for name, place in places
        )
        return element(0x114D9B74, *seeks)

    head = info(float(length_ms))
    names = (0x1654AE6B, 0x1C53BB6B)
    start = len(seek_head(*((name, 0) for name in names))) + len(head)
    block = cluster(frames)
    cluster_at = start if tracks_last else start + len(tracks)
    place = element(0xB7, unsigned(0xF7, 1), unsigned(0xF1, cluster_at))
    cues = element(0x1C53BB6B, element(0xBB, unsigned(0xB3, frames[0].time_ms), place))
    tracks_at = start + len(block) if tracks_last else start
    cues_at = start + len(tracks) + len(block)
    parts = [seek_head((names[0], tracks_at), (names[1], cues_at)), head]
    parts += [block, tracks, cues] if tracks_last else [tracks, block, cues]
    return ebml() + element(0x18538067, *parts)
