"""What is kept of pictures, and what has to go."""

import contextlib
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path

import pytest

from stillroom.features.pictures import cache as kept
from stillroom.features.pictures.cache import DerivedCache, DerivedConfig

BLOCK = 4096


def name(number: int) -> str:
    return sha256(b"%d" % number).hexdigest()


def opened(folder: Path, *, blocks: int = 64, free: int = 0) -> DerivedCache:
    config = DerivedConfig(
        folder / "derived", cache_bytes=blocks * BLOCK, min_free_bytes=free, durable=False
    )
    return DerivedCache(config)


def read(cache: DerivedCache, number: int) -> bytes | None:
    file = cache.open(name(number))
    if file is None:
        return None
    with os.fdopen(file, "rb") as picture:
        return picture.read()


def taken(folder: Path) -> int:
    total = 0
    for file in (folder / "derived").glob("??/*"):
        with contextlib.suppress(FileNotFoundError):  # it had to go
            total += -(-file.stat().st_size // BLOCK) * BLOCK
    return total


def counted(folder: Path) -> int:
    return int.from_bytes((folder / "derived/lock").read_bytes(), "little")


def test_what_is_kept_is_read_back(tmp_path: Path) -> None:
    cache = opened(tmp_path)
    cache.add(name(1), b"one")
    cache.add(name(1), b"one")

    assert read(cache, 1) == b"one"
    assert read(cache, 2) is None
    assert read(opened(tmp_path), 1) == b"one"


def test_the_cache_stays_within_its_bound(tmp_path: Path) -> None:
    caches = [opened(tmp_path), opened(tmp_path)]
    for number in range(300):
        caches[number % 2].add(name(number), bytes(1 + number * 37 % (3 * BLOCK)))
        assert taken(tmp_path) <= 64 * BLOCK

    assert taken(tmp_path) > 32 * BLOCK
    assert read(caches[0], 299) is not None


def test_threads_and_processes_that_keep_at_once_stay_within_it(tmp_path: Path) -> None:
    caches = [opened(tmp_path) for _ in range(4)]
    start = threading.Barrier(4)

    def fill(which: int) -> None:
        start.wait()
        for number in range(60):
            caches[which].add(name(which * 1000 + number), bytes(BLOCK))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(fill, range(4)))
    assert counted(tmp_path) == taken(tmp_path) <= 64 * BLOCK


def test_what_was_not_used_for_longest_goes_first(tmp_path: Path) -> None:
    cache = opened(tmp_path)
    for number in range(64):
        cache.add(name(number), bytes(BLOCK))
        path = tmp_path / "derived" / name(number)[:2] / name(number)
        os.utime(path, (number + 1, 0))
    for number in (3, 5):
        assert read(cache, number) is not None  # a use now, in this century

    cache.add(name(64), bytes(BLOCK))

    left = {number for number in range(65) if read(cache, number) is not None}
    assert {3, 5, 63, 64} <= left
    assert not {0, 1, 2, 4} & left


def test_a_picture_too_large_for_its_share_is_not_kept(tmp_path: Path) -> None:
    cache = opened(tmp_path)
    cache.add(name(1), bytes(9 * BLOCK))

    assert read(cache, 1) is None


def test_nothing_is_kept_on_a_disk_that_is_full(tmp_path: Path) -> None:
    cache = opened(tmp_path, free=2**60)
    cache.add(name(1), b"one")

    assert read(cache, 1) is None


def test_what_others_have_left_or_removed_is_counted_anew(tmp_path: Path) -> None:
    before = opened(tmp_path)
    for number in range(60):
        before.add(name(number), bytes(BLOCK))
    for file in (tmp_path / "derived").glob("??/*"):
        file.unlink()
    (tmp_path / "derived/00").mkdir(exist_ok=True)
    foreign = tmp_path / "derived/00/foreign"
    foreign.write_bytes(bytes(10 * BLOCK))

    after = opened(tmp_path)
    after.add(name(99), bytes(BLOCK))

    assert counted(tmp_path) == taken(tmp_path) == 11 * BLOCK


def test_without_nameless_files_drafts_have_names_and_leave_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "O_TMPFILE", os.O_DIRECTORY)  # EISDIR, as where there are none
    cache = opened(tmp_path)
    cache.add(name(1), b"one")
    cache.add(name(1), b"one")

    assert read(cache, 1) == b"one"
    assert len(list((tmp_path / "derived").glob("??/*"))) == 1


def test_a_draft_of_a_killed_process_goes_in_time(tmp_path: Path) -> None:
    (tmp_path / "derived/00").mkdir(parents=True)
    old, new = (tmp_path / f"derived/00/draft-{number}" for number in (1, 2))
    for draft in (old, new):
        draft.write_bytes(b"half")
    os.utime(old, (1, 1))

    opened(tmp_path).add(name(1), b"one")

    assert not old.exists()
    assert new.exists()
    assert kept._DRAFT_S >= 60


def test_one_at_a_time_makes_a_picture_and_its_end_lets_the_next_one(tmp_path: Path) -> None:
    one, other = opened(tmp_path), opened(tmp_path)
    turn = one.try_lock(name(1))
    assert turn is not None
    assert other.try_lock(name(1)) is None
    assert one.try_lock(name(1)) is None
    second = other.try_lock(name(2))
    assert second is not None

    os.close(turn)
    third = other.try_lock(name(1))
    assert third is not None
    for file in (second, third):
        os.close(file)
