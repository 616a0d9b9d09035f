"""Listings in the byte order of whole keys, from folders that know no order.

A folder is compared as its name with a slash, since that is how the keys below
it begin: `a-b` < `a/b` < `a0`. From each folder the smallest names that the page
can need are picked, and folders are opened only when the page comes to them, so
memory is bounded by the page, and time by the folders that it shows.
"""

import errno
import heapq
import os
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from stillroom.paths import MAX_KEY_BYTES, KeyPrefix, is_segment
from stillroom.storage.disk.home import DataDirectory
from stillroom.storage.interface import ListQuery, Page

_SMALLEST_PICK: Final = 1024
_LARGEST_PICK: Final = 65_536
"""Names held at once for one folder; some 5 MiB of them."""


def list_page(home: DataDirectory, query: ListQuery) -> Page:
    """One page of keys, and of folders where the query folds.

    Raises:
        OSError: the filesystem failed; folders that vanish meanwhile do not count.
    """
    entries: list[str] = []
    for entry in _entries(home, query):
        if len(entries) == query.limit:
            return Page(entries, more=True)
        entries.append(entry)
    return Page(entries)


@dataclass(slots=True)
class _Folder:
    """A folder on the way through the tree, and what is still wanted of it."""

    path: str  # the key prefix of everything in it, with its slash
    begins: str = ""  # only names that begin with this
    chosen: deque[str] = field(default_factory=deque)
    behind: str = ""  # the last name taken; the next pick starts behind it
    picks: int = 0
    exhausted: bool = False


def _entries(home: DataDirectory, query: ListQuery) -> Iterator[str]:
    """All entries of a query in order, found as they are asked for."""
    path, _, begins = query.prefix.text.rpartition("/")
    ways = [_Folder(f"{path}/", begins)]
    while ways:
        folder = ways[-1]
        if not folder.chosen:
            if folder.exhausted:
                ways.pop()
                continue
            _choose(home, folder, query.after, query.limit + 1)
            continue
        name = folder.chosen.popleft()
        key = folder.path + name
        if len(key.encode()) > MAX_KEY_BYTES:
            continue  # nobody could ask for it by that name
        if not name.endswith("/"):
            yield key
        elif not query.fold:
            ways.append(_Folder(key))
        elif key != query.after and _holds_image(home, key, query.after):
            yield key


def _choose(home: DataDirectory, folder: _Folder, after: str, count: int) -> None:
    """Fill a folder's queue with its next names in key order, `count` or more of them.

    Names may yield nothing (a folder may be empty), and each pick reads the whole folder:
    so picks start large and double, up to a bound that keeps memory flat.
    """
    count = max(count, min(_SMALLEST_PICK << folder.picks, _LARGEST_PICK))
    folder.picks += 1
    names = _names(home, folder.path)
    wanted = (
        name
        for name in names
        if name > folder.behind
        and name.startswith(folder.begins)
        and _reaches_behind(folder.path + name, after)
        and is_segment(name.rstrip("/"))
    )
    chosen = heapq.nsmallest(count, wanted)
    folder.chosen.extend(chosen)
    folder.exhausted = len(chosen) < count
    if chosen:
        folder.behind = chosen[-1]


def _reaches_behind(key: str, after: str) -> bool:
    """Whether the key, or anything below it if it is a folder's, comes after `after`."""
    return key > after or (key.endswith("/") and after.startswith(key))


def _names(home: DataDirectory, path: str) -> Iterator[str]:
    """Files and folders right in a folder, folders with a slash; links and devices left out."""
    try:
        fd = home.open_beneath(home.fd, path.rstrip("/"), os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            return  # it went away, or something else took its place
        raise
    try:
        with os.scandir(fd) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    yield entry.name + "/"
                elif entry.is_file(follow_symlinks=False):
                    yield entry.name
    finally:
        os.close(fd)


def _holds_image(home: DataDirectory, path: str, after: str) -> bool:
    """Whether a key behind `after` begins with this folder's path."""
    everything_below = ListQuery(KeyPrefix(path), after=after, limit=1)
    return next(_entries(home, everything_below), None) is not None
