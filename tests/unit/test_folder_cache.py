"""What is remembered of large folders is true at every page, whoever has changed them."""

import contextlib
import errno
import logging
import os
import random
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from changing import KINDS, Changer, OtherProcess
from stillroom.paths import KeyPrefix
from stillroom.speed.disk import folder_cache, sorted_names
from stillroom.speed.disk.folder_cache import FolderCache
from stillroom.speed.disk.inotify import Inotify
from stillroom.speed.disk.sorted_names import SortedNames
from stillroom.store.disk import listing
from stillroom.store.disk.data_directory import DataDirectory
from stillroom.store.disk.listing import list_page
from stillroom.store.values import ListQuery

MIB = 1024**2


@contextlib.contextmanager
def every_folder_is_large() -> Iterator[None]:
    """Small folders are remembered too, in small blocks, so that few names do all there is."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(listing, "_SMALL_FOLDER", 0)
        patch.setattr(listing, "_READ_TOGETHER", 3)
        patch.setattr(listing, "_SMALLEST_PICK", 1)
        patch.setattr(sorted_names, "_SAMPLED", 2)
        patch.setattr(sorted_names, "_BLOCK_NAMES", 4)
        patch.setattr(sorted_names, "_LARGEST_BLOCK", 6)
        patch.setattr(sorted_names, "_LOOSE_NAMES", 5)
        yield


@pytest.fixture(scope="module")
def other() -> Iterator[OtherProcess]:
    with contextlib.closing(OtherProcess()) as process:
        yield process


@pytest.fixture
def data_directory(tmp_path: Path) -> Iterator[DataDirectory]:
    data_directory = DataDirectory(tmp_path, durable=False)
    yield data_directory
    data_directory.close()


@pytest.fixture
def memory() -> Iterator[FolderCache]:
    memory = FolderCache(64 * MIB)
    yield memory
    memory.close()


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Which folders are read from now on, by their name."""
    found: list[str] = []
    real = os.scandir

    def recording(fd: int) -> Any:
        found.append(Path(f"/proc/self/fd/{fd}").readlink().name)
        return real(fd)

    monkeypatch.setattr(os, "scandir", recording)
    return found


def walk(root: Path) -> list[str]:
    """All keys, by the plainest means."""
    return sorted(
        f"{Path(folder).relative_to(root)}/{name}"
        for folder, _, files in os.walk(root / "compute")
        for name in files
        if not Path(folder, name).is_symlink()
    )


def fill(folder: Path, count: int) -> list[str]:
    folder.mkdir(parents=True, exist_ok=True)
    found = []
    for number in range(count):
        (folder / f"{number:05}.png").touch()
        found.append(f"compute/{folder.name}/{number:05}.png")
    return found


def page(
    data_directory: DataDirectory, memory: FolderCache, prefix: str = "", limit: int = 10_000
) -> list[str]:
    return list(
        list_page(
            data_directory, ListQuery(KeyPrefix(f"compute/{prefix}"), "", limit), memory
        ).entries
    )


# Whoever changes what

PATHS = st.sampled_from(
    [
        "a",
        "b",
        "a/a",
        "a/b",
        "a/c",
        "a/b/a",
        "a/b/b",
        "b/a",
        "b/a/b",
        "a-",
        "a.b",
        "é/😀",
        "a/\udcff",
    ]
)
CHANGES = st.lists(
    st.tuples(st.sampled_from(KINDS), PATHS, PATHS, st.booleans(), st.booleans()), max_size=30
)


@given(start=st.sets(PATHS), changes=CHANGES, max_bytes=st.sampled_from([64 * MIB, 3000]))
def test_pages_are_what_a_walk_finds_whoever_changes_the_folders(
    other: OtherProcess,
    start: set[str],
    changes: list[tuple[str, str, str, bool, bool]],
    max_bytes: int,
) -> None:
    memory = FolderCache(max_bytes)
    with (
        tempfile.TemporaryDirectory() as folder,
        contextlib.closing(Changer()) as here,
        every_folder_is_large(),
    ):
        data_directory = DataDirectory(Path(folder), durable=False)

        def look(after: str) -> None:
            expected = [key for key in walk(Path(folder)) if "\udcff" not in key]
            behind = [key for key in expected if key > f"compute/{after}"]
            for limit in (1, 2, 100):
                query = ListQuery(KeyPrefix("compute/"), f"compute/{after}", limit)
                found = list_page(data_directory, query, memory)
                assert list(found.entries) == behind[:limit]
                assert found.more == (len(behind) > limit)

        for path in sorted(start, reverse=True):
            here.change(folder, "copy in", path, "")
        look("")
        for kind, path, target, elsewhere, pauses in changes:
            (other if elsewhere else here).change(folder, kind, path, target)
            if pauses:
                look(target)
        look("")
        data_directory.close()
    memory.close()


NAMES = st.builds(
    "{}{}".format, st.text(alphabet="abé😀\n", min_size=1, max_size=3), st.sampled_from(("", "/"))
)


