"""Width, height and duration of videos, from few reads of their headers."""

import contextlib
import time
import tracemalloc
from collections.abc import Iterator
from typing import Any

import pytest

from damaged import damaged
from in_memory import OpenedBytes
from stillroom.errors import UnsupportedMedia
from stillroom.features.library.headers.probe import Probed, probe
from videos import (
    QUARTER,
    RECORDINGS,
    SIZE,
    UNKNOWN,
    Frame,
    Mp4,
    box,
    cluster,
    ebml,
    element,
    floating,
    frames,
    ftyp,
    full,
    info,
    numbers,
    recorded,
    unsigned,
    video_track,
    webm,
    wide_box,
)

MIB = 1024**2

FRAMES = frames()
LENGTH_S = Mp4(FRAMES).length_ms / 1000


async def probed(data: bytes) -> Probed:
    return await probe(OpenedBytes(data))


def many_frames(count: int, bytes_each: int = 40) -> list[Frame]:
    return [Frame(bytes(bytes_each), 40 * at, at == 0) for at in range(count)]


# MP4 and QuickTime


@pytest.mark.parametrize("moov_first", [True, False], ids=["in front", "behind"])
@pytest.mark.parametrize("version", [0, 1], ids=["32 bits", "64 bits"])
@pytest.mark.parametrize("sound", [False, True], ids=["alone", "behind sound"])
async def test_an_mp4_says_what_it_is(moov_first: bool, version: int, sound: bool) -> None:
    made = Mp4(FRAMES, version=version, sound=sound)

    found = await probed(made.file(moov_first=moov_first))

    assert (found.resource_type, found.content_type, found.extension) == (
        "video",
        "video/mp4",
        "mp4",
    )
    assert (found.width, found.height, found.duration) == (*SIZE, LENGTH_S)


async def test_a_quicktime_file_is_an_mp4_of_another_name() -> None:
    found = await probed(Mp4(FRAMES).file(brand=b"qt  "))

    assert (found.content_type, found.extension) == ("video/quicktime", "mov")
    assert (found.width, found.height, found.duration) == (*SIZE, LENGTH_S)


async def test_a_quicktime_file_of_long_ago_has_no_brand() -> None:
    made = Mp4(FRAMES).file(moov_first=True)[len(ftyp()) + 8 :]

    found = await probed(box(b"wide") + made)

    assert (found.content_type, found.width, found.duration) == ("video/quicktime", 160, LENGTH_S)


@pytest.mark.parametrize(
    ("how", "size"),
    [
        ({"matrix": QUARTER}, (90, 160)),
        ({"matrix": (0, -1 << 16, 0, 1 << 16, 0, 0, 0, 0, 1 << 30)}, (90, 160)),
        ({"matrix": (-1 << 16, 0, 0, 0, -1 << 16, 0, 0, 0, 1 << 30)}, (160, 90)),
        ({"shown": (213, 90)}, (213, 90)),
        ({"shown": (213, 90), "matrix": QUARTER}, (90, 213)),
        ({"shown": (160, 120)}, (160, 120)),
        ({"spacing": (4, 3)}, (213, 90)),
        ({"spacing": (4, 3), "matrix": QUARTER}, (90, 213)),
        ({"spacing": (3, 4)}, (160, 120)),
        ({"spacing": (0, 0)}, (160, 90)),
        ({"spacing": (2**32 - 1, 2**32 - 1)}, (160, 90)),
        ({"spacing": (4, 3), "shown": (213, 90)}, (213, 90)),
        ({"shown": (320, 180)}, (160, 90)),
        ({"shown": (158, 88)}, (158, 88)),
        ({"shown": (0, 0)}, (160, 90)),
        ({"shown": (0, 0), "matrix": QUARTER}, (90, 160)),
    ],
    ids=[
        "by 90 degrees",
        "by 270 degrees",
        "by 180 degrees",
        "wide pixels",
        "wide pixels, turned",
        "tall pixels",
        "wide spacing",
        "wide spacing, turned",
        "tall spacing",
        "no spacing",
        "equal spacing",
        "wide spacing and shape",
        "twice as large",
        "without padding",
        "as coded",
        "as coded, turned",
    ],
)
async def test_a_video_is_as_large_as_it_is_shown(
    how: dict[str, Any], size: tuple[int, int]
) -> None:
    found = await probed(Mp4(FRAMES, **how).file())

    assert (found.width, found.height) == size


@pytest.mark.parametrize(
    ("bytes_in_front", "frames_in_it", "reads", "read"),
    [
        (0, 50, 1, 64 * 1024),
        (8 * MIB, 50, 2, 128 * 1024),
        (8 * MIB, 50_000, 3, 136 * 1024),
    ],
    ids=["small", "behind 8 MiB", "behind 8 MiB, and half an hour of tables"],
)
async def test_few_parts_are_read_wherever_the_header_is(
    bytes_in_front: int, frames_in_it: int, reads: int, read: int
) -> None:
    made = Mp4(many_frames(frames_in_it), padding=100)
    opened = OpenedBytes(made.file(before=bytes_in_front))

    found = await probe(opened)

    assert found.duration == 0.04 * frames_in_it
    assert opened.reads <= reads
    assert opened.read <= read


