"""What only a disk can do wrong, and how it is kept from doing it."""

import asyncio
import contextlib
import errno
import itertools
import os
import subprocess
import threading
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from contract.images import PNG, RULES, Chunks, entries, everything, key, read, save
from stillroom.errors import (
    BackendUnavailable,
    ConfigurationError,
    ImageNotFound,
    PathConflict,
    PreconditionFailed,
    ReadOnly,
    StorageFull,
    UnsupportedMedia,
)
from stillroom.paths import StorageKey
from stillroom.storage.choose import DiskConfig, open_storage
from stillroom.storage.disk import data_directory
from stillroom.storage.disk.data_directory import DataDirectory
from stillroom.storage.disk.folder_cache import FolderCache
from stillroom.storage.disk.image import DiskImage, status_at
from stillroom.storage.disk.listing import list_page
from stillroom.storage.disk.openat2 import Opener, open_by_kernel, open_by_walk
from stillroom.storage.disk.storage import DiskImageStorage
from stillroom.storage.sources import BytesSource
from stillroom.storage.values import Condition, EntryPage, ListQuery, Page, SaveRules, StoredImage

MIB = 1024**2


@pytest.fixture(params=[open_by_kernel, open_by_walk])
async def storage(
    request: pytest.FixtureRequest, tmp_path: Path
) -> AsyncIterator[DiskImageStorage]:
    opener: Opener = request.param
    storage = DiskImageStorage(DataDirectory(tmp_path, opener=opener), RULES)
    yield storage
    assert os.listdir(tmp_path / ".stillroom/staging") == []
    await storage.close()


# Files and folders


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


# What somebody planted


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
    assert "security: a link or device stands in the data directory" in caplog.text


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


# What somebody copied in or edited


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


async def test_a_known_file_is_read_until_anything_of_it_changes(tmp_path: Path) -> None:
    storage, into = DiskImageStorage(DataDirectory(tmp_path), RULES), memoryview(bytearray(3))
    old_ns = time.time_ns() - 10**10
    files = {name: tmp_path / "compute" / name for name in ("written", "chmod", "renamed", "é")}
    for name, file in files.items():
        await save(storage, name, PNG)
        os.utime(file, ns=(old_ns, old_ns))
    images = [await storage.stat(key(name)) for name in files]
    while any(image.version is None for image in images):
        await asyncio.sleep(0.05)  # until it holds: for two seconds a change could hide
        images = [await storage.stat(key(name)) for name in files]
    for image in images:
        assert storage.is_current(image)
        assert storage.read_now(image, 2, into)
        assert into == PNG[2:5]

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
        data_directory: DataDirectory, query: ListQuery, folder_cache: FolderCache
    ) -> Page:
        page = list_page(data_directory, query, folder_cache)
        for name in ("1 gone", "2 a folder", "3 a link"):
            (compute / name).unlink()
        (compute / "2 a folder").mkdir()
        (compute / "3 a link").symlink_to("4 here")
        return page

    monkeypatch.setattr("stillroom.storage.disk.storage.list_page", list_then_change)

    page = await storage.entries(ListQuery(everything(), limit=limit))

    if limit == 2:  # nothing is left of it, and the way on is known all the same
        assert page == EntryPage([], next_after="compute/2 a folder")
    else:
        assert page == EntryPage([await storage.stat(key("4 here"))])


async def test_a_folder_that_was_read_is_sorted_behind_the_page(
    storage: DiskImageStorage, tmp_path: Path
) -> None:
    for number in range(2000):
        (tmp_path / f"compute/{number:04}").touch()

    await storage.list(ListQuery(everything(), limit=1))

    with anyio.fail_after(60):
        while not storage._folder_cache.is_sorted:  # noqa: ASYNC110  (nobody is told)
            await anyio.sleep(0.005)  # until it holds; there is a deadline


async def test_describing_a_long_page_gives_others_a_turn_and_ends_when_nobody_waits(
    storage: DiskImageStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(1000):
        (tmp_path / f"compute/{number:04}").touch()
    began, going_on = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()
    opened: list[str] = []
    opens = storage._open

    def opens_slowly(image: StorageKey) -> DiskImage:
        opened.append(image.text)
        loop.call_soon_threadsafe(began.set)
        assert going_on.wait(60)
        return opens(image)

    monkeypatch.setattr(storage, "_open", opens_slowly)
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


# What is refused


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


# Syncs

Sync = Callable[[int], None]


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


# Starting


async def test_what_a_crash_left_in_staging_goes_at_the_next_start_but_not_under_running_ones(
    tmp_path: Path,
) -> None:
    running = DataDirectory(tmp_path)
    left = tmp_path / ".stillroom/staging/123-left"
    left.write_bytes(b"x")

    second = DataDirectory(tmp_path)
    assert left.exists()

    running.close()
    second.close()
    DataDirectory(tmp_path).close()
    assert not left.exists()


def test_a_data_directory_that_is_a_file_stops_the_start(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(ConfigurationError, match="STILLROOM_DATA_DIR"):
        DataDirectory(tmp_path / "file")


def test_a_linked_private_folder_stops_the_start(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "data").mkdir()
    (tmp_path / "data/.stillroom").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigurationError):
        DataDirectory(tmp_path / "data")
    assert os.listdir(tmp_path / "elsewhere") == []


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


@pytest.mark.root
@pytest.mark.parametrize("folder", ["compute", "media", ".stillroom"])
@pytest.mark.parametrize("kind", ["tmpfs", "bind"])
def test_a_filesystem_mounted_in_the_data_directory_stops_the_start(
    tmp_path: Path, folder: str, kind: str
) -> None:
    place = tmp_path / "data" / folder
    place.mkdir(parents=True)
    (tmp_path / "other").mkdir()
    mount = {"tmpfs": ["-t", "tmpfs", "none"], "bind": ["--bind", str(tmp_path / "other")]}[kind]
    subprocess.run(["mount", *mount, str(place)], check=True)
    try:
        with pytest.raises(ConfigurationError, match="different mounts"):
            DataDirectory(tmp_path / "data")
        assert not list((tmp_path / "data").glob("*/*.png"))
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)

    DataDirectory(tmp_path / "data").close()


async def test_an_image_that_is_removed_by_hand_right_before_its_deletion_is_missing(
    storage: DiskImageStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await save(storage, "a/b.png")

    def look_and_lose(folder_fd: int, name: str) -> os.stat_result | None:
        status = status_at(folder_fd, name)
        (tmp_path / "compute/a/b.png").unlink()
        return status

    monkeypatch.setattr("stillroom.storage.disk.publisher.status_at", look_and_lose)

    with pytest.raises(ImageNotFound):
        await storage.delete(key("a/b.png"))
