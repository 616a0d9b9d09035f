"""One image file: its facts, and its bytes from a single opened descriptor."""

import errno
import logging
import os
import stat
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final

from stillroom.bounded_cache import BoundedCache
from stillroom.errors import BackendUnavailable, ImageNotFound
from stillroom.paths import StorageKey
from stillroom.storage import content_type
from stillroom.storage.disk.attributes import Attributes
from stillroom.storage.disk.data_directory import translated
from stillroom.storage.disk.known_files import Version, version_of
from stillroom.storage.disk.openat2 import release
from stillroom.storage.values import StoredImage

_READ_BYTES: Final = 256 * 1024
"""Read in one go; larger reads only make the process larger."""

_MAX_FACTS: Final = 16_384
"""Files whose facts are remembered; some 16 MiB."""

_SETTLED_NS: Final = 2 * 10**9
"""Two changes within one tick of the filesystem's clock (10 ms at most; two seconds on the
coarsest, FAT) look like one, so what was read so soon after a change is not sure."""

ReadInThread = Callable[[Callable[[int, int], bytes], int, int], Awaitable[bytes]]
"""Runs a blocking read where it does not block the event loop."""

log = logging.getLogger("stillroom.disk")


class DiskImage:
    """An open image file; a `LocalImage`."""

    __slots__ = ("_run", "fd", "image")

    def __init__(self, fd: int, image: StoredImage, run: ReadInThread) -> None:
        self.fd = fd
        self.image = image
        self._run = run

    async def chunks(self, start: int, length: int) -> AsyncIterator[bytes]:
        """Read the bytes from `start` on, in pieces; see `LocalImage.chunks`."""
        end = start + length
        while start < end:
            size = min(end - start, _READ_BYTES)
            chunk = self._read_cached(start, size)
            if chunk is None:
                chunk = await self._run(self._read, start, size)
            if not chunk:
                raise BackendUnavailable("the file became shorter while it was read")
            start += len(chunk)
            yield chunk

    def _read_cached(self, start: int, size: int) -> bytes | None:
        """Read from the page cache without waiting for the disk; None if it holds nothing."""
        buffer = bytearray(size)
        try:
            count = os.preadv(self.fd, [buffer], start, os.RWF_NOWAIT)
        except OSError:  # EAGAIN: not in the cache; EOPNOTSUPP: this filesystem cannot tell
            return None
        return bytes(memoryview(buffer)[:count]) if count else None

    def _read(self, start: int, size: int) -> bytes:
        with translated():
            return os.pread(self.fd, size, start)

    def take_facts(self) -> StoredImage:
        """Close the file and keep what is known of it."""
        self.close()
        return self.image

    def fileno(self) -> int:
        """The file descriptor."""
        return self.fd

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            release(fd)


class RecentFacts:
    """A cache of the facts of recently opened files.

    Reading them from a file costs more than opening it. A file of the same version has the same
    content, as far as a filesystem can tell.
    """

    def __init__(self, folder_fd: int) -> None:
        """Begin with an empty cache for the files below a folder."""
        self._device = os.fstat(folder_fd).st_dev
        self._facts: BoundedCache[str, StoredImage] = BoundedCache(_MAX_FACTS)

    def describe_file(
        self, key: StorageKey, fd: int, known: StoredImage | None = None
    ) -> StoredImage:
        """The facts of an open file; `known` itself, if it is of this very file, unchanged.

        Raises:
            OSError: ENXIO for what is no regular file.
        """
        status = os.fstat(fd)
        version = version_of(key, status)
        for found in (known, self._facts.get(key.text)):
            if found is not None and found.version == version:
                return found
        is_settled = time.time_ns() - status.st_ctime_ns > _SETTLED_NS
        if not is_settled or status.st_dev != self._device:
            return _describe_file(key, fd, status, None)
        image = _describe_file(key, fd, status, version)
        self._facts.put(key.text, image)
        return image


def _describe_file(
    key: StorageKey, fd: int, status: os.stat_result, version: Version | None
) -> StoredImage:
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.ENXIO, os.strerror(errno.ENXIO))
    known = Attributes.read(fd, status.st_mtime_ns)
    if known is not None:
        return describe(key, status, known.content_type, known.sha256, version)
    start = os.pread(fd, content_type.SNIFFED_BYTES, 0)
    return describe(key, status, content_type.of(start), None, version)


def describe(
    key: StorageKey,
    status: os.stat_result,
    kind: str,
    sha256: bytes | None,
    version: Version | None = None,
) -> StoredImage:
    """The facts of a file with this status, whose content is known."""
    return StoredImage(
        key=key,
        size=status.st_size,
        etag=etag_of(status),
        modified_ns=status.st_mtime_ns,
        content_type=kind,
        sha256=sha256,
        save_id=save_id_of(status),
        version=version,
    )


def etag_at(folder_fd: int, name: str) -> str | None:
    """The ETag of the image under a name in a folder; None where there is none."""
    status = status_at(folder_fd, name)
    return None if status is None else etag_of(status)


def status_at(folder_fd: int, name: str) -> os.stat_result | None:
    """The status of the image under a name in a folder; None where there is none."""
    try:
        status = os.stat(name, dir_fd=folder_fd, follow_symlinks=False)
    except FileNotFoundError:
        return None
    if stat.S_ISREG(status.st_mode):
        return status
    if not stat.S_ISDIR(status.st_mode):
        warn_of_link(name)
    return None


def etag_of(status: os.stat_result) -> str:
    """Differs after every save: inode and time are never both the same again."""
    return f'"{status.st_mtime_ns:x}-{status.st_size:x}-{status.st_ino:x}"'


def save_id_of(status: os.stat_result) -> str:
    """The save id of a file: its inode and time, of which another save shares one at most."""
    return f"{status.st_ino:x}-{status.st_mtime_ns:x}"


def warn_of_link(where: str) -> None:
    """Log a symbolic link that was met in a path; clients get an ordinary 404 or 409."""
    log.warning("security: a link or device stands in the data directory at %r", where)


def error_of_open(key: StorageKey, error: OSError) -> Exception:
    """Translate a failed open into the port's error: not found, or the disk is unavailable."""
    if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ENXIO):
        return ImageNotFound()
    if error.errno in (errno.ELOOP, errno.EXDEV):
        warn_of_link(key.text)
        return ImageNotFound()
    return BackendUnavailable(f"the disk refused: {os.strerror(error.errno or 0)}")