async def test_a_fragmented_mp4_has_the_duration_that_its_header_says_or_none() -> None:
    for mehd, duration in ((True, LENGTH_S), (False, None)):
        opened = OpenedBytes(Mp4(many_frames(100, 64 * 1024)).fragmented(each=1))
        small = await probed(Mp4(FRAMES).fragmented(mehd=mehd))
        large = await probe(opened)

        assert (small.width, small.height, small.duration) == (*SIZE, duration)
        assert (large.width, large.duration, opened.reads) == (160, None, 1)


async def test_what_the_header_of_a_movie_does_not_say_its_track_says() -> None:
    data = Mp4(FRAMES).file()
    at = data.index(b"mvhd") + 4
    for unknown in (0, 2**32 - 1):
        changed = data[: at + 16] + numbers("I", unknown) + data[at + 20 :]
        assert (await probed(changed)).duration == LENGTH_S


@pytest.mark.parametrize("timescale", [0, 1])
@pytest.mark.parametrize("duration", [0, 2**64 - 1, 2**64 - 2, 2**63])
async def test_a_duration_that_cannot_be_is_none(timescale: int, duration: int) -> None:
    data = Mp4(FRAMES, version=1, duration_ms=duration).file()
    for name in (b"mvhd", b"mdhd"):
        at = data.index(name) + 4
        data = data[: at + 20] + numbers("I", timescale) + data[at + 24 :]

    found = await probed(data)

    assert (found.width, found.duration) == (160, None)


async def test_what_the_recorder_of_a_browser_has_made_is_read() -> None:
    for kind in ("mp4", "webm"):
        found = await probed(recorded(kind))

        assert found.content_type == f"video/{kind}"
        assert (found.width, found.height) == SIZE
        assert found.duration == (1.998 if kind == "mp4" else None)


async def test_what_ffmpeg_has_written_is_read_and_a_longer_sound_counts() -> None:
    found = await probed((RECORDINGS / "ffmpeg.mp4").read_bytes())

    assert (found.content_type, found.width, found.height) == ("video/mp4", 320, 180)
    assert found.duration == pytest.approx(4.01, abs=0.01)


@pytest.mark.parametrize(
    "data",
    [
        ftyp(),
        ftyp() + box(b"mdat", bytes(100)),
        ftyp() + box(b"moov"),
        ftyp() + box(b"moov", box(b"trak")),
        ftyp() + box(b"moov", box(b"trak", full(b"tkhd", 0, 3, bytes(80)), box(b"mdia"))),
        ftyp() + numbers("I4sQ", 1, b"mdat", 2**64 - 1),
        ftyp() + numbers("I4sQ", 1, b"moov", 8),
        ftyp() + numbers("I4s", 4, b"moov"),
        ftyp(b"heix"),
    ],
)
async def test_an_mp4_without_a_video_in_it_is_refused(data: bytes) -> None:
    with pytest.raises(UnsupportedMedia):
        await probed(data)


async def test_a_box_may_be_wide_or_go_to_the_end() -> None:
    data = Mp4(FRAMES).file()
    at = data.index(b"moov") - 4
    inner = data[at + 8 :]

    for moov in (wide_box(b"moov", inner), numbers("I4s", 0, b"moov") + inner):
        assert (await probed(data[:at] + moov)).duration == LENGTH_S


# WebM


async def test_a_webm_says_what_it_is() -> None:
    found = await probed(webm(FRAMES))

    assert (found.resource_type, found.content_type, found.extension) == (
        "video",
        "video/webm",
        "webm",
    )
    assert (found.width, found.height, found.duration) == (*SIZE, LENGTH_S)


@pytest.mark.parametrize(
    ("more", "size"),
    [
        ((unsigned(0x54B0, 320), unsigned(0x54BA, 180)), (160, 90)),
        ((unsigned(0x54B0, 320), unsigned(0x54BA, 90)), (320, 90)),
        ((element(0x7670, floating(0x7675, 90.0)),), (90, 160)),
        ((element(0x7670, floating(0x7675, -90.0)),), (90, 160)),
        ((element(0x7670, floating(0x7675, 180.0)),), (160, 90)),
        ((element(0x7670, floating(0x7675, float("nan"))),), (160, 90)),
        ((unsigned(0x54B0, 4), unsigned(0x54BA, 3), unsigned(0x54B2, 3)), (160, 120)),
        ((unsigned(0x54B0, 2), unsigned(0x54BA, 1), unsigned(0x54B2, 3)), (180, 90)),
        ((unsigned(0x54B0, 320), unsigned(0x54BA, 180), unsigned(0x54B2, 4)), (160, 90)),
        ((unsigned(0x54CC, 10), unsigned(0x54DD, 6), unsigned(0x54AA, 2)), (144, 88)),
    ],
    ids=[
        "twice as large",
        "wide pixels",
        "by 90 degrees",
        "by 270 degrees",
        "by 180 degrees",
        "by no degrees",
        "a tall ratio",
        "a wide ratio",
        "of no unit",
        "cropped",
    ],
)
async def test_a_webm_is_as_large_as_it_is_shown(
    more: tuple[bytes, ...], size: tuple[int, int]
) -> None:
    found = await probed(webm(FRAMES, tracks=video_track(SIZE, *more)))

    assert (found.width, found.height) == size


