"""When files and folders are synced, and what follows if they cannot be."""

import asyncio
import errno
import os
import threading
from pathlib import Path

import pytest

from contract.images import PNG, RULES, Chunks, key, read, save
from stillroom.errors import ReadOnly
from stillroom.store.disk.data_directory import DataDirectory
from stillroom.store.disk.storage import DiskImageStorage


async def test_the_file_is_synced_before_it_is_published_and_its_folders_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = DiskImageStorage(DataDirectory(tmp_path), RULES)
    synced: list[tuple[str, bool]] = []
    real_fsync = os.fsync

    def recording(fd: int) -> None:
        real_fsync(fd)
        name = os.readlink(f"/proc/self/fd/{fd}").removeprefix(f"{tmp_path}").partition(" ")[0]
        synced.append(("file" if "#" in name else name, (tmp_path / "compute/a/b/c.png").exists()))

    monkeypatch.setattr(os, "fsync", recording)

    await save(storage, "a/b/c.png")
    assert synced == [
        ("file", False),
        ("", False),
        ("/compute", False),
        ("/compute/a", False),
        ("/compute/a/b", True),
    ]

    synced.clear()
    await save(storage, "a/b/d.png")
    assert [name for name, _ in synced] == ["file", "/compute/a/b"], "the chain is known by now"

    synced.clear()
    await storage.delete(key("a/b/c.png"))
    assert synced == [("/compute/a/b", False)]
    await storage.close()


@pytest.mark.parametrize("failing", ["file", "folder"])
async def test_a_failed_sync_turns_the_store_read_only_in_every_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    mine = DiskImageStorage(DataDirectory(tmp_path), RULES)
    theirs = DiskImageStorage(DataDirectory(tmp_path), RULES)
    await save(mine, "a/old.png")
    real_fsync = os.fsync

    def fail(fd: int) -> None:
        if os.path.isdir(f"/proc/self/fd/{fd}") == (failing == "folder"):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        real_fsync(fd)

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(ReadOnly):
        await save(mine, "a/new.png")
    monkeypatch.setattr(os, "fsync", real_fsync)

    for storage in (mine, theirs):
        source = Chunks(PNG)
        with pytest.raises(ReadOnly):
            await storage.save(key("a/other.png"), source)
        assert source.asked == 0
        with pytest.raises(ReadOnly):
            await storage.delete(key("a/old.png"))
        with pytest.raises(ReadOnly):
            await storage.check()
        assert await read(storage, "a/old.png") == PNG

    await mine.close()
    await theirs.close()
    restarted = DiskImageStorage(DataDirectory(tmp_path), RULES)
    await save(restarted, "a/new.png")
    await restarted.close()


def recorded_syncs(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is synced from now on, by its path."""
    synced: list[str] = []
    real_fsync = os.fsync

    def recording(fd: int) -> None:
        real_fsync(fd)
        synced.append(os.readlink(f"/proc/self/fd/{fd}"))

    monkeypatch.setattr(os, "fsync", recording)
    return synced


async def test_a_folder_that_another_process_made_again_is_synced_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = DiskImageStorage(DataDirectory(tmp_path), RULES)
    theirs = DiskImageStorage(DataDirectory(tmp_path), RULES)
    await save(mine, "a/x.png")
    await theirs.delete(key("a/x.png"))
    await save(theirs, "a")  # removes the empty folder
    await theirs.delete(key("a"))
    (tmp_path / "compute/a").mkdir()  # as a third process would, before its sync
    synced = recorded_syncs(monkeypatch)
    await save(mine, "a/y.png")

    assert str(tmp_path / "compute") in synced
    await mine.close()
    await theirs.close()


async def test_a_folder_with_a_known_inode_is_synced_again_once_any_folder_was_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data_directory = DataDirectory(tmp_path)
    storage = DiskImageStorage(data_directory, RULES)
    await save(storage, "a/x.png")
    data_directory.note_removed_folder()  # as another process does; inodes are used again
    synced = recorded_syncs(monkeypatch)
    await save(storage, "a/y.png")

    assert str(tmp_path / "compute") in synced
    await storage.close()


async def test_a_save_that_is_cancelled_while_it_is_published_is_published_and_synced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = DiskImageStorage(DataDirectory(tmp_path), RULES)
    await save(storage, "a/first.png")
    loop = asyncio.get_running_loop()
    syncing, may_go_on = asyncio.Event(), threading.Event()
    synced: list[str] = []
    real_fsync = os.fsync

    def slow(fd: int) -> None:
        if os.path.isdir(f"/proc/self/fd/{fd}"):
            loop.call_soon_threadsafe(syncing.set)
            assert may_go_on.wait(60)
        real_fsync(fd)
        synced.append(os.readlink(f"/proc/self/fd/{fd}"))

    monkeypatch.setattr(os, "fsync", slow)
    task = asyncio.ensure_future(save(storage, "a/second.png", b"second"))
    await syncing.wait()
    for _ in range(3):  # cancel scopes cancel at every await
        task.cancel()
        await asyncio.sleep(0.01)  # so that each cancellation arrives
    assert not task.done()
    may_go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert synced[-1] == str(tmp_path / "compute/a")
    assert await read(storage, "a/second.png") == b"second"
    await storage.close()