@given(
    added=st.lists(NAMES, max_size=60),
    changes=st.dictionaries(NAMES, st.booleans()),
    start=st.text(alphabet="abé😀", max_size=3),
    count=st.integers(1, 20),
)
def test_sorted_names_are_a_sorted_set(
    added: list[str], changes: dict[str, bool], start: str, count: int
) -> None:
    with every_folder_is_large():
        kept = SortedNames()
        for at in range(0, len(added), 3):
            kept.add(added[at : at + 3])
        model = set(added)

        for _ in range(2):
            found = kept.names_from(start, count)
            expected = sorted(name for name in model if name >= start and "\n" not in name)
            assert found[:count] == expected[:count]
            assert len(found) >= min(count, len(expected))
            kept.update(changes)
            model = {name for name in {*model, *changes} if changes.get(name, True)}


# What need not be read again


def test_a_large_folder_is_read_once_and_then_followed(
    data_directory: DataDirectory,
    memory: FolderCache,
    tmp_path: Path,
    other: OtherProcess,
    reads: list[str],
) -> None:
    expected = fill(tmp_path / "compute/many", 600)
    folder = tmp_path / "compute/many"
    assert page(data_directory, memory, "many/") == expected
    reads.clear()

    (folder / "copied.png").touch()
    assert page(data_directory, memory, "many/c") == ["compute/many/copied.png"]
    other.change(str(tmp_path), "save", "many/saved.png", "")
    assert page(data_directory, memory, "many/s") == ["compute/many/saved.png"]
    other.change(str(tmp_path), "delete", "many/copied.png", "")
    assert page(data_directory, memory, "many/c") == []
    (folder / "00000.png").unlink()
    (folder / "below").mkdir()
    (folder / "below/image.png").touch()
    assert page(data_directory, memory, "many/") == [
        *expected[1:],
        "compute/many/below/image.png",
        "compute/many/saved.png",
    ]
    folder.rename(tmp_path / "compute/moved")
    assert page(data_directory, memory, "many/") == []
    assert len(page(data_directory, memory, "moved/")) == 601
    assert set(reads) == {"below"}


def test_another_folder_of_the_same_name_is_not_taken_for_the_one_before(
    data_directory: DataDirectory, memory: FolderCache, tmp_path: Path
) -> None:
    folder = tmp_path / "compute/many"
    for count in (600, 601, 5, 602):
        expected = fill(folder, count)
        assert page(data_directory, memory) == expected
        for image in folder.iterdir():
            image.unlink()
        folder.rmdir()  # the next one may well get its inode
        assert page(data_directory, memory) == []


