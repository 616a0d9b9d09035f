"""Cache for the metadata of files, a fast check for changes, and reads from the page cache.

The check calls statx(2), which writes the inode, the size and the times of a file into one buffer.
The buffer is compared as a whole, since `os.stat` would create 20 objects.
"""

import ctypes
import os
import struct
import time
from typing import Final

from stillroom.bounded_cache import BoundedCache
from stillroom.paths import StorageKey
from stillroom.store.disk.image import read_facts
from stillroom.store.disk.openat2 import release, try_open
from stillroom.store.values import StoredImage, Version

_MAX_FACTS: Final = 32_768  # about 32 MiB

_SETTLED_NS: Final = 2 * 10**9
"""Metadata of a file is cached only after this time without a change. Two changes within one tick
of the filesystem's clock (10 ms, but 2 s on FAT) have the same modification time."""

_STATX_BYTES: Final = 256
_INODE_AND_SIZE: Final = 32
_TIMES_AND_DEVICE: Final = 96
_STAMP: Final = struct.Struct("=QQqI4xqI4x8xII")
# The layout and these numbers are from linux/stat.h and linux/fcntl.h.
_MASK: Final = ctypes.c_uint(0x100 | 0x200 | 0x40 | 0x80)  # STATX_INO, SIZE, MTIME and CTIME
_NO_LINK: Final = ctypes.c_int(0x100 | 0x800)  # AT_SYMLINK_NOFOLLOW, AT_NO_AUTOMOUNT
_DESCRIPTOR: Final = ctypes.c_int(0x1000)  # AT_EMPTY_PATH

_statx = getattr(ctypes.CDLL(None), "statx", lambda *_: -1)  # glibc 2.28, musl 1.2


def version_of(key: StorageKey, status: os.stat_result) -> Version:
    """Return the version of a file: its key, inode, size, change times and device, as bytes."""
    changed, modified = (divmod(ns, 10**9) for ns in (status.st_ctime_ns, status.st_mtime_ns))
    device = os.major(status.st_dev), os.minor(status.st_dev)
    stamp = _STAMP.pack(status.st_ino, status.st_size, *changed, *modified, *device)
    return key.text.encode("utf-8", "surrogateescape"), stamp


class RecentFacts:
    """Cache for the metadata of files. An entry is valid until the version of its file changes."""

    def __init__(self, folder_fd: int) -> None:
        self._device = os.fstat(folder_fd).st_dev
        self._facts: BoundedCache[str, StoredImage] = BoundedCache(_MAX_FACTS)

    def describe_file(
        self, key: StorageKey, fd: int, known: StoredImage | None = None
    ) -> StoredImage:
        """Return an open file's metadata. Reuse `known` if it is current. May raise OSError."""
        status = os.fstat(fd)
        version = version_of(key, status)
        for image in (known, self._facts.get(key.text)):
            if image is not None and image.version == version:
                return image
        is_settled = time.time_ns() - status.st_ctime_ns > _SETTLED_NS
        if not is_settled or status.st_dev != self._device:
            return read_facts(key, fd, status)
        image = read_facts(key, fd, status, version)
        self._facts.put(key.text, image)
        return image


class KnownFiles:
    """Fast checks and reads of files in one folder. Not thread-safe: all calls use one buffer."""

    def __init__(self, folder_fd: int, flags: int) -> None:
        self._folder_fd = folder_fd
        self._folder = ctypes.c_int(folder_fd)
        self._flags = flags
        status = ctypes.create_string_buffer(_STATX_BYTES)
        self._status = ctypes.byref(status)
        self._file = (ctypes.c_char * 16).from_buffer(status, _INODE_AND_SIZE)
        self._rest = (ctypes.c_char * 48).from_buffer(status, _TIMES_AND_DEVICE)

    def is_current(self, image: StoredImage) -> bool:
        """Return whether the file at the image's path is still the version `image`."""
        if image.version is None:
            return False
        name, stamp = image.version
        if _statx(self._folder, name, _NO_LINK, _MASK, self._status):
            return False
        return self._file.raw + self._rest.raw == stamp

    def read_now(self, image: StoredImage, start: int, into: memoryview) -> bool:
        """Fill a buffer from the page cache. Return False if that fails, or if the file changed."""
        if image.version is None:
            return False
        name, stamp = image.version
        fd = try_open(self._folder_fd, name, self._flags)
        if fd < 0:
            return False
        try:
            if os.preadv(fd, [into], start, os.RWF_NOWAIT) != len(into):
                return False
        except OSError:  # EAGAIN: not in the cache; EOPNOTSUPP: not supported by the filesystem
            return False
        else:  # checked after reading, since users can also edit files directly
            failed = _statx(fd, b"", _DESCRIPTOR, _MASK, self._status)
            return not failed and self._file.raw + self._rest.raw == stamp
        finally:
            release(fd)
