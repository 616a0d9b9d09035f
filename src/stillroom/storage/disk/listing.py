"""Listings in the byte order of whole keys, from folders that know no order.

A folder is compared as its name with a slash, since that is how the keys below
it begin: `a-b` < `a/b` < `a0`. From each folder the smallest names that the page
can need are picked, and folders are opened only when the page comes to them, so
memory is bounded by the page, and time by the folders that it shows. Large
folders are cached in order (`folder_cache.py`), and need not be read again.
"""

import errno
import os
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

from stillroom.paths import MANIFEST_NAME, MAX_KEY_BYTES, KeyPrefix, is_listed, is_manifest
from stillroom.storage.disk.data_directory import DataDirectory
from stillroom.storage.disk.folder_cache import FolderCache
from stillroom.storage.values import ListQuery, Page

_SMALLEST_PICK: Final = 1024
_LARGEST_PICK: Final = 65_536
"""Names held at once for one folder; some 5 MiB of them."""

_SMALL_FOLDER: Final = 512
"""Names; reading so many costs less than watching them."""

_READ_TOGETHER: Final = 16_384
"""Names of a large folder; some 1.3 MiB of them."""

_BEHIND_ALL_NAMES: Final = "\U0010ffff"  # a noncharacter: no name that is listed begins with it

_FOLDERS_LOOKED_INTO: Final = 1024
"""In search of any image at all, before it is done in an order that needs little memory."""


def list_page(
    data_directory: DataDirectory, query: ListQuery, folder_cache: FolderCache | None = None
) -> Page:
    """List one page of keys, and of folders if the query has a delimiter.

    Args:
        data_directory: Where the folders are.
        query: What is asked for.
        folder_cache: What is known of large folders from earlier pages; this one adds to it.

    Raises:
        OSError: the filesystem failed; folders that vanish meanwhile do not count.
    """
    entries: list[str] = []
    for entry in list_entries(data_directory, query, folder_cache or FolderCache(0)):
        if len(entries) == query.limit:
            return Page(entries, more=True)
        entries.append(entry)
    return Page(entries)


@dataclass(slots=True)
class _PendingFolder:
    """A folder of the tree walk, and which of its names are still to be listed."""

    path: str  # the key prefix of everything in it, with its slash
    start: str | None  # the first name that is wanted; None if no more are
    begins: str = ""  # only names that begin with this
    chosen: deque[str] = field(default_factory=deque)
    picks: int = 0


def list_entries(
    data_directory: DataDirectory, query: ListQuery, folder_cache: FolderCache
) -> Iterator[str]:
    """All entries of a query in order, found as they are asked for; its limit does not end them.

    Raises:
        OSError: the filesystem failed.
    """
    path, _, begins = query.prefix.text.rpartition("/")
    ways = [_PendingFolder(f"{path}/", _start(f"{path}/", query.after), begins)]
    while ways:
        folder = ways[-1]
        if not folder.chosen:
            if folder.start is None:
                ways.pop()
                continue
            _choose(data_directory, folder, query.limit + 1, folder_cache)
            continue
        name = folder.chosen.popleft()
        key = folder.path + name
        if len(key.encode()) > MAX_KEY_BYTES:
            continue  # no request could name it
        if name == MANIFEST_NAME and not (query.manifests and is_manifest(key)):
            continue
        if not name.endswith("/"):
            yield key
        elif not query.delimited:
            ways.append(_PendingFolder(key, _start(key, query.after)))
        elif key != query.after and _holds_image(data_directory, key, query.after, folder_cache):
            yield key


def _start(path: str, after: str) -> str | None:
    """The least name in a folder whose key, or a key below it, can come behind `after`."""
    if not after.startswith(path):
        return "" if after < path else None
    name, slash, _ = after.removeprefix(path).partition("/")
    return name + slash if slash else name + "\0"


