"""Folders that have been empty for a while go, and no others; nobody who saves notices."""

import asyncio
import os
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from contract.images import RULES
from stillroom.paths import ImagePath, StorageKey
from stillroom.store.capabilities import RemovesEmptyFolders
from stillroom.store.choose import DiskConfig, open_storage
from stillroom.store.disk.storage import DiskImageStorage
from stillroom.store.sources import BytesSource

HOUR = timedelta(hours=1)


def key(path: str) -> StorageKey:
    return StorageKey.of_image(ImagePath.parse(path))


@pytest.fixture
async def storage(tmp_path: Path) -> AsyncIterator[DiskImageStorage]:
    opened = open_storage(DiskConfig(tmp_path, min_free_bytes=0), RULES)
    assert isinstance(opened, DiskImageStorage)
    assert isinstance(opened, RemovesEmptyFolders)
    (tmp_path / ".stillroom/tidied").touch(mode=0o600)
    age(tmp_path / ".stillroom/tidied")
    yield opened
    await opened.close()


def age(*paths: Path) -> None:
    then = time.time() - 7200
    for path in paths:
        os.utime(path, (then, then))


def folders(root: Path) -> set[str]:
    return {
        str(path.relative_to(root))
        for name in ("compute", "media")
        for path in (root / name).rglob("*")
        if path.is_dir()
    }


async def test_what_has_been_empty_for_an_hour_goes_with_what_becomes_empty_by_that(
    storage: DiskImageStorage, tmp_path: Path
) -> None:
    await storage.save(key("full/deep/a.png"), BytesSource(b"x"))
    for name in ("compute/old/a/b", "compute/old/c", "compute/full/empty", "compute/new"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "media/1").mkdir()
    old = ("old/a/b", "old/a", "old/c", "old", "full/empty", "full/deep", "full")
    age(*(tmp_path / "compute" / name for name in old), tmp_path / "media/1")

    assert await storage.remove_empty_folders(HOUR) == 6

    assert folders(tmp_path) == {"compute/full", "compute/full/deep", "compute/new"}


async def test_it_is_done_once_an_hour_by_one_process(
    storage: DiskImageStorage, tmp_path: Path
) -> None:
    other = open_storage(DiskConfig(tmp_path, min_free_bytes=0), RULES)
    assert isinstance(other, DiskImageStorage)
    for number in range(3):
        (tmp_path / f"compute/{number}").mkdir()
    age(*(tmp_path / f"compute/{number}" for number in range(3)))

    removed = await asyncio.gather(
        storage.remove_empty_folders(HOUR), other.remove_empty_folders(HOUR)
    )
    assert sorted(removed) == [0, 3]
    (tmp_path / "compute/late").mkdir()
    age(tmp_path / "compute/late")
    assert await other.remove_empty_folders(HOUR) == 0
    assert folders(tmp_path) == {"compute/late"}
    await other.close()


async def test_a_planted_link_is_not_followed_and_not_removed(
    storage: DiskImageStorage, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    (outside / "empty").mkdir(parents=True)
    (tmp_path / "compute/a").mkdir()
    (tmp_path / "compute/a/link").symlink_to(outside)
    os.mkfifo(tmp_path / "compute/pipe")
    age(outside / "empty", outside, tmp_path / "compute/a")

    assert await storage.remove_empty_folders(HOUR) == 0

    assert (outside / "empty").is_dir()
    assert (tmp_path / "compute/a/link").is_symlink()


async def test_saves_that_race_with_it_all_succeed(
    storage: DiskImageStorage, tmp_path: Path
) -> None:
    done = asyncio.Event()

    async def remove() -> int:
        removed = 0
        while not done.is_set():
            age(tmp_path / ".stillroom/tidied")
            removed += await storage.remove_empty_folders(timedelta(seconds=-1))
            await asyncio.sleep(0.02)  # once an hour in real life; a save tries for half a second
        return removed

    async def save(number: int) -> None:
        for turn in range(20):
            where = key(f"{number}/x/{turn}.png")
            await storage.save(where, BytesSource(b"x"))
            assert (await storage.stat(where)).size == 1
            await storage.delete(where)

    removing = asyncio.create_task(remove())
    await asyncio.gather(*(save(number) for number in range(8)))
    done.set()
    assert await removing > 0


async def test_very_deep_folders_go_too(storage: DiskImageStorage, tmp_path: Path) -> None:
    (tmp_path / ("compute" + "/a" * 400)).mkdir(parents=True)
    path = tmp_path / "compute"
    for _ in range(400):
        path = path / "a"
        age(path)

    assert await storage.remove_empty_folders(HOUR) == 400


async def test_a_closing_storage_does_not_walk_to_the_end(
    storage: DiskImageStorage, tmp_path: Path
) -> None:
    (tmp_path / "compute/a").mkdir()
    age(tmp_path / "compute/a")
    storage._closing.set()

    assert await storage.remove_empty_folders(HOUR) == 0

    storage._closing.clear()
    assert await storage.remove_empty_folders(HOUR) == 1
