"""The decoding processes themselves: bounds, damage, ends."""

import asyncio
import contextlib
import io
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from PIL import Image
from prometheus_client import REGISTRY

from derived.conftest import halves, pids_of
from pictures import encoded, picture, srgb_profile
from stillroom.app import check_settings
from stillroom.cli.doctor import doctor
from stillroom.errors import BackendUnavailable, UnsupportedMedia
from stillroom.features.pictures import confinement, decoding
from stillroom.features.pictures import decoders as pool
from stillroom.features.pictures.decoders import Decoders
from stillroom.features.pictures.derivation import Derivation
from stillroom.features.pictures.metrics import report_confinement
from stillroom.features.pictures.wire import Job
from stillroom.settings import AllSettings
from waiting import eventually

pytestmark = pytest.mark.slow

SMALL = Derivation(64, 64, "contain", "webp", 80)


def with_exif() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


PAIR: dict[str, Any] = {"save_all": True, "append_images": [halves((200, 100), "lime")]}
KINDS: dict[str, Callable[[], bytes]] = {
    "png": lambda: encoded(halves((200, 100)), exif=with_exif(), icc_profile=srgb_profile()),
    "png, 16 bits": lambda: encoded(Image.new("I;16", (99, 99), 40_000)),
    "png, palette": lambda: encoded(halves((200, 100)).quantize(16), transparency=1),
    "png, gray and alpha": lambda: encoded(Image.new("LA", (99, 99), (90, 30))),
    "jpeg": lambda: encoded(halves((200, 100)), "JPEG", exif=with_exif(), icc_profile=adobe_like()),
    "jpeg, progressive": lambda: encoded(halves((200, 100)), "JPEG", progressive=True),
    "jpeg, cmyk": lambda: encoded(Image.new("CMYK", (99, 99), (9, 99, 9, 9)), "JPEG"),
    "jpeg, gray": lambda: encoded(Image.new("L", (99, 99), 77), "JPEG"),
    "jpeg, several": lambda: encoded(halves((200, 100)), "MPO", **PAIR),
    "webp": lambda: encoded(halves((200, 100)), "WEBP", exif=with_exif(), icc_profile=adobe_like()),
    "webp, moving": lambda: encoded(halves((200, 100)), "WEBP", **PAIR),
    "gif, moving": lambda: encoded(halves((200, 100)), "GIF", **PAIR),
    "bmp": lambda: encoded(halves((200, 100)), "BMP"),
    "avif": lambda: encoded(halves((200, 100)), "AVIF", exif=with_exif(), icc_profile=adobe_like()),
    "apng": lambda: encoded(halves((200, 100)), **PAIR),
}


def adobe_like() -> bytes:
    """Under another name a profile is not taken for sRGB, and colours are converted."""
    name = "sRGB".encode("utf-16-be")
    return srgb_profile().replace(name, "none".encode("utf-16-be"))


MIB = 1024**2


@pytest.fixture
async def decoders() -> AsyncIterator[Decoders]:
    started = Decoders(1, max_pixels=1_000_000)
    yield started
    await started.close()
    assert pids_of(started) == []


async def derive(decoders: Decoders, data: bytes, wanted: Derivation = SMALL) -> bytes:
    file = os.memfd_create("original")
    with contextlib.closing(os.fdopen(file, "r+b")) as original:
        original.write(data)
        original.flush()
        return await decoders.derive(file, wanted)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_confined_process_finds_the_dominant_colour(decoders: Decoders, kind: str) -> None:
    with tempfile.TemporaryFile() as file:
        file.write(KINDS[kind]())
        file.flush()
        found = await decoders.dominant_color(file.fileno())
        assert (found is None) == ("alpha" in kind), "nearly transparent"