def _choose(
    data_directory: DataDirectory, folder: _PendingFolder, count: int, folder_cache: FolderCache
) -> None:
    """Fill a folder's queue with its next names in key order, `count` or more of them.

    Names may yield nothing (a folder may be empty), and a pick may read the whole folder:
    so picks start large and double, up to a bound that keeps memory flat.
    """
    count = max(count, min(_SMALLEST_PICK << folder.picks, _LARGEST_PICK))
    folder.picks += 1
    start = max(folder.start or "", folder.begins)
    fd = _open(data_directory, folder.path)
    if fd is None:
        folder.start = None
        return
    try:
        chosen = folder_cache.names_from(fd, start, count)
        if chosen is None:
            chosen = _pick(fd, folder, start, count, folder_cache)
    finally:
        os.close(fd)
    folder.start = chosen[-1] + "\0" if len(chosen) >= count else None
    if folder.begins:
        wanted = [name for name in chosen if name.startswith(folder.begins)]
        if len(wanted) < len(chosen):
            folder.start = None
        chosen = wanted
    folder.chosen.extend(chosen)


def _pick(
    fd: int, folder: _PendingFolder, start: str, count: int, folder_cache: FolderCache
) -> list[str]:
    """The `count` least names from `start` on, in order, of an open folder that is read for it."""
    if folder.picks == 1:
        with os.scandir(fd) as entries:
            few = list(islice(_names(entries), _SMALL_FOLDER))
        if len(few) < _SMALL_FOLDER:
            return sorted(_wanted(few, start, folder.begins))[:count]
    least: list[str] = []
    below = _BEHIND_ALL_NAMES
    with folder_cache.reading(fd) as keep, os.scandir(fd) as entries:
        names = _names(entries)
        while some := list(islice(names, _READ_TOGETHER)):
            if keep is not None:
                keep(some)
            found = (name for name in some if start <= name < below)
            least = sorted([*least, *_wanted(found, start, folder.begins)])[:count]
            if len(least) == count:
                below = least[-1]
    return least


def _wanted(names: Iterable[str], start: str, begins: str) -> Iterator[str]:
    return (name for name in names if name >= start and name.startswith(begins) and is_listed(name))


def _open(data_directory: DataDirectory, path: str) -> int | None:
    """A folder's descriptor; None if it went away, or something else took its place."""
    try:
        return data_directory.open_contained(
            data_directory.fd, path.rstrip("/"), os.O_RDONLY | os.O_DIRECTORY
        )
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            return None
        raise


def _names(entries: Iterable[os.DirEntry[str]]) -> Iterator[str]:
    """Files, and folders with a slash; links and devices left out."""
    for entry in entries:
        if entry.is_file(follow_symlinks=False):
            yield entry.name
        elif entry.is_dir(follow_symlinks=False):
            yield entry.name + "/"


def _holds_image(
    data_directory: DataDirectory, path: str, after: str, folder_cache: FolderCache
) -> bool:
    """Whether a key behind `after` begins with this folder's path; of a manifest, too."""
    if not after.startswith(path):  # then any image will do, and the first one ends the search
        found = _finds_image(data_directory, path)
        if found is not None:
            return found
    everything_below = ListQuery(KeyPrefix(path), after=after, limit=1, manifests=True)
    return next(list_entries(data_directory, everything_below, folder_cache), None) is not None


def _finds_image(data_directory: DataDirectory, path: str) -> bool | None:
    """Whether any key begins with this folder's path; None if too many folders lie below."""
    waiting = [path]
    for _ in range(_FOLDERS_LOOKED_INTO):
        if not waiting:
            return False
        folder = waiting.pop()
        fd = _open(data_directory, folder)
        if fd is None:
            continue
        try:
            with os.scandir(fd) as entries:
                for name in _wanted(_names(entries), "", ""):
                    key = folder + name
                    if len(key.encode()) > MAX_KEY_BYTES:
                        continue
                    if not name.endswith("/"):
                        return True
                    if len(waiting) == _FOLDERS_LOOKED_INTO:
                        return None
                    waiting.append(key)
        finally:
            os.close(fd)
    return None
