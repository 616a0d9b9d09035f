"""Cache of the sorted names in large folders, kept up to date by inotify.

A folder of a million names takes half a second to read, so a page must not read
it anew. It is watched before it is read, and remembered by its inode: the path
is resolved by the kernel for every page, so a folder that was moved away, or
whose name another one has now, is not taken for it. A page first takes what
inotify has queued, and looks at each name that it tells of; what the kernel says
first is true of every change that was made before, by any process on the machine.
Where it cannot say that, nothing is remembered. See docs/adr/0010.
"""

import contextlib
import logging
import os
import stat
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from typing import Final

from stillroom.storage.disk.inotify import IN_IGNORED, IN_Q_OVERFLOW, Inotify, tells_all
from stillroom.storage.disk.names import SortedNames

_MAX_FOLDERS: Final = 1024
"""Watched at once; a watch takes about a kilobyte of the kernel's memory."""

_MAX_CHANGES: Final = 16_384
_LEAST_CHANGES: Final = 64
_BYTES_FOR_A_CHANGE: Final = 256
"""Changes noted since the last page of a folder: these bounds, and between them one for so many
bytes of its names. With more, reading it anew is quicker, and noting them would take memory."""

_FORGOTTEN_AFTER_S: Final = 600.0
"""Since the last page of a folder, so that saves into it do not go on being reported."""

Ident = tuple[int, int]
"""A folder's device and inode: its name now, whatever path leads to it."""

log = logging.getLogger("stillroom.disk")