async def test_tracks_behind_the_clusters_are_found_by_the_seek_head() -> None:
    opened = OpenedBytes(webm(many_frames(100, 64 * 1024), tracks_last=True))

    found = await probe(opened)

    assert (found.width, found.duration) == (160, 4.0)
    assert opened.reads == 2


@pytest.mark.parametrize("size", [UNKNOWN, None], ids=["of unknown size", "of known size"])
async def test_a_recording_without_a_duration_in_its_header_has_none(size: bytes | None) -> None:
    clusters = b"".join(cluster(run, size=size) for run in (FRAMES[:20], FRAMES[20:]))
    data = ebml() + element(0x18538067, info(None) + video_track(), clusters, size=size)
    opened = OpenedBytes(data)

    found = await probe(opened)

    assert (found.width, found.height, found.duration, opened.reads) == (*SIZE, None, 1)


@pytest.mark.parametrize("duration", [float("nan"), float("inf"), -1.0, 0.0, 1e308])
@pytest.mark.parametrize("scale", [0, 1_000_000, 2**64 - 1])
async def test_a_webm_that_lasts_for_ever_has_no_duration(duration: float, scale: int) -> None:
    data = ebml() + element(0x18538067, info(duration, scale), video_track(), cluster(FRAMES))

    found = await probed(data)

    assert (found.width, found.duration) == (160, None)


@pytest.mark.parametrize(
    "data",
    [
        ebml(b"matroska") + element(0x18538067, info(1.0), video_track()),
        # `webm` elsewhere in the head does not make it one
        element(0x1A45DFA3, element(0xEC, b"\x42\x82\x84webm"), element(0x4282, b"matroska"))
        + element(0x18538067, info(1.0), video_track()),
        ebml(),
        ebml() + element(0x18538067),
        ebml() + element(0x18538067, info(1.0), element(0x1654AE6B)),
        ebml() + element(0x18538067, info(1.0), video_track((0, 0))),
        ebml() + element(0x18538067, info(1.0), b"\x00" * 40),
    ],
)
async def test_a_webm_without_a_video_in_it_is_refused(data: bytes) -> None:
    with pytest.raises(UnsupportedMedia):
        await probed(data)


# Bad input


async def test_two_thousand_damaged_videos_are_read_or_refused_within_bounds() -> None:
    taken = refused = 0
    slowest = (0.0, "")
    for number, (name, data) in enumerate(damaged(2_000)):
        opened = OpenedBytes(data)
        began = time.process_time()
        try:
            with bounded_memory(name) if number % 20 == 0 else contextlib.nullcontext():
                found = await probe(opened)
        except UnsupportedMedia:
            refused += 1
        else:
            taken += 1
            assert 0 < found.width < 2**31 > found.height > 0, name
            assert found.duration is None or 0 < found.duration <= 10**9, name
        slowest = max(slowest, (time.process_time() - began, name))
        assert opened.read <= MIB, name
        assert opened.reads <= 17, name
    assert slowest[0] < 5, slowest
    assert min(taken, refused) > 200, (taken, refused)


@contextlib.contextmanager
def bounded_memory(name: str) -> Iterator[None]:
    """What is read of one file, and a little more; measuring it is slow."""
    tracemalloc.start()
    try:
        yield
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 4 * MIB, name


@pytest.mark.parametrize(
    "data",
    [
        ftyp() + box(b"free") * 150_000,
        ftyp() + box(b"moov", box(b"free") * 100_000),
        ftyp() + box(b"moov", *[box(b"trak", full(b"tkhd", 0, 3, bytes(80)), box(b"mdia"))] * 9000),
        ebml() + element(0x18538067, b"\xec\x80" * 500_000),
        ebml() + element(0x18538067, element(0x114D9B74, b"\x4d\xbb\x80" * 300_000)),
        ebml() + element(0x18538067, info(None), video_track(), b"\x1f\x43\xb6\x75\x80" * 100_000),
    ],
    ids=["boxes", "boxes in moov", "tracks", "voids", "seeks", "clusters"],
)
async def test_a_bomb_of_boxes_ends(data: bytes) -> None:
    began = time.process_time()
    with contextlib.suppress(UnsupportedMedia):
        await probed(data)
    assert time.process_time() - began < 5