@pytest.mark.parametrize("said", [b"#8a6d3b ", b"#8A6D3B", b"<b>", b"\xff" * 7, b""])
async def test_what_a_process_says_is_a_colour_or_none(
    decoders: Decoders, said: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def answered(*_: object) -> bytes:
        return said

    monkeypatch.setattr(decoders, "_derive", answered)

    assert await decoders.dominant_color(0) is None


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "AVIF"])
async def test_damage_changes_the_answer_and_nothing_else(decoders: Decoders, form: str) -> None:
    whole = encoded(halves((40, 30)), form)
    dice = random.Random(form)
    outcomes = {True: 0, False: 0}
    for _ in range(120):
        data = bytearray(whole)
        for _ in range(dice.choice((1, 1, 2, 8))):
            data[dice.randrange(len(data))] = dice.randrange(256)
        if dice.random() < 0.2:
            del data[dice.randrange(len(data)) :]
        try:
            made = await derive(decoders, bytes(data))
        except UnsupportedMedia:
            outcomes[False] += 1
        else:
            assert made[8:12] == b"WEBP"
            outcomes[True] += 1

    assert outcomes[False] > 5
    assert (await derive(decoders, whole))[8:12] == b"WEBP"


async def test_a_decoder_knows_no_secret_and_has_bounds(
    decoders: Decoders, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STILLROOM_JWT_SECRET", "nobody may know this")
    monkeypatch.setenv("R2_SECRET_ACCESS_KEY", "nor this")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "nor this")
    await derive(decoders, picture())
    (pid,) = pids_of(decoders)

    environment = Path(f"/proc/{pid}/environ").read_bytes()

    assert b"SECRET" not in environment
    assert b"STILLROOM" not in environment
    assert resource.prlimit(pid, resource.RLIMIT_AS)[0] < 600 * MIB
    assert resource.prlimit(pid, resource.RLIMIT_CORE)[0] == 0
    assert resource.prlimit(pid, resource.RLIMIT_FSIZE)[0] == 0
    assert resource.prlimit(pid, resource.RLIMIT_NOFILE)[0] < 64
    assert resource.prlimit(pid, resource.RLIMIT_NPROC) == (0, 0)
    assert os.getpriority(os.PRIO_PROCESS, pid) >= min(19, os.getpriority(os.PRIO_PROCESS, 0) + 10)
    if "seccomp" not in confinement.gaps():
        assert "\nSeccomp:\t2\n" in Path(f"/proc/{pid}/status").read_text()
    assert 0 < resource.prlimit(pid, resource.RLIMIT_CPU)[0] < 60
    assert Path(f"/proc/{pid}/oom_score_adj").read_text() == "1000\n"


GIVES_UP = """
import os, sys
from stillroom.features.pictures.confinement import deny_files

if not deny_files():
    sys.exit("no Landlock")
for act in (
    lambda: open("/etc/hostname"),
    lambda: open("/proc/self/environ"),
    lambda: open(sys.argv[1], "w"),
    lambda: os.mkdir(sys.argv[1]),
):
    try:
        act()
    except PermissionError:
        continue
    sys.exit("it could")
"""


def test_a_decoder_can_open_no_file(tmp_path: Path) -> None:
    command = [sys.executable, "-c", GIVES_UP, str(tmp_path / "new")]

    ran = subprocess.run(command, capture_output=True, text=True, check=False)

    if "no Landlock" in ran.stderr:
        pytest.fail("this kernel has no Landlock: run it on Linux 5.13 or newer, with Landlock on")
    assert (ran.returncode, ran.stderr) == (0, "")


