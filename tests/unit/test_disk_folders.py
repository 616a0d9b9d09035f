"""Files, folders, links and devices: what stands where an image's name leads on a disk."""

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest

from contract.images import PNG, RULES, Chunks, entries, everything, key, read, save
from stillroom.errors import ImageNotFound, PathConflict, PreconditionFailed
from stillroom.store.disk.data_directory import DataDirectory
from stillroom.store.disk.image import status_at
from stillroom.store.disk.storage import DiskImageStorage
from stillroom.store.sources import BytesSource
from stillroom.store.values import Condition, ListQuery


async def test_a_folder_with_images_cannot_become_a_file(storage: DiskImageStorage) -> None:
    await save(storage, "a/b.png")

    for condition in (Condition(), Condition(if_none_match="*")):
        with pytest.raises(PathConflict):
            await storage.save(key("a"), BytesSource(PNG), condition)

    assert await read(storage, "a/b.png") == PNG


async def test_a_file_cannot_become_a_folder_and_that_is_known_before_the_body(
    storage: DiskImageStorage,
) -> None:
    await save(storage, "a")
    source = Chunks(PNG)

    for path in ("a/b", "a/b/c"):
        with pytest.raises(PathConflict):
            await storage.save(key(path), source)

    assert source.asked == 0


@pytest.mark.parametrize("condition", [Condition(), Condition(if_none_match="*")])
async def test_a_folder_without_images_does_not_stand_in_the_way(
    storage: DiskImageStorage, tmp_path: Path, condition: Condition
) -> None:
    await save(storage, "a/b/c/d.png")
    await storage.delete(key("a/b/c/d.png"))
    (tmp_path / "compute/a/empty/too").mkdir(parents=True)

    await storage.save(key("a"), BytesSource(b"now a file"), condition)

    assert await read(storage, "a") == b"now a file"


async def test_folders_that_vanish_are_made_again(
    storage: DiskImageStorage, tmp_path: Path
) -> None:
    await save(storage, "a/b/c.png")
    (tmp_path / "compute/a/b/c.png").unlink()
    (tmp_path / "compute/a/b").rmdir()
    (tmp_path / "compute/a").rmdir()

    await save(storage, "a/b/c.png")

    assert await read(storage, "a/b/c.png") == PNG


async def test_saves_that_race_with_the_removal_of_folders_all_succeed(
    storage: DiskImageStorage,
) -> None:
    async def churn(number: int) -> None:
        for _ in range(20):
            await save(storage, f"x/{number}/image.png")
            await storage.delete(key(f"x/{number}/image.png"))

    async def claim() -> int:
        claimed = 0
        for _ in range(40):
            try:
                await save(storage, "x")
                await storage.delete(key("x"))
                claimed += 1
            except (PathConflict, ImageNotFound):
                await asyncio.sleep(0)  # one turn of the event loop
        return claimed

    async def tolerate(number: int) -> None:
        while True:
            try:
                return await churn(number)
            except PathConflict:  # `x` is a file at this moment
                await asyncio.sleep(0)  # one turn of the event loop

    await asyncio.gather(*(tolerate(number) for number in range(4)), claim())


async def test_a_create_only_save_never_renames_over_what_has_come_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = DiskImageStorage(DataDirectory(tmp_path), RULES)
    (tmp_path / "compute/a").mkdir()  # an empty folder at the first look
    real_stat = os.stat

    def overtaken(path: str, **options: Any) -> os.stat_result:
        found = real_stat(path, **options)
        if path == "a" and (tmp_path / "compute/a").is_dir():
            (tmp_path / "compute/a").rmdir()
            (tmp_path / "compute/a").write_bytes(b"theirs")
        return found

    monkeypatch.setattr(os, "stat", overtaken)
    with pytest.raises(PreconditionFailed):
        await storage.save(key("a"), BytesSource(b"ours"), Condition(if_none_match="*"))
    monkeypatch.setattr(os, "stat", real_stat)

    assert await read(storage, "a") == b"theirs"
    await storage.close()


async def test_an_image_that_is_removed_by_hand_right_before_its_deletion_is_missing(
    storage: DiskImageStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await save(storage, "a/b.png")

    def look_and_lose(folder_fd: int, name: str) -> os.stat_result | None:
        status = status_at(folder_fd, name)
        (tmp_path / "compute/a/b.png").unlink()
        return status

    monkeypatch.setattr("stillroom.store.disk.image.status_at", look_and_lose)

    with pytest.raises(ImageNotFound):
        await storage.delete(key("a/b.png"))


@pytest.fixture
def planted(tmp_path: Path) -> Path:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret.png").write_bytes(b"secret")
    return outside


async def test_a_planted_link_is_not_found_not_listed_and_never_followed_or_removed(
    storage: DiskImageStorage,
    tmp_path: Path,
    planted: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    await save(storage, "real.png")
    (tmp_path / "compute/file.png").symlink_to(planted / "secret.png")
    (tmp_path / "compute/folder").symlink_to(planted)

    for path in ("file.png", "folder/secret.png", "folder"):
        with pytest.raises(ImageNotFound):
            await storage.locate(key(path))
        with pytest.raises(ImageNotFound):
            await storage.delete(key(path))
    for path in ("file.png", "folder/new.png", "folder"):
        with pytest.raises(PathConflict):
            await storage.save(key(path), BytesSource(PNG))

    assert entries(await storage.list(ListQuery(everything()))) == ["real.png"]
    assert entries(await storage.list(ListQuery(everything("folder/")))) == []
    assert os.listdir(planted) == ["secret.png"]
    assert (planted / "secret.png").read_bytes() == b"secret"
    assert (tmp_path / "compute/file.png").is_symlink()
    assert (tmp_path / "compute/folder").is_symlink()
    assert "in the data directory is a symbolic link or device" in caplog.text


async def test_a_planted_fifo_blocks_nobody(storage: DiskImageStorage, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "compute/pipe.png")

    with pytest.raises(ImageNotFound):
        await storage.locate(key("pipe.png"))
    with pytest.raises(ImageNotFound):
        await storage.delete(key("pipe.png"))
    with pytest.raises(PathConflict):
        await storage.save(key("pipe.png"), BytesSource(PNG))
    assert entries(await storage.list(ListQuery(everything()))) == []


async def test_names_that_no_path_can_have_are_not_listed(
    storage: DiskImageStorage, tmp_path: Path
) -> None:
    await save(storage, "ok.png")
    compute = os.fsencode(tmp_path / "compute")
    for name in (b"\xff\xfe.png", "cafe\u0301.png".encode(), b"a\nb.png", b"%2e%2e"):
        Path(os.fsdecode(compute + b"/" + name)).write_bytes(b"x")
    Path(os.fsdecode(compute + b"/\xff")).mkdir()
    Path(os.fsdecode(compute + b"/\xff/image.png")).write_bytes(b"x")

    assert entries(await storage.list(ListQuery(everything(), limit=1))) == ["ok.png"]
    assert entries(await storage.list(ListQuery(everything()))) == ["ok.png"]
    assert entries(await storage.list(ListQuery(everything(), delimited=True))) == ["ok.png"]
