"""Flushes of files and folders to the disk. They are grouped if that is faster (group commit).

A save waits for two flushes: of its file before it is linked, and of its folder afterwards. While
a flush runs, later callers wait for the next one. If several wait, a single `syncfs` flushes the
whole filesystem for all of them, as docs/adr/0045 explains. A caller that waits alone calls fsync.
"""

import collections
import ctypes
import errno
import logging
import os
import platform
import re
import statistics
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Literal

from stillroom.errors import ConfigurationError
from stillroom.store.capabilities import CallObserver

GroupCommit = Literal["auto", "on", "off"]

_FILESYSTEMS: Final = ("ext4", "xfs")
_REPORTS_ERRORS_SINCE: Final = (5, 17)
"""First version of Linux whose syncfs reports errors of a filesystem's journal. Since 5.8, syncfs
reports write errors, once to each open descriptor: https://man7.org/linux/man-pages/man2/sync.2.html"""

_SLOW_S: Final = 0.001
"""A disk is slow if the fastest fsync at the start takes this many seconds. Disks with power-loss
protection take less, even if some flushes of a busy machine take longer."""

_REMEMBERED: Final = 9  # number of fsync calls whose median time is compared
_MOST_SLOWER: Final = 4  # times the median; a longer syncfs also writes files of other programs
_PAUSE_S: Final = 60.0  # without syncfs, after one was too slow

_libc = ctypes.CDLL(None, use_errno=True)

log = logging.getLogger("stillroom.disk")


def sync_filesystem(fd: int) -> None:
    """Flush the whole filesystem of an open file to the disk, or raise `OSError`.

    A read-only filesystem is an error: ext4 may become read-only after an error of its journal, and
    syncfs then succeeds without flushing anything.
    """
    number = ctypes.get_errno() if _libc.syncfs(fd) else 0
    if not number and os.fstatvfs(fd).f_flag & os.ST_RDONLY:
        number = errno.EROFS
    if number:
        raise OSError(number, os.strerror(number))


@dataclass(eq=False, slots=True)
class _Batch:
    size: int = 0
    error: OSError | None = field(default_factory=lambda: OSError(errno.EIO, "not flushed"))
    done: threading.Event = field(default_factory=threading.Event)


class Flushes:
    """Flushes of files and folders on one filesystem. Thread-safe."""

    def __init__(self, fd: int, observer: CallObserver) -> None:
        """Use `fd`, an open descriptor on the filesystem, for syncfs."""
        self._fd = fd
        self._observe = observer
        self._lock = threading.Lock()
        self._running = threading.Lock()  # held while a flush runs
        self._next = _Batch()
        self._seconds = collections.deque([0.0], maxlen=_REMEMBERED)
        self._paused_until = 0.0
        self.groups = False
        self.are_slow = False  # many threads save faster, because most of them wait

    def choose(self, setting: GroupCommit, fd: int) -> str:
        """Decide whether flushes are grouped, and return the decision as a text for the log.

        The speed of fsync is measured with the new file `fd`. Raises `ConfigurationError` if
        `setting` is `on` but the filesystem or the kernel does not support grouped flushes.
        """
        if setting == "off":
            return "no group commit"
        filesystem = _filesystem(self._fd)
        refused = _unsupported(filesystem)
        if setting == "on" and refused:
            raise ConfigurationError(
                f"STILLROOM_GROUP_COMMIT=on is not possible: {refused}. Set it to auto"
            )
        try:
            for _ in range(_REMEMBERED):
                os.write(fd, bytes(4096))
                self._fsync(fd, "fsync_file")
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            return "no group commit: the disk is full"
        fastest = min(self._seconds)
        self.are_slow = setting == "on" or fastest >= _SLOW_S
        self.groups = setting == "on" or (self.are_slow and filesystem == "xfs" and not refused)
        decided = "group commit" if self.groups else "no group commit"
        return f"{decided}: a flush takes {fastest * 1000:.1f} ms"

    def flush(self, fd: int, call: str) -> None:
        """Flush a file or folder to the disk. `call` is the name of the call for the observer."""
        if not self.groups or time.monotonic() < self._paused_until:
            self._fsync(fd, call)
            return
        with self._lock:
            batch = self._next
            batch.size += 1
            leads = batch.size == 1
        if leads:
            self._flush_batch(batch, fd, call)
        batch.done.wait()
        if batch.error is not None:
            raise batch.error

    def _flush_batch(self, batch: _Batch, fd: int, call: str) -> None:
        try:
            with self._running:
                with self._lock:
                    self._next = _Batch()  # later calls wait for the next flush
                if batch.size == 1:
                    self._fsync(fd, call)
                else:
                    self._sync_filesystem(batch.size)
            batch.error = None
        except OSError as error:
            batch.error = error
        finally:
            batch.done.set()

    def _sync_filesystem(self, size: int) -> None:
        seconds = self._observed("syncfs", sync_filesystem, self._fd)
        median = statistics.median(self._seconds)
        if seconds > median * max(_MOST_SLOWER, size):
            self._paused_until = time.monotonic() + _PAUSE_S
            self._observe("syncfs", "slow", seconds)
            log.info(
                "no group commit for %.0f s: a flush of %d files took %.0f ms, one file takes %.1f",
                _PAUSE_S, size, seconds * 1000, median * 1000,
            )  # fmt: skip

    def _fsync(self, fd: int, call: str) -> None:
        self._seconds.append(self._observed(call, os.fsync, fd))

    def _observed(self, call: str, flush: Callable[[int], None], fd: int) -> float:
        began = time.perf_counter()
        try:
            flush(fd)
        except OSError:
            self._observe(call, "error", time.perf_counter() - began)
            raise
        seconds = time.perf_counter() - began
        self._observe(call, "ok", seconds)
        return seconds


def _unsupported(filesystem: str) -> str:
    """Return why flushes on this filesystem cannot be grouped, or an empty text."""
    version = re.match(r"(\d+)\.(\d+)", platform.release())
    if version is None or (int(version[1]), int(version[2])) < _REPORTS_ERRORS_SINCE:
        return f"Linux {platform.release()} does not report all errors of syncfs; 5.17 does"
    if filesystem not in _FILESYSTEMS:
        return f"the data directory is on {filesystem}, not on ext4 or XFS"
    return ""


def _filesystem(fd: int) -> str:
    """Return the type of a file's filesystem, such as `ext4`, from /proc/self/mountinfo."""
    device = os.fstat(fd).st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    try:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as mounts:
            for mount in mounts:
                before, _, after = mount.partition(" - ")
                if before.split()[2] == number:
                    return after.split()[0]
    except OSError:
        pass
    return "an unknown filesystem"
