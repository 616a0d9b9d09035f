"""What is read and listed of a disk whose files others copy in, edit, truncate and remove."""

import asyncio
import errno
import os
import threading
import time
from pathlib import Path

import pytest

from contract.images import PNG, RULES, everything, key, read, save
from stillroom.errors import BackendUnavailable
from stillroom.paths import StorageKey
from stillroom.speed.disk.storage import FastDiskStorage
from stillroom.store.disk.data_directory import DataDirectory
from stillroom.store.disk.image import DiskImage
from stillroom.store.disk.listing import FolderNames, list_page
from stillroom.store.disk.storage import DiskImageStorage
from stillroom.store.values import EntryPage, ListQuery, Page, StoredImage
from waiting import eventually


async def test_a_file_copied_in_by_hand_is_an_image_without_a_hash(
    storage: DiskImageStorage, tmp_path: Path
) -> None:
    (tmp_path / "compute/a").mkdir()
    (tmp_path / "compute/a/copied").write_bytes(PNG)

    image = await storage.stat(key("a/copied"))

    assert (image.size, image.content_type, image.sha256) == (len(PNG), "image/png", None)
    assert await read(storage, "a/copied") == PNG


async def test_an_edited_file_loses_its_remembered_facts_and_changes_its_etag(
    storage: DiskImageStorage, tmp_path: Path
) -> None:
    etag = await save(storage, "a.png")
    with (tmp_path / "compute/a.png").open("r+b") as file:
        file.write(b"GIF89a")
        os.utime(file.fileno(), ns=(1, 1))

    image = await storage.stat(key("a.png"))

    assert (image.content_type, image.sha256) == ("image/gif", None)
    assert image.etag != etag


def _supports_nowait(file: Path) -> bool:
    """Return whether a file can be read without waiting for the disk. It cannot be on tmpfs."""
    fd = os.open(file, os.O_RDONLY)
    try:
        os.preadv(fd, [bytearray(1)], 0, os.RWF_NOWAIT)
    except OSError:
        return False
    else:
        return True
    finally:
        os.close(fd)


async def test_a_known_file_is_read_until_anything_of_it_changes(tmp_path: Path) -> None:
    storage, into = FastDiskStorage(DataDirectory(tmp_path), RULES), memoryview(bytearray(3))
    old_ns = time.time_ns() - 10**10
    files = {name: tmp_path / "compute" / name for name in ("written", "chmod", "renamed", "é")}
    for name, file in files.items():
        await save(storage, name, PNG)
        os.utime(file, ns=(old_ns, old_ns))
    images = [await storage.stat(key(name)) for name in files]
    while any(image.version is None for image in images):
        await asyncio.sleep(0.05)  # until it holds: for two seconds a change could hide
        images = [await storage.stat(key(name)) for name in files]
    reads_from_memory = _supports_nowait(files["written"])
    for image in images:
        assert storage.is_current(image)
        assert storage.read_now(image, 2, into) == reads_from_memory
        assert not reads_from_memory or into == PNG[2:5]

    files["written"].write_bytes(PNG[::-1])
    os.utime(files["written"], ns=(old_ns, old_ns))  # the same size and time as before
    files["chmod"].chmod(0o600)
    files["renamed"].rename(tmp_path / "aside")
    await storage.delete(key("é"))

    for image in images:
        assert not storage.is_current(image)
        assert not storage.read_now(image, 2, into)
    await storage.close()


async def test_without_attributes_everything_but_the_hash_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(DataDirectory, "_probe_attributes", lambda _: False)
    storage = DiskImageStorage(DataDirectory(tmp_path), RULES)

    await save(storage, "a.png")

    image = await storage.stat(key("a.png"))
    assert (image.content_type, image.sha256) == ("image/png", None)
    await storage.close()


async def test_an_entry_of_a_file_copied_in_by_hand_has_no_hash(
    storage: DiskImageStorage, tmp_path: Path
) -> None:
    (tmp_path / "compute/by-hand").write_bytes(PNG)

    page = await storage.entries(ListQuery(everything()))

    assert page.entries == [await storage.stat(key("by-hand"))]
    (entry,) = page.entries
    assert isinstance(entry, StoredImage)
    assert (entry.content_type, entry.sha256) == ("image/png", None)


