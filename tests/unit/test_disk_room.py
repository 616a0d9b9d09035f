"""What a disk takes of an upload, and the room that this has."""

import asyncio
import contextlib
import itertools
import os
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from contract.images import PNG, RULES, Chunks, entries, everything, key, read, save
from stillroom.errors import StorageFull, UnsupportedMedia
from stillroom.store.choose import DiskConfig, open_storage
from stillroom.store.disk import data_directory
from stillroom.store.disk.data_directory import DataDirectory
from stillroom.store.disk.storage import DiskImageStorage
from stillroom.store.values import ListQuery, SaveRules

MIB = 1024**2


async def test_only_images_are_kept_where_images_are_required(tmp_path: Path) -> None:
    storage = open_storage(DiskConfig(tmp_path, 0), SaveRules(10**8, require_image=True))
    for data in (b"not an image", b"x" * 5000):
        source = Chunks(data[:2000], data[2000:])
        with pytest.raises(UnsupportedMedia):
            await storage.save(key("a.png"), source)

    await save(storage, "a.png", PNG)
    assert entries(await storage.list(ListQuery(everything()))) == ["a.png"]
    await storage.close()


async def test_the_floor_of_free_room_is_kept_before_a_byte_is_read(tmp_path: Path) -> None:
    storage = open_storage(DiskConfig(tmp_path, min_free_bytes=2**60), RULES)
    source = Chunks(PNG)

    with pytest.raises(StorageFull):
        await storage.save(key("a.png"), source)
    with pytest.raises(StorageFull):
        await storage.check()

    assert source.asked == 0
    await storage.close()


async def test_an_upload_takes_room_for_what_has_come_and_not_for_what_was_announced(
    tmp_path: Path,
) -> None:
    storage = DiskImageStorage(DataDirectory(tmp_path), RULES)
    silent, may_go_on = asyncio.Event(), asyncio.Event()
    data = os.urandom(MIB)

    class Trickles(Chunks):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            for _ in range(2):
                yield data
            silent.set()
            await may_go_on.wait()
            for _ in range(20):
                yield data

    task = asyncio.ensure_future(storage.save(key("a.bin"), Trickles(max_bytes=60 * MIB)))
    await silent.wait()

    taken = sum(room_of_staged())
    may_go_on.set()
    saved = await task

    assert 2 * MIB <= taken <= 16 * MIB
    assert saved.size == (tmp_path / "compute/a.bin").stat().st_size == 22 * MIB
    assert (tmp_path / "compute/a.bin").stat().st_blocks * 512 <= 23 * MIB
    await storage.close()


def room_of_staged() -> list[int]:
    """What each file on its way in takes of the disk."""
    taken = []
    for fd in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):
            if ".stillroom/staging/" in os.readlink(f"/proc/self/fd/{fd}"):
                taken.append(os.fstat(int(fd)).st_blocks * 512)
    return taken


@pytest.mark.parametrize("announces", [True, False])
async def test_the_floor_of_free_room_is_kept_while_an_upload_comes_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, announces: bool
) -> None:
    storage = DiskImageStorage(DataDirectory(tmp_path), RULES, min_free_bytes=1)
    real, full = os.fstatvfs, asyncio.Event()

    def fills_up(fd: int) -> os.statvfs_result:
        room = [*real(fd), 0]
        room[4] = 0 if full.is_set() else room[4]  # f_bavail
        return os.statvfs_result(room)

    monkeypatch.setattr(os, "fstatvfs", fills_up)

    class OthersAreQuicker(Chunks):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            async for chunk in super().__aiter__():
                yield chunk
                full.set()

    source = OthersAreQuicker(*[bytes(MIB)] * 40, max_bytes=40 * MIB if announces else None)
    with pytest.raises(StorageFull):
        await storage.save(key("a.bin"), source)

    assert source.asked < 40
    await storage.close()


async def test_a_save_that_is_cancelled_while_room_is_taken_gives_it_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = DiskImageStorage(DataDirectory(tmp_path), RULES)
    loop = asyncio.get_running_loop()
    reserving, may_go_on = asyncio.Event(), threading.Event()
    real = os.posix_fallocate

    def slow(fd: int, offset: int, length: int) -> None:
        real(fd, offset, length)
        loop.call_soon_threadsafe(reserving.set)
        assert may_go_on.wait(60)

    monkeypatch.setattr(os, "posix_fallocate", slow)
    source = Chunks(bytes(2 * 1024**2), max_bytes=50 * 1024**2)
    before = len(os.listdir("/proc/self/fd"))
    task = asyncio.ensure_future(storage.save(key("a.bin"), source))
    await reserving.wait()
    task.cancel()
    await asyncio.sleep(0)  # one turn of the event loop
    may_go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert len(os.listdir("/proc/self/fd")) == before
    await storage.close()


@pytest.mark.parametrize("durable", [True, False])
async def test_the_disk_begins_with_a_large_image_while_it_comes_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, durable: bool
) -> None:
    storage = DiskImageStorage(DataDirectory(tmp_path, durable=durable), RULES)
    begun: list[tuple[int, int]] = []

    class Kernel:
        @staticmethod
        def sync_file_range(_: int, start: Any, length: Any, flags: int) -> int:
            begun.append((start.value, length.value))
            return flags

    monkeypatch.setattr(data_directory, "_libc", Kernel)
    data = os.urandom(700_000)

    await storage.save(key("a.bin"), Chunks(*[data] * 14))

    assert await read(storage, "a.bin") == data * 14
    assert bool(begun) is durable
    for (start, length), (following, _) in itertools.pairwise(begun):
        assert start + length == following
    await storage.close()


async def test_an_image_that_comes_in_tiny_pieces_is_written_in_few_calls_and_short_writes_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = open_storage(DiskConfig(tmp_path, 0), RULES)
    data = os.urandom(3000)
    written: list[list[bytes | memoryview]] = []
    real_writev = os.writev

    def short(fd: int, buffers: list[bytes | memoryview]) -> int:
        written.append([*buffers])
        return real_writev(fd, buffers[: len(buffers) - len(buffers) // 3])

    monkeypatch.setattr(os, "writev", short)
    source = Chunks(*(data[at : at + 1] for at in range(len(data))))
    await storage.save(key("a.png"), source)

    assert await read(storage, "a.png") == data
    assert len(written) < 100
    assert all(len(call) <= 1024 for call in written)
    assert not any(isinstance(buffer, memoryview) for call in written for buffer in call)
    await storage.close()
