"""Flushes that concurrent saves share (group commit)."""

import errno
import os
import platform
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from contract.images import RULES, key, read, save
from stillroom.errors import ConfigurationError, ReadOnly
from stillroom.store.disk import flushes
from stillroom.store.disk.data_directory import DataDirectory
from stillroom.store.disk.flushes import Flushes
from stillroom.store.disk.storage import DiskImageStorage
from waiting import until

SAVES = 5


class Calls:
    """Outcomes by call. The first fsync waits until it may go on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.seen: Counter[tuple[str, str]] = Counter()
        self.blocked, self.may_go_on = threading.Event(), threading.Event()
        self.flush: Callable[[int], None] = flushes.sync_filesystem
        real_fsync = os.fsync

        def fsync(fd: int) -> None:
            if not self.blocked.is_set():
                self.blocked.set()
                assert self.may_go_on.wait(120)
            real_fsync(fd)

        monkeypatch.setattr(os, "fsync", fsync)
        monkeypatch.setattr(flushes, "sync_filesystem", self._flush)

    def _flush(self, fd: int) -> None:
        self.flush(fd)

    def __call__(self, call: str, outcome: str, seconds: float, *, again: bool = False) -> None:
        del seconds, again
        self.seen[call, outcome] += 1


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    return Calls(monkeypatch)


@pytest.fixture
def file(tmp_path: Path) -> Iterator[int]:
    fd = os.open(tmp_path, os.O_RDONLY)
    yield fd
    os.close(fd)


def flush_together(
    grouped: Flushes, calls: Calls, file: int, *, usual_s: float = 1000
) -> list[BaseException | None]:
    """Start a flush, and some more while it runs; return their errors, the first one's first."""
    grouped.groups = True
    grouped._seconds.extend([usual_s] * flushes._REMEMBERED)
    with ThreadPoolExecutor(SAVES + 1) as threads:
        first = threads.submit(grouped.flush, file, "fsync_file")
        assert calls.blocked.wait(120)
        others = [threads.submit(grouped.flush, file, "fsync_folder") for _ in range(SAVES)]
        until(lambda: grouped._next.size == SAVES)
        calls.may_go_on.set()
        return [future.exception() for future in (first, *others)]


def test_callers_that_wait_for_a_running_flush_share_the_next_one(calls: Calls, file: int) -> None:
    errors = flush_together(Flushes(file, calls), calls, file)

    assert errors == [None] * (SAVES + 1)
    assert calls.seen == {("fsync_file", "ok"): 1, ("syncfs", "ok"): 1}


def test_a_failed_flush_fails_for_all_that_share_it(calls: Calls, file: int) -> None:
    def fail(_: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    calls.flush = fail
    first, *others = flush_together(Flushes(file, calls), calls, file)

    assert first is None
    assert [str(error) for error in others] == ["[Errno 5] Input/output error"] * SAVES


def test_after_a_slow_flush_callers_flush_alone_for_a_minute(
    calls: Calls, file: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    grouped = Flushes(file, calls)
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    flush_together(grouped, calls, file, usual_s=0)
    assert calls.seen["syncfs", "slow"] == 1

    grouped.flush(file, "fsync_file")
    assert grouped._next.size == 0
    calls.blocked.clear()
    calls.may_go_on.clear()
    now[0] += flushes._PAUSE_S
    flush_together(grouped, calls, file)
    assert calls.seen["syncfs", "ok"] == 2


def test_a_filesystem_that_is_neither_ext4_nor_xfs_is_refused(calls: Calls) -> None:
    with Path("/proc/self/mountinfo").open("rb") as file:
        grouped = Flushes(file.fileno(), calls)
        assert grouped.choose("off", file.fileno()) == "no group commit"
        with pytest.raises(ConfigurationError, match="is on proc, not on ext4 or XFS"):
            grouped.choose("on", file.fileno())


@pytest.mark.parametrize(("filesystem", "shares"), [("ext4", False), ("xfs", True)])
def test_slow_flushes_are_shared_on_xfs_and_get_more_threads_everywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, filesystem: str, *, shares: bool
) -> None:
    monkeypatch.setattr(flushes, "_filesystem", lambda _: filesystem)
    monkeypatch.setattr(flushes, "_SLOW_S", 0)
    data_directory = DataDirectory(tmp_path, group_commit="auto")
    assert data_directory.has_slow_flushes
    assert data_directory._flushes.groups is shares


def test_a_kernel_that_loses_errors_of_syncfs_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(platform, "release", lambda: "5.4.0-generic")
    with pytest.raises(ConfigurationError, match=r"Linux 5\.4\.0-generic does not report all"):
        DataDirectory(tmp_path, group_commit="on")


@pytest.mark.parametrize("failing", ["file", "folder"])
async def test_a_failed_shared_flush_turns_the_store_read_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    data_directory = DataDirectory(tmp_path)
    storage = DiskImageStorage(data_directory, RULES)
    await save(storage, "a/old.png")

    def flush(_: Flushes, fd: int, call: str) -> None:
        del fd
        if call == f"fsync_{failing}":
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(Flushes, "flush", flush)
    with pytest.raises(ReadOnly):
        await save(storage, "a/new.png")
    assert data_directory.is_read_only
    assert (tmp_path / "compute/a/new.png").exists() == (failing == "folder")
    with pytest.raises(ReadOnly):
        await storage.delete(key("a/old.png"))
    assert await read(storage, "a/old.png")
    await storage.close()


def test_on_a_full_disk_flushes_are_not_grouped(
    calls: Calls, file: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "write", refuse)
    monkeypatch.setattr(flushes, "_filesystem", lambda _: "ext4")
    grouped = Flushes(file, calls)

    assert grouped.choose("on", file) == "no group commit: the disk is full"
    assert not grouped.groups