@pytest.mark.parametrize("limit", [2, 4])
async def test_what_is_no_image_any_more_when_it_is_opened_is_no_entry(
    storage: DiskImageStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    compute = tmp_path / "compute"
    for name in ("1 gone", "2 a folder", "3 a link", "4 here"):
        await save(storage, name)

    def list_then_change(
        data_directory: DataDirectory, query: ListQuery, folder_names: FolderNames
    ) -> Page:
        page = list_page(data_directory, query, folder_names)
        for name in ("1 gone", "2 a folder", "3 a link"):
            (compute / name).unlink()
        (compute / "2 a folder").mkdir()
        (compute / "3 a link").symlink_to("4 here")
        return page

    monkeypatch.setattr("stillroom.store.disk.storage.list_page", list_then_change)

    page = await storage.entries(ListQuery(everything(), limit=limit))

    if limit == 2:  # nothing is left of it, and the way on is known all the same
        assert page == EntryPage([], next_after="compute/2 a folder")
    else:
        assert page == EntryPage([await storage.stat(key("4 here"))])


async def test_a_folder_that_was_read_is_sorted_behind_the_page(tmp_path: Path) -> None:
    storage = FastDiskStorage(DataDirectory(tmp_path), RULES)
    for number in range(2000):
        (tmp_path / f"compute/{number:04}").touch()

    await storage.list(ListQuery(everything(), limit=1))

    await eventually(lambda: storage._folder_cache.is_sorted)
    await storage.close()


async def test_describing_a_long_page_gives_others_a_turn_and_ends_when_nobody_waits(
    storage: DiskImageStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(1000):
        (tmp_path / f"compute/{number:04}").touch()
    began, going_on = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()
    opened: list[str] = []
    opens = storage.locate_now

    def opens_slowly(image: StorageKey) -> DiskImage:
        opened.append(image.text)
        loop.call_soon_threadsafe(began.set)
        assert going_on.wait(60)
        return opens(image)

    monkeypatch.setattr(storage, "locate_now", opens_slowly)
    task = asyncio.ensure_future(storage.entries(ListQuery(everything(), limit=1000)))
    await began.wait()
    task.cancel()
    going_on.set()

    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(opened) < 1000


async def test_a_reader_keeps_the_image_that_it_opened(storage: DiskImageStorage) -> None:
    await save(storage, "a.png", b"old" * 200_000)
    location = await storage.locate(key("a.png"))
    chunks = location.chunks(0, location.image.size)
    start = await anext(chunks)

    await save(storage, "a.png", b"new")
    await storage.delete(key("a.png"))

    assert start + b"".join([chunk async for chunk in chunks]) == b"old" * 200_000
    location.close()


async def test_a_file_that_shrinks_under_its_reader_is_an_error_not_a_short_image(
    storage: DiskImageStorage, tmp_path: Path
) -> None:
    await save(storage, "a.png", bytes(600_000))
    location = await storage.locate(key("a.png"))
    os.truncate(tmp_path / "compute/a.png", 300_000)

    with pytest.raises(BackendUnavailable):
        _ = [chunk async for chunk in location.chunks(0, 600_000)]
    location.close()


@pytest.mark.parametrize("number", [errno.EMFILE, errno.EIO, errno.EACCES])
async def test_a_disk_in_trouble_is_not_an_image_that_is_missing(
    tmp_path: Path, number: int
) -> None:
    storage = DiskImageStorage(DataDirectory(tmp_path), RULES)
    await save(storage, "a.png")

    def fail(_folder: int, _path: str, _flags: int) -> int:
        raise OSError(number, os.strerror(number))

    storage._data_directory.open_contained = fail
    for operation in (storage.locate, storage.stat, storage.delete):
        with pytest.raises(BackendUnavailable):
            await operation(key("a.png"))
    await storage.close()
