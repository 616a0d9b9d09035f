"""Listings in the byte order of whole keys. The filesystem returns names in arbitrary order.

The keys in a folder begin with its name and a slash, so folders are sorted with the slash: `a-b` <
`a/b` < `a0`. A folder is read only when a page reaches it, and only the smallest names that the
page may need are selected. So memory use depends on the page size, not on the folder.
"""

import contextlib
import errno
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

from stillroom.paths import MAX_KEY_BYTES, RESERVED_NAMES, KeyPrefix, is_listed, is_reserved
from stillroom.store.disk.data_directory import DataDirectory, translate_os_errors
from stillroom.store.disk.openat2 import closing
from stillroom.store.values import ListQuery, Page

_SMALLEST_PICK: Final = 1024  # minimum number of names selected from a folder at once
_LARGEST_PICK: Final = 65_536  # the maximum; about 5 MiB
_SMALL_FOLDER: Final = 512  # number of names; below this, reading is faster than caching
_READ_TOGETHER: Final = 16_384  # names of a large folder, about 1.3 MiB
_AFTER_ALL_NAMES: Final = "\U0010ffff"  # a noncharacter, with which no valid name begins
_FOLDERS_SEARCHED: Final = 1024  # for any image; then a slower search needs less memory


class FolderNames:
    """Cache for the sorted names in large folders. This base class caches nothing."""

    def names_from(self, fd: int, start: str, count: int) -> list[str] | None:
        """Return sorted names from `start` (inclusive) on: at least `count`, unless fewer remain.

        Returns None if the folder is not cached.
        """
        del fd, start, count
        return None

    def reading(
        self, fd: int
    ) -> contextlib.AbstractContextManager[Callable[[list[str]], None] | None]:
        """Context manager: cache the names of a folder while the caller reads all of it.

        Yields a function to call with each batch of names; None if the folder cannot be cached.
        """
        del fd
        return contextlib.nullcontext()


NO_CACHE: Final = FolderNames()


@translate_os_errors()
def list_page(
    data_directory: DataDirectory, query: ListQuery, folder_names: FolderNames = NO_CACHE
) -> Page:
    """List one page of keys. Skip folders that are deleted during the call."""
    entries: list[str] = []
    for entry in list_entries(data_directory, query, folder_names):
        if len(entries) == query.limit:
            return Page(entries, more=True)
        entries.append(entry)
    return Page(entries)


@dataclass(slots=True)
class _PendingFolder:
    path: str  # the key prefix of the folder, with a slash at the end
    start: str | None  # the next name to list; None if there are no more
    begins: str = ""  # list only names that begin with this text
    chosen: deque[str] = field(default_factory=deque)
    picks: int = 0


def list_entries(
    data_directory: DataDirectory, query: ListQuery, folder_names: FolderNames
) -> Iterator[str]:
    """Yield all entries of a query in order, ignoring its limit. Reads folders on demand."""
    path, _, begins = query.prefix.text.rpartition("/")
    pending = [_PendingFolder(f"{path}/", _start(f"{path}/", query.after), begins)]
    while pending:
        folder = pending[-1]
        if not folder.chosen:
            if folder.start is None:
                pending.pop()
                continue
            _choose(data_directory, folder, query.limit + 1, folder_names)
            continue
        name = folder.chosen.popleft()
        key = folder.path + name
        if len(key.encode()) > MAX_KEY_BYTES:
            continue  # not a valid key
        if name in RESERVED_NAMES and not (query.reserved and is_reserved(key)):
            continue
        if not name.endswith("/"):
            yield key
        elif not query.delimited:
            pending.append(_PendingFolder(key, _start(key, query.after)))
        elif key != query.after and _contains_image(data_directory, key, query.after, folder_names):
            yield key


def _start(path: str, after: str) -> str | None:
    """Return the least name in the folder `path` that may have keys after `after`, or None."""
    if not after.startswith(path):
        return "" if after < path else None
    name, slash, _ = after.removeprefix(path).partition("/")
    return name + slash if slash else name + "\0"


def _choose(
    data_directory: DataDirectory, folder: _PendingFolder, count: int, folder_names: FolderNames
) -> None:
    """Queue at least `count` of a folder's next names, in key order.

    Calls read the whole folder if it is not cached, so each selects twice as many as the previous.
    """
    count = max(count, min(_SMALLEST_PICK << folder.picks, _LARGEST_PICK))
    folder.picks += 1
    start = max(folder.start or "", folder.begins)
    fd = _open(data_directory, folder.path)
    if fd is None:
        folder.start = None
        return
    with closing(fd):
        chosen = folder_names.names_from(fd, start, count)
        if chosen is None:
            chosen = _pick(fd, folder, start, count, folder_names)
    folder.start = chosen[-1] + "\0" if len(chosen) >= count else None
    if folder.begins:
        matching = [name for name in chosen if name.startswith(folder.begins)]
        if len(matching) < len(chosen):
            folder.start = None
        chosen = matching
    folder.chosen.extend(chosen)


def _pick(
    fd: int, folder: _PendingFolder, start: str, count: int, folder_names: FolderNames
) -> list[str]:
    if folder.picks == 1:
        with os.scandir(fd) as entries:
            few = list(islice(_names(entries), _SMALL_FOLDER))
        if len(few) < _SMALL_FOLDER:
            return sorted(_select(few, start, folder.begins))[:count]
    least: list[str] = []
    below = _AFTER_ALL_NAMES
    with folder_names.reading(fd) as keep, os.scandir(fd) as entries:
        names = _names(entries)
        while batch := list(islice(names, _READ_TOGETHER)):
            if keep is not None:
                keep(batch)
            smaller = (name for name in batch if start <= name < below)
            least = sorted([*least, *_select(smaller, start, folder.begins)])[:count]
            if len(least) == count:
                below = least[-1]
    return least


def _select(names: Iterable[str], start: str, begins: str) -> Iterator[str]:
    return (name for name in names if name >= start and name.startswith(begins) and is_listed(name))


def _open(data_directory: DataDirectory, path: str) -> int | None:
    try:
        return data_directory.open_folder(path.rstrip("/"))
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            return None
        raise


def _names(entries: Iterable[os.DirEntry[str]]) -> Iterator[str]:
    for entry in entries:
        if entry.is_file(follow_symlinks=False):
            yield entry.name
        elif entry.is_dir(follow_symlinks=False):
            yield entry.name + "/"


def _contains_image(
    data_directory: DataDirectory, path: str, after: str, folder_names: FolderNames
) -> bool:
    """Return whether a folder contains a key, even a reserved one, that sorts after `after`."""
    if not after.startswith(path):  # then any image in the folder is sufficient
        has_image = _search_image(data_directory, path)
        if has_image is not None:
            return has_image
    everything_below = ListQuery(KeyPrefix(path), after=after, limit=1, reserved=True)
    return next(list_entries(data_directory, everything_below, folder_names), None) is not None


def _search_image(data_directory: DataDirectory, path: str) -> bool | None:
    """Return whether a folder contains any key, or None if that is unknown after a long search."""
    waiting = [path]
    for _ in range(_FOLDERS_SEARCHED):
        if not waiting:
            return False
        folder = waiting.pop()
        fd = _open(data_directory, folder)
        if fd is None:
            continue
        with closing(fd), os.scandir(fd) as entries:
            for name in _select(_names(entries), "", ""):
                key = folder + name
                if len(key.encode()) > MAX_KEY_BYTES:
                    continue
                if not name.endswith("/"):
                    return True
                if len(waiting) == _FOLDERS_SEARCHED:
                    return None
                waiting.append(key)
    return None
