"""Cache of the sorted names in large folders, kept up to date by inotify (docs/adr/0010).

inotify watches a folder before its names are read. Before each page of a listing, the names in the
queued events are looked up again. So the page reflects all earlier changes by any process on the
machine. On filesystems for which inotify does not report all changes, nothing is cached.
"""

import contextlib
import logging
import os
import stat
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

from stillroom.speed.disk.inotify import IN_IGNORED, IN_Q_OVERFLOW, Inotify, reports_all_changes
from stillroom.speed.disk.sorted_names import SortedNames
from stillroom.store.disk.listing import FolderNames

_MAX_FOLDERS: Final = 1024  # a watch uses about a kilobyte of kernel memory
_MAX_CHANGES: Final = 16_384  # with more changed names, reading the folder again is cheaper
_LEAST_CHANGES: Final = 64
_BYTES_FOR_A_CHANGE: Final = 256  # a folder may have one change per 256 bytes of its names
_FORGOTTEN_AFTER_S: Final = 600.0  # after its last listing, a folder is not watched any more

Ident = tuple[int, int]  # device and inode, which identify a folder even if it is moved

log = logging.getLogger("stillroom.disk")


class FolderCache(FolderNames):
    """Cache of the sorted names in large folders, of at most `max_bytes`. Thread-safe."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._lock = threading.Lock()  # for all fields below; not locked while reading
        self._inotify: Inotify | None = None
        # The most recently used folder is last.
        self._folders: OrderedDict[Ident, _WatchedFolder] = OrderedDict()
        self._watched: dict[int, Ident] = {}
        self._unsorted: deque[tuple[Ident, _WatchedFolder]] = deque()
        self._has_warned = False

    def names_from(self, fd: int, start: str, count: int) -> list[str] | None:
        """Return names from the cache after updating it, or None if the folder is not cached."""
        ident = _ident(fd)
        folder = self._folders.get(ident)
        if folder is None:
            return None
        with self._lock_folder(ident, folder):
            with self._lock:
                self._read_events()
                if self._folders.get(ident) is not folder:
                    return None
                folder.used = time.monotonic()
                self._folders.move_to_end(ident)
                changed, folder.changed = folder.changed, set()
            if changed:
                folder.names.update(_read_states(fd, changed))
                with self._lock:
                    self._evict(ident, folder)
            return folder.names.names_from(start, count)

    @contextlib.contextmanager
    def reading(self, fd: int) -> Iterator[Callable[[list[str]], None] | None]:
        """Context manager: watch an open folder while the caller reads it, and cache its names.

        The value after `as` is a function that adds names, or None if the folder cannot be cached.
        """
        ident = _ident(fd)
        folder = self._start_watching(fd, ident)
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
                self._evict(ident, folder)
            self._unsorted.append((ident, folder))
        finally:
            folder.lock.release()

    @property
    def is_sorted(self) -> bool:
        """True if all cached names are sorted, so that `sort` has nothing to do."""
        return not self._unsorted

    def sort(self) -> None:
        """Sort all cached names, so that the next page of a listing is faster."""
        while self._unsorted:
            with contextlib.suppress(IndexError):  # another thread sorts them
                ident, folder = self._unsorted.popleft()
                with self._lock_folder(ident, folder):
                    folder.names.sort()

    def close(self) -> None:
        """Drop all cached names and watches."""
        with self._lock:
            self._forget_all()

    def _start_watching(self, fd: int, ident: Ident) -> "_WatchedFolder | None":
        with self._lock:
            if not self._max_bytes or ident in self._folders:
                return None
            try:
                if not reports_all_changes(fd):
                    return None
                if self._inotify is None:
                    self._inotify = Inotify()
                watch = self._inotify.watch(fd)
            except OSError as error:
                if not self._has_warned:
                    self._has_warned = True
                    log.warning(
                        "large folders are read again for every page, since they cannot be watched "
                        "(%s): see fs.inotify in docs/running.md",
                        error.strerror,
                    )
                return None
            folder = _WatchedFolder(watch)
            folder.lock.acquire()
            self._folders[ident] = folder
            self._watched[watch] = ident
            return folder

    @contextlib.contextmanager
    def _lock_folder(self, ident: Ident, folder: "_WatchedFolder") -> Iterator[None]:
        """Lock a cached folder. If the block fails, drop the folder's names: they may be wrong."""
        with folder.lock:
            try:
                yield
            except BaseException:
                with self._lock:
                    self._forget(ident, folder)
                raise

    # Called with the lock held -----------------------------------------------------------

    def _read_events(self) -> None:
        if self._inotify is None:
            return
        for watch, mask, name in self._inotify.events():
            if mask & IN_Q_OVERFLOW:
                self._forget_all()
                return
            ident = self._watched.get(watch)
            folder = self._folders.get(ident) if ident is not None else None
            if ident is None or folder is None:
                continue  # the event was queued before the watch was removed
            folder.changed.add(name)
            if mask & IN_IGNORED or len(folder.changed) > folder.max_changes:
                self._forget(ident, folder)

    def _evict(self, ident: Ident, latest: "_WatchedFolder") -> None:
        if latest.names.size > self._max_bytes:
            self._forget(ident, latest)
        max_changes = max(_LEAST_CHANGES, latest.names.size // _BYTES_FOR_A_CHANGE)
        latest.max_changes = min(max_changes, _MAX_CHANGES)
        old = time.monotonic() - _FORGOTTEN_AFTER_S
        total = sum(folder.names.size for folder in self._folders.values())
        for other, folder in list(self._folders.items()):
            fits = total <= self._max_bytes and len(self._folders) <= _MAX_FOLDERS
            if fits and folder.used > old:
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


@dataclass(slots=True, eq=False)
class _WatchedFolder:
    watch: int
    lock: threading.Lock = field(default_factory=threading.Lock)  # protects `names`
    names: SortedNames = field(default_factory=SortedNames)
    changed: set[str] = field(default_factory=set)  # names to look up
    max_changes: int = _MAX_CHANGES  # until the size of the folder is known
    used: float = field(default_factory=time.monotonic)


def _ident(fd: int) -> Ident:
    status = os.fstat(fd)
    return status.st_dev, status.st_ino


def _read_states(folder_fd: int, names: set[str]) -> dict[str, bool]:
    """Map each name to whether it is now a file, and `name/` to whether it is now a folder."""
    states = {}
    for name in names:
        try:
            mode = os.stat(name, dir_fd=folder_fd, follow_symlinks=False).st_mode
        except FileNotFoundError:
            mode = 0
        states[name] = stat.S_ISREG(mode)
        states[f"{name}/"] = stat.S_ISDIR(mode)
    return states
