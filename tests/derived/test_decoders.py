"""The decoding processes themselves: bounds, damage, ends."""

import asyncio
import contextlib
import os
import random
import resource
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from PIL import Image

from derived.conftest import encoded, halves
from pictures import picture
from stillroom.derived import decoders as pool
from stillroom.derived.decoders import Decoders
from stillroom.errors import BackendUnavailable, UnsupportedMedia
from stillroom.http.derivation import Derivation

SMALL = Derivation(64, 64, "contain", "webp", 80)
MIB = 1024**2


@pytest.fixture
async def decoders() -> AsyncIterator[Decoders]:
    started = Decoders(1, most_pixels=1_000_000)
    yield started
    await started.close()
    assert started.pids == []


async def derive(decoders: Decoders, data: bytes, wanted: Derivation = SMALL) -> bytes:
    file = os.memfd_create("original")
    with contextlib.closing(os.fdopen(file, "r+b")) as original:
        original.write(data)
        original.flush()
        return await decoders.derive(file, wanted)


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
    (pid,) = decoders.pids

    environment = Path(f"/proc/{pid}/environ").read_bytes()

    assert b"SECRET" not in environment
    assert b"STILLROOM" not in environment
    assert resource.prlimit(pid, resource.RLIMIT_AS)[0] < 600 * MIB
    assert resource.prlimit(pid, resource.RLIMIT_CORE)[0] == 0
    assert resource.prlimit(pid, resource.RLIMIT_FSIZE)[0] == 0
    assert resource.prlimit(pid, resource.RLIMIT_NOFILE)[0] < 64
    assert 0 < resource.prlimit(pid, resource.RLIMIT_CPU)[0] < 60


async def test_a_decoder_that_hangs_is_ended(
    decoders: Decoders, monkeypatch: pytest.MonkeyPatch
) -> None:
    await derive(decoders, picture())
    (pid,) = decoders.pids
    monkeypatch.setattr(pool, "_MOST_S", 0.2)
    os.kill(pid, signal.SIGSTOP)

    with pytest.raises(BackendUnavailable, match="in time"):
        await derive(decoders, picture())

    monkeypatch.undo()
    assert await derive(decoders, picture())
    assert pid not in decoders.pids


async def test_an_image_that_takes_too_much_time_is_refused(decoders: Decoders) -> None:
    await derive(decoders, picture())
    (pid,) = decoders.pids
    os.kill(pid, signal.SIGSTOP)
    slow = asyncio.ensure_future(derive(decoders, picture()))
    while not decoders._busy:  # noqa: ASYNC110  (nothing tells)
        await asyncio.sleep(0.01)
    os.kill(pid, signal.SIGXCPU)  # as the kernel does when its time is over
    os.kill(pid, signal.SIGCONT)

    with pytest.raises(UnsupportedMedia):
        await slow


async def test_an_image_that_takes_too_much_memory_is_refused(decoders: Decoders) -> None:
    await derive(decoders, picture())
    (pid,) = decoders.pids
    status = Path(f"/proc/{pid}/status").read_text()
    used = int(status.partition("VmSize:")[2].split()[0]) * 1024
    resource.prlimit(pid, resource.RLIMIT_AS, (used + MIB, used + MIB))

    with pytest.raises(UnsupportedMedia, match="memory"):
        await derive(decoders, encoded(Image.new("RGBA", (1000, 1000))))

    assert await derive(decoders, encoded(Image.new("RGBA", (1000, 1000))))
    assert pid not in decoders.pids


async def test_who_waits_too_long_for_a_decoder_is_told(
    decoders: Decoders, monkeypatch: pytest.MonkeyPatch
) -> None:
    await derive(decoders, picture())
    (pid,) = decoders.pids
    monkeypatch.setattr(pool, "_WAIT_S", 0.1)
    os.kill(pid, signal.SIGSTOP)
    first = asyncio.ensure_future(derive(decoders, picture()))
    while not decoders._busy:  # noqa: ASYNC110  (nothing tells)
        await asyncio.sleep(0.01)

    with pytest.raises(BackendUnavailable, match="too many"):
        await derive(decoders, picture())

    os.kill(pid, signal.SIGCONT)
    assert await first


async def test_idle_decoders_end(decoders: Decoders, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "_IDLE_S", 0.05)
    await derive(decoders, picture())
    (pid,) = decoders.pids
    while Path(f"/proc/{pid}").exists():  # noqa: ASYNC110  (nothing tells)
        await asyncio.sleep(0.01)

    assert decoders.pids == []
    assert await derive(decoders, picture())


async def test_a_decoder_ends_with_its_server(tmp_path: Path) -> None:
    script = tmp_path / "server.py"
    script.write_text(
        "import asyncio, os\n"
        "from stillroom.derived.decoders import Decoders\n"
        "from stillroom.http.derivation import Derivation\n"
        "async def main():\n"
        "    decoders = Decoders(1, most_pixels=10**6)\n"
        "    file = os.open(os.environ['ORIGINAL'], os.O_RDONLY)\n"
        "    await decoders.derive(file, Derivation(64, 64, 'contain', 'webp', 80))\n"
        "    print(*decoders.pids, flush=True)\n"
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
    while process.exists() and "State:\tZ" not in (process / "status").read_text():  # noqa: ASYNC110  (nothing tells)
        await asyncio.sleep(0.01)