GIVES_UP_CALLS = """
import os, resource, socket, sys
from stillroom.features.pictures.confinement import deny_system_calls

path = sys.argv[1]
ours, theirs = socket.socketpair()
loose = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
if not deny_system_calls():
    sys.exit("no seccomp")
acts = {
    "chmod": lambda: os.chmod(path, 0o777),
    "chown": lambda: os.chown(path, 0, 0),
    "utime": lambda: os.utime(path, (0, 0)),
    "setxattr": lambda: os.setxattr(path, "user.a", b"a"),
    "truncate": lambda: os.truncate(path, 0),
    "unlink": lambda: os.unlink(path),
    "open": lambda: open(path),
    "socket": lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM),
    "connect": lambda: loose.connect(path),
    "sendmsg": lambda: loose.sendmsg([b"a"], [], 0, path),
    "fork": os.fork,
    "exec": lambda: os.execv(sys.executable, [sys.executable, "-c", ""]),
    "kill": lambda: os.kill(os.getppid(), 0),
    "prlimit": lambda: resource.prlimit(1, resource.RLIMIT_CORE),
}
could = []
for name, act in acts.items():
    try:
        act()
    except PermissionError:
        continue
    except OSError as error:
        could.append(f"{name}: {error}")
    else:
        could.append(name)
ours.sendall(", ".join(could).encode() or b"nothing")
resource.setrlimit(resource.RLIMIT_CPU, (60, 60))
if theirs.recvmsg(999)[0] != b"nothing":
    os._exit(len(could))
"""


def test_a_decoder_can_change_nothing_reach_nothing_and_start_nothing(tmp_path: Path) -> None:
    there = tmp_path / "there"
    there.write_bytes(b"as it was")
    there.chmod(0o600)
    before = there.stat()
    command = [sys.executable, "-c", GIVES_UP_CALLS, str(there)]

    ran = subprocess.run(command, capture_output=True, text=True, check=False)

    if "no seccomp" in ran.stderr:
        assert "seccomp" in confinement.gaps()
        pytest.fail("this kernel has no seccomp: run it on one that is built with CONFIG_SECCOMP")
    assert (ran.returncode, ran.stderr) == (0, "")
    assert there.read_bytes() == b"as it was"
    after = there.stat()
    assert (after.st_mode, after.st_mtime_ns) == (before.st_mode, before.st_mtime_ns)


@pytest.mark.parametrize("machine", [0, 1])
def test_no_two_calls_have_one_number(machine: int) -> None:
    numbers = [both[machine] for both in (*confinement._ALLOWED.values(), confinement._PRLIMIT64)]

    assert len(set(numbers)) == len(numbers)


def test_what_a_machine_lacks_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("STILLROOM_DATA_DIR", str(tmp_path))
    monkeypatch.setattr(confinement, "_MACHINES", {})
    monkeypatch.setattr(confinement, "_landlock_version", lambda _: 0)

    assert list(confinement.gaps()) == ["Landlock", "seccomp"]
    _, said = check_settings(AllSettings.read())
    assert [line for line in said if "decoding processes" in line] == [
        f"{gap}: {remedy}" for gap, remedy in confinement.gaps().values()
    ]
    shown = CliRunner().invoke(doctor, ["--data-dir", str(tmp_path)]).output
    assert shown.count("note  decoders") == 2
    report_confinement()
    for part in ("landlock", "seccomp"):
        assert REGISTRY.get_sample_value("stillroom_decoders_confined", {"by": part}) == 0


async def test_a_jpeg_of_too_many_scans_is_refused(decoders: Decoders) -> None:
    """Of some bytes a scan, and a pass over all pixels."""
    with pytest.raises(UnsupportedMedia, match="too many scans"):
        await derive(decoders, of_scans(200))

    assert await derive(decoders, of_scans(50))


def of_scans(number: int) -> bytes:
    """A progressive JPEG whose last scan comes again and again."""
    whole = encoded(halves((200, 100)), "JPEG", progressive=True)
    last = whole.rindex(b"\xff\xda")
    return whole[:-2] + whole[last:-2] * number + whole[-2:]


async def test_a_decoder_makes_what_is_made_in_any_process(decoders: Decoders) -> None:
    """What Pillow loads late must have been loaded before files were given up."""
    square = Derivation(64, 64, "cover", "png", 0)
    for kind, make in KINDS.items():
        data = make()
        for wanted in (SMALL, Derivation(128, 64, "cover", "jpeg", 50), square):
            here = decoding.derive(io.BytesIO(data), Job.of(wanted), max_pixels=10**8)
            assert await derive(decoders, data, wanted) == here, kind


