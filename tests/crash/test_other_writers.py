"""Another program that fills the same filesystem with 2 GB while saves share flushes."""

import asyncio
import contextlib
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from contract.images import RULES, read, save
from crash.loopback import loop_disk
from stillroom.store.disk import flushes
from stillroom.store.disk.data_directory import DataDirectory
from stillroom.store.disk.storage import DiskImageStorage
from waiting import until

pytestmark = [pytest.mark.root, pytest.mark.slow]

CLIENTS = 16
GIB = 2**30
WRITER = """
import sys
block = bytes(2**20)
while True:
    with open(sys.argv[1], "wb") as file:
        for _ in range(2048):
            file.write(block)
"""


@contextlib.contextmanager
def written_to(file: Path) -> Iterator[None]:
    """Write 2 GB again and again, in another process. The first one has begun."""
    writer = subprocess.Popen([sys.executable, "-c", WRITER, file])
    try:
        until(lambda: file.exists() and file.stat().st_size > GIB, by=writer)
        yield
    finally:
        writer.kill()
        writer.wait()


@pytest.mark.parametrize("kind", ["ext4", "xfs"])
async def test_saves_flush_alone_while_another_program_writes_much(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(flushes, "_PAUSE_S", 3600.0)
    calls: Counter[tuple[str, str]] = Counter()
    saved: list[str] = []

    def observe(call: str, outcome: str, seconds: float, *, again: bool = False) -> None:
        del seconds, again
        calls[call, outcome] += 1

    with contextlib.ExitStack() as opened:
        disk = opened.enter_context(loop_disk(tmp_path, kind=kind, mib=4096))
        data = DataDirectory(disk.mount / "data", group_commit="on", observer=observe)
        storage = DiskImageStorage(data, RULES)

        async def save_until_a_shared_flush_was_slow(client: int) -> None:
            while not calls["syncfs", "slow"]:
                path = f"{client}/{len(saved)}.png"
                await save(storage, path)
                saved.append(path)

        opened.enter_context(written_to(disk.mount / "others"))
        try:
            await asyncio.gather(*map(save_until_a_shared_flush_was_slow, range(CLIENTS)))
            alone = calls["fsync_file", "ok"]
            await asyncio.gather(*(save(storage, f"after/{at}.png") for at in range(CLIENTS)))
            assert calls["fsync_file", "ok"] == alone + CLIENTS
            for path in saved:
                assert await read(storage, path)
        finally:
            await storage.close()