class FolderCache:
    """A cache of the sorted names in large folders. Thread-safe."""

    def __init__(self, max_bytes: int) -> None:
        """Cache names of at most `max_bytes`; 0 caches nothing."""
        self._max_bytes = max_bytes
        self._lock = threading.Lock()  # of all below; never held while a folder is read
        self._inotify: Inotify | None = None
        self._folders: OrderedDict[Ident, _WatchedFolder] = (
            OrderedDict()
        )  # the last one used is last
        self._watched: dict[int, Ident] = {}
        self._unsorted: deque[tuple[Ident, _WatchedFolder]] = deque()
        self._has_complained = False

    def names_from(self, fd: int, start: str, count: int) -> list[str] | None:
        """An open folder's names from `start` on, in order, `count` or more unless it ends.

        Returns:
            None if the folder is not remembered.

        Raises:
            OSError: the filesystem failed.
        """
        ident = _ident(fd)
        folder = self._folders.get(ident)
        if folder is None:
            return None
        with self._using(ident, folder):
            with self._lock:
                self._take_events()
                if self._folders.get(ident) is not folder:
                    return None
                folder.used = time.monotonic()
                self._folders.move_to_end(ident)
                changed, folder.changed = folder.changed, set()
            if changed:
                folder.names.update(_look_at(fd, changed))
                with self._lock:
                    self._make_room(ident, folder)
            return folder.names.names_from(start, count)

    @contextlib.contextmanager
    def reading(self, fd: int) -> Iterator[Callable[[list[str]], None] | None]:
        """Around a reading of an open folder, from its beginning to its end.

        Yields:
            What to call with all its names, some at a time; None if they are not wanted.
        """
        ident = _ident(fd)
        folder = self._begin(fd, ident)
        if folder is None:
            yield None
            return

        def keep(names: list[str]) -> None:
            if folder.names.size <= self._max_bytes:
                folder.names.add(names)

        try:
            yield keep
        except BaseException:
            with self._lock:
                self._forget(ident, folder)
            raise
        else:
            with self._lock:
                self._make_room(ident, folder)
            self._unsorted.append((ident, folder))
        finally:
            folder.lock.release()

    @property
    def is_sorted(self) -> bool:
        """Whether `sort` has nothing to do."""
        return not self._unsorted

    def sort(self) -> None:
        """Put in order what was read last, so that the next page need not do it."""
        while self._unsorted:
            with contextlib.suppress(IndexError):  # another thread took it
                ident, folder = self._unsorted.popleft()
                with self._using(ident, folder):
                    folder.names.sort()

    def close(self) -> None:
        """Drop all cached names and watches."""
        with self._lock:
            self._forget_all()

    def _begin(self, fd: int, ident: Ident) -> "_WatchedFolder | None":
        """Watch a folder that is to be read, and hold its lock."""
        with self._lock:
            if not self._max_bytes or ident in self._folders:
                return None
            try:
                if not tells_all(fd):
                    return None
                if self._inotify is None:
                    self._inotify = Inotify()
                watch = self._inotify.watch(fd)
            except OSError as error:
                self._complain(error)
                return None
            folder = _WatchedFolder(watch)
            folder.lock.acquire()
            self._folders[ident] = folder
            self._watched[watch] = ident
            return folder

    @contextlib.contextmanager
    def _using(self, ident: Ident, folder: "_WatchedFolder") -> Iterator[None]:
        """Hold a folder's lock; whatever fails meanwhile, it is not left half changed."""
        with folder.lock:
            try:
                yield
            except BaseException:
                with self._lock:
                    self._forget(ident, folder)
                raise

    # With the lock held ------------------------------------------------------------------

    def _take_events(self) -> None:
        """Note every change that was made before this call."""
        if self._inotify is None:
            return
        for watch, mask, name in self._inotify.events():
            if mask & IN_Q_OVERFLOW:
                self._forget_all()
                return
            ident = self._watched.get(watch)
            folder = self._folders.get(ident) if ident is not None else None
            if ident is None or folder is None:
                continue  # reported before its watch was ended
            folder.changed.add(name)
            if mask & IN_IGNORED or len(folder.changed) > folder.max_changes:
                self._forget(ident, folder)

    def _make_room(self, ident: Ident, latest: "_WatchedFolder") -> None:
        if latest.names.size > self._max_bytes:
            self._forget(ident, latest)
        worth = max(_LEAST_CHANGES, latest.names.size // _BYTES_FOR_A_CHANGE)
        latest.max_changes = min(worth, _MAX_CHANGES)
        old = time.monotonic() - _FORGOTTEN_AFTER_S
        total = sum(folder.names.size for folder in self._folders.values())
        for other, folder in list(self._folders.items()):
            if (
                total <= self._max_bytes
                and len(self._folders) <= _MAX_FOLDERS
                and folder.used > old
            ):
                return
            if folder is not latest:
                total -= folder.names.size
                self._forget(other, folder)

    def _forget(self, ident: Ident, folder: "_WatchedFolder") -> None:
        if self._folders.get(ident) is not folder:
            return
        del self._folders[ident]
        del self._watched[folder.watch]
        if self._inotify is not None:
            self._inotify.unwatch(folder.watch)

    def _forget_all(self) -> None:
        self._folders.clear()
        self._watched.clear()
        if self._inotify is not None:
            self._inotify.close()
            self._inotify = None

    def _complain(self, error: OSError) -> None:
        if not self._has_complained:
            self._has_complained = True
            log.warning(
                "large folders are read anew for every page, since they cannot be watched (%s): "
                "see fs.inotify in docs/running.md",
                error.strerror,
            )


class _WatchedFolder:
    """A folder that is watched; hold `lock` to read or change `names`."""

    __slots__ = ("changed", "lock", "max_changes", "names", "used", "watch")

    def __init__(self, watch: int) -> None:
        self.watch = watch
        self.lock = threading.Lock()
        self.names = SortedNames()
        self.changed: set[str] = set()  # reported, and not looked at yet
        self.max_changes = _MAX_CHANGES  # until it is known how large the folder is
        self.used = time.monotonic()


def _ident(fd: int) -> Ident:
    status = os.fstat(fd)
    return status.st_dev, status.st_ino


def _look_at(folder_fd: int, names: set[str]) -> dict[str, bool]:
    """What stands under these names now, as a file and as a folder.

    Events tell that a name changed; what it changed to is asked of the folder. So their
    order does not matter, nor which ones the kernel has merged or an exchange reports twice.
    """
    found = {}
    for name in names:
        try:
            mode = os.stat(name, dir_fd=folder_fd, follow_symlinks=False).st_mode
        except FileNotFoundError:
            mode = 0
        found[name] = stat.S_ISREG(mode)
        found[f"{name}/"] = stat.S_ISDIR(mode)
    return found