async def test_a_decoder_that_hangs_is_ended(
    decoders: Decoders, monkeypatch: pytest.MonkeyPatch
) -> None:
    await derive(decoders, picture())
    (pid,) = pids_of(decoders)
    monkeypatch.setattr(pool, "_MAX_S", 0.2)
    os.kill(pid, signal.SIGSTOP)

    with pytest.raises(BackendUnavailable, match="took too long"):
        await derive(decoders, picture())

    monkeypatch.undo()
    assert await derive(decoders, picture())
    assert pid not in pids_of(decoders)


async def test_an_image_that_takes_too_much_time_is_refused(decoders: Decoders) -> None:
    await derive(decoders, picture())
    (pid,) = pids_of(decoders)
    os.kill(pid, signal.SIGSTOP)
    slow = asyncio.ensure_future(derive(decoders, picture()))
    await eventually(lambda: decoders._busy)
    os.kill(pid, signal.SIGXCPU)  # as the kernel does when its time is over
    os.kill(pid, signal.SIGCONT)

    with pytest.raises(UnsupportedMedia):
        await slow


async def test_an_image_that_takes_too_much_memory_is_refused(decoders: Decoders) -> None:
    await derive(decoders, picture())
    (pid,) = pids_of(decoders)
    status = Path(f"/proc/{pid}/status").read_text()
    used = int(status.partition("VmSize:")[2].split()[0]) * 1024
    resource.prlimit(pid, resource.RLIMIT_AS, (used + MIB, used + MIB))

    with pytest.raises(UnsupportedMedia, match="memory"):
        await derive(decoders, encoded(Image.new("RGBA", (1000, 1000))))

    assert await derive(decoders, encoded(Image.new("RGBA", (1000, 1000))))
    assert pid not in pids_of(decoders)


async def test_who_waits_too_long_for_a_decoder_is_told(
    decoders: Decoders, monkeypatch: pytest.MonkeyPatch
) -> None:
    await derive(decoders, picture())
    (pid,) = pids_of(decoders)
    monkeypatch.setattr(pool, "_WAIT_S", 0.1)
    os.kill(pid, signal.SIGSTOP)
    first = asyncio.ensure_future(derive(decoders, picture()))
    await eventually(lambda: decoders._busy)

    with pytest.raises(BackendUnavailable, match="too many"):
        await derive(decoders, picture())

    os.kill(pid, signal.SIGCONT)
    assert await first


async def test_idle_decoders_end(decoders: Decoders, monkeypatch: pytest.MonkeyPatch) -> None:
    await derive(decoders, picture())
    (pid,) = pids_of(decoders)
    monkeypatch.setattr(pool, "_IDLE_S", 0.05)
    await derive(decoders, picture())
    await eventually(lambda: not Path(f"/proc/{pid}").exists())

    assert pids_of(decoders) == []
    assert await derive(decoders, picture())


async def test_a_decoder_ends_with_its_server(tmp_path: Path) -> None:
    script = tmp_path / "server.py"
    script.write_text(
        "import asyncio, os\n"
        "from stillroom.features.pictures.decoders import Decoders\n"
        "from stillroom.features.pictures.derivation import Derivation\n"
        "async def main():\n"
        "    decoders = Decoders(1, max_pixels=10**6)\n"
        "    file = os.open(os.environ['ORIGINAL'], os.O_RDONLY)\n"
        "    await decoders.derive(file, Derivation(64, 64, 'contain', 'webp', 80))\n"
        "    print(*(each.process.pid for each in decoders._idle), flush=True)\n"
        "    os.kill(os.getpid(), 9)\n"
        "asyncio.run(main())\n"
    )
    original = tmp_path / "a.png"
    original.write_bytes(picture())
    server = await asyncio.create_subprocess_exec(
        sys.executable,
        str(script),
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "ORIGINAL": str(original)},
    )
    printed, _ = await server.communicate()
    process = Path(f"/proc/{int(printed)}")
    await eventually(
        lambda: not process.exists() or "State:\tZ" in (process / "status").read_text()
    )