def test_what_changes_while_a_folder_is_read_is_not_missed(
    data_directory: DataDirectory,
    memory: FolderCache,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    expected = fill(tmp_path / "compute/many", 2000)
    real = FolderCache.reading

    @contextlib.contextmanager
    def overtaken(self: FolderCache, fd: int) -> Iterator[Callable[[list[str]], None]]:
        with real(self, fd) as keep:
            assert keep is not None

            def kept(some: list[str]) -> None:
                keep(some)
                (tmp_path / "compute/many" / some[0]).unlink()
                (tmp_path / "compute/many/new.png").touch()
                gone.append(f"compute/many/{some[0]}")

            yield kept

    gone: list[str] = []
    monkeypatch.setattr(FolderCache, "reading", overtaken)
    page(data_directory, memory)
    monkeypatch.setattr(FolderCache, "reading", real)

    assert gone
    assert page(data_directory, memory) == sorted({*expected, "compute/many/new.png"} - {*gone})


def test_threads_that_list_while_others_save_and_delete_see_all_that_stays(
    data_directory: DataDirectory, memory: FolderCache, tmp_path: Path
) -> None:
    stays = set(fill(tmp_path / "compute/many", 1500))
    stop = threading.Event()
    faults: list[str] = []

    def churn(number: int) -> None:
        path = tmp_path / f"compute/many/churn-{number}.png"
        while not stop.is_set():
            for there in (True, False):
                path.touch() if there else path.unlink()
                found = page(data_directory, memory, "many/churn")
                if (f"compute/many/{path.name}" in found) != there:
                    faults.append(f"{path.name} was saved: {there}, but {found} is listed")

    def forget() -> None:
        while not stop.is_set():
            memory.close()

    threads = [threading.Thread(target=churn, args=(number,)) for number in range(3)]
    threads.append(threading.Thread(target=forget))
    for thread in threads:
        thread.start()
    for _ in range(30):
        found = set(page(data_directory, memory))
        faults += sorted(stays - found)
        memory.sort()
    stop.set()
    for thread in threads:
        thread.join()

    assert faults == []


# What the kernel cannot tell


def test_more_changes_than_the_kernel_queues_are_found_by_reading_anew(
    data_directory: DataDirectory, memory: FolderCache, tmp_path: Path, reads: list[str]
) -> None:
    expected = fill(tmp_path / "compute/many", 600)
    queued = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    (tmp_path / "compute/many/x0").touch()
    page(data_directory, memory)
    for number in range(queued // 2 + 10):  # each is reported twice
        os.rename(tmp_path / f"compute/many/x{number}", tmp_path / f"compute/many/x{number + 1}")
    (tmp_path / "compute/many/y.png").touch()
    reads.clear()

    for _ in range(2):
        assert page(data_directory, memory, "many/") == [
            *expected,
            f"compute/many/x{queued // 2 + 10}",
            "compute/many/y.png",
        ]

    assert len(reads) == 2, "a look at how large it is, and a reading"


@pytest.mark.parametrize(
    ("part", "error"),
    [
        ("__init__", errno.EMFILE),  # fs.inotify.max_user_instances
        ("watch", errno.ENOSPC),  # fs.inotify.max_user_watches
        ("watch", errno.ENOENT),  # no /proc
    ],
)
def test_what_cannot_be_watched_is_read_for_every_page_and_the_operator_is_told_once(
    data_directory: DataDirectory,
    memory: FolderCache,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    part: str,
    error: int,
) -> None:
    def fail(*_: object) -> None:
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr(Inotify, part, fail)
    expected = fill(tmp_path / "compute/many", 600)
    for number in range(3):
        (tmp_path / f"compute/many/x{number}.png").touch()
        expected.append(f"compute/many/x{number}.png")
        assert page(data_directory, memory) == expected

    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "fs.inotify in docs/running.md" in caplog.text


def test_on_other_filesystems_nothing_is_remembered(
    data_directory: DataDirectory,
    memory: FolderCache,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    reads: list[str],
) -> None:
    monkeypatch.setattr("stillroom.speed.disk.inotify._FULLY_REPORTED", frozenset())
    expected = fill(tmp_path / "compute/many", 600)

    for _ in range(2):
        reads.clear()
        assert page(data_directory, memory) == expected
        assert "many" in reads


# How much is remembered


def test_memory_stays_within_its_bound_and_holds_what_was_listed_last(
    data_directory: DataDirectory, tmp_path: Path, reads: list[str]
) -> None:
    for folder in ("first", "second", "third"):
        fill(tmp_path / "compute" / folder, 600)
    fill(tmp_path / "compute/huge", 3000)
    memory = FolderCache(15_000)

    for folder in ("first", "second", "third", "huge"):
        assert len(page(data_directory, memory, f"{folder}/")) == len(
            os.listdir(tmp_path / "compute" / folder)
        )
    reads.clear()
    for folder in ("third", "second", "first", "huge"):
        page(data_directory, memory, f"{folder}/", limit=1)

    assert sum(folder.names.size for folder in memory._folders.values()) <= 15_000
    assert set(reads) == {"first", "huge"}
    memory.close()


def test_folders_that_nobody_lists_any_more_are_forgotten(
    data_directory: DataDirectory,
    memory: FolderCache,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for folder in ("first", "second"):
        fill(tmp_path / "compute" / folder, 600)
    page(data_directory, memory, "first/")
    monkeypatch.setattr(folder_cache, "_FORGOTTEN_AFTER_S", 0.0)
    page(data_directory, memory, "second/")

    assert len(memory._folders) == len(memory._watched) == 1


def test_a_folder_that_changes_a_lot_while_only_others_are_listed_is_forgotten(
    data_directory: DataDirectory, memory: FolderCache, tmp_path: Path
) -> None:
    expected = fill(tmp_path / "compute/busy", 600)
    fill(tmp_path / "compute/calm", 600)
    assert page(data_directory, memory, "busy/") == expected
    page(data_directory, memory, "calm/")
    for number in range(100):
        (tmp_path / f"compute/busy/x{number:03}").touch()
        expected.append(f"compute/busy/x{number:03}")
    page(data_directory, memory, "calm/")

    assert len(memory._folders) == 1
    assert page(data_directory, memory, "busy/") == expected


def test_nothing_is_kept_where_no_memory_is_given(
    data_directory: DataDirectory, tmp_path: Path, reads: list[str]
) -> None:
    expected = fill(tmp_path / "compute/many", 600)
    memory = FolderCache(0)
    before = len(os.listdir("/proc/self/fd"))

    for _ in range(2):
        reads.clear()
        assert page(data_directory, memory) == expected
        assert "many" in reads
    assert len(os.listdir("/proc/self/fd")) == before


def test_names_take_little_more_memory_than_their_bytes() -> None:
    chance = random.Random(0)
    kept = SortedNames()
    size = 0
    for _ in range(50):
        some = [f"{chance.getrandbits(64):016x}.png" for _ in range(1000)]
        size += sum(map(len, some))
        kept.add(some)

    kept.sort()

    assert size < kept.size < size * 1.2
    kept.names_from("", 100_000)
    assert size < kept.size < size * 1.2
