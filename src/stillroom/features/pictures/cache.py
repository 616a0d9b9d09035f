"""Thumbnail cache of limited size: small files in a folder that all server processes share.

.stillroom/derived/
    ab/ab12…         a thumbnail, named by a hash of its original, its parameters and the encoder
    lock             total size of all thumbnails (8 bytes); processes lock ranges of this file

A file gets its name only after fsync, so it is complete or absent, even after a power failure. The
access time of a file is the time of its last use. If the cache is full, the least recently used
files are evicted. An error of the cache never makes a request fail.
"""

import asyncio
import contextlib
import errno
import fcntl
import logging
import os
import secrets
import struct
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from stillroom.errors import BackendUnavailable
from stillroom.store.values import StoredImage

_FILE_MODE: Final = 0o640
_FOLDER_MODE: Final = 0o750
_BLOCK_BYTES: Final = 4096  # block size of filesystems: minimum size of a thumbnail on disk
_LARGEST_SHARE: Final = 8  # one thumbnail may use an eighth of the cache
_FILL_AFTER_EVICTION: Final = 7 / 8  # so that the next additions do not evict
_ACCESS_TIME_S: Final = 60  # seconds between updates of a file's access time
_READ_BYTES: Final = 256 * 1024
_DRAFT_S: Final = 3600
_DRAFT: Final = "draft-"

_COUNT_BYTES: Final = 8
# Struct flock with the pid 0: https://man7.org/linux/man-pages/man2/fcntl_locking.2.html
_FLOCK: Final = struct.Struct("hhqqi0q")

log = logging.getLogger("stillroom.derived")


@dataclass(frozen=True, slots=True)
class DerivedConfig:
    """Settings for making and caching thumbnails."""

    folder: Path  # folder of the cache; no other store may use it
    cache_bytes: int = 1024**3  # maximum total size of the cache; 0 disables it
    min_free_bytes: int = 256 * 1024**2  # with less free disk space, nothing is cached
    durable: bool = True  # False: no fsync, so that a power failure may damage cached files
    processes: int = 2  # number of decoding processes, each of which decodes one image at a time
    max_pixels: int = 100_000_000  # larger images are not decoded
    transformations_url: str | None = None  # URL of the CDN that makes thumbnails, if there is one


class DerivedCache:
    """Cache of thumbnails by name. Its folder is created on first use."""

    def __init__(self, config: DerivedConfig) -> None:
        self._config = config
        self._counted = False
        self._warned = False

    def open(self, name: str) -> int | None:
        """Return a file descriptor for reading a thumbnail, or None if it is not cached."""
        if not self._config.cache_bytes:
            return None
        try:
            fd = os.open(self._path(name), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError as error:
            if not isinstance(error, FileNotFoundError):
                self._warn(error)
            return None
        with contextlib.suppress(OSError):
            status = os.fstat(fd)
            if time.time() - status.st_atime > _ACCESS_TIME_S:
                os.utime(fd, ns=(time.time_ns(), status.st_mtime_ns))
        return fd

    def try_lock(self, source: str) -> int | None:
        """Try to lock an original, so that no other process makes thumbnails from it.

        `source` is a hash of the original. Closing the returned file descriptor releases the lock.
        Return None if another process has the lock. Raises OSError if the folder cannot be used.
        """
        # Lock a byte after the counter. Originals with the same first 60 bits share a lock.
        start = _BLOCK_BYTES + int(source[:15], 16)
        with contextlib.ExitStack() as closing:
            closing.callback(os.close, fd := self._open_lock())
            with contextlib.suppress(BlockingIOError, PermissionError):  # another process has it
                fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _range(start, 1))
                closing.pop_all()
                return fd
        return None

    def add(self, name: str, picture: bytes) -> None:
        """Add a thumbnail to the cache, and evict others first if needed. Does disk I/O."""
        if _blocks(len(picture)) > self._config.cache_bytes // _LARGEST_SHARE:
            return
        try:
            path = os.path.dirname(self._path(name))
            os.makedirs(path, _FOLDER_MODE, exist_ok=True)
            folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                self._write(folder, name, picture)
            finally:
                os.close(folder)
        except OSError as error:
            self._warn(error)

    def remove(self, prefix: str) -> None:
        """Delete the thumbnails whose names begin with a prefix. Does disk I/O."""
        for file in Path(self._path(prefix)).parent.glob(f"{prefix}*"):
            file.unlink(missing_ok=True)  # its size is subtracted at the next eviction

    def _write(self, folder: int, name: str, picture: bytes) -> None:
        free = os.fstatvfs(folder)
        if free.f_bavail * free.f_frsize < self._config.min_free_bytes + len(picture):
            return
        fd, draft = _new_file(folder)
        try:
            with open(fd, "wb", closefd=False) as file:
                file.write(picture)
            if self._config.durable:
                os.fsync(fd)
            with contextlib.suppress(FileExistsError), self._room_for(_blocks(len(picture))):
                source = draft or f"/proc/self/fd/{fd}"
                os.link(source, name, src_dir_fd=folder, dst_dir_fd=folder)
        finally:
            os.close(fd)
            if draft is not None:
                os.unlink(draft, dir_fd=folder)

    @contextlib.contextmanager
    def _room_for(self, takes: int) -> Iterator[None]:
        """Lock the cache during the block. Reserve `takes` bytes, but not if the block fails."""
        fd = self._open_lock()
        try:
            fcntl.fcntl(fd, fcntl.F_OFD_SETLKW, _range(0, _COUNT_BYTES))
            used = int.from_bytes(os.pread(fd, _COUNT_BYTES, 0), "little")
            if not self._counted:
                used = self._make_room(self._config.cache_bytes)
                self._counted = True
            if used + takes > self._config.cache_bytes:
                used = self._make_room(int(self._config.cache_bytes * _FILL_AFTER_EVICTION) - takes)
            _write_count(fd, used + takes)  # first, so that a crash never makes the count too low
            try:
                yield
            except BaseException:
                _write_count(fd, used)
                raise
        finally:
            os.close(fd)  # also releases the lock

    def _make_room(self, most: int) -> int:
        """Evict least recently used files until at most `most` bytes remain. Return the size."""
        entries = []
        for file, status in self._files():
            if not file.name.startswith(_DRAFT):
                entries.append((status.st_atime_ns, _blocks(status.st_size), file.path))
            elif time.time() - status.st_mtime > _DRAFT_S:
                Path(file).unlink(missing_ok=True)
        used = sum(takes for _, takes, _ in entries)
        for _, takes, path in sorted(entries):
            if used <= most:
                break
            Path(path).unlink(missing_ok=True)
            used -= takes
        return used

    def _files(self) -> Iterator[tuple[os.DirEntry[str], os.stat_result]]:
        for folder in os.scandir(self._config.folder):
            if folder.is_dir(follow_symlinks=False):
                for file in os.scandir(folder.path):
                    with contextlib.suppress(FileNotFoundError):
                        yield file, file.stat(follow_symlinks=False)

    def _path(self, name: str) -> str:
        return f"{self._config.folder}/{name[:2]}/{name}"

    def _open_lock(self) -> int:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        path = self._config.folder / "lock"
        try:
            return os.open(path, flags, 0o600)
        except FileNotFoundError:
            self._config.folder.mkdir(parents=True, exist_ok=True, mode=_FOLDER_MODE)
            return os.open(path, flags, 0o600)

    def _warn(self, error: OSError) -> None:
        if not self._warned:
            self._warned = True
            log.warning(
                "cannot cache thumbnails, so they are made again for each request: %s", error
            )


def _write_count(lock: int, used: int) -> None:
    os.pwrite(lock, max(0, used).to_bytes(_COUNT_BYTES, "little"), 0)


def _range(start: int, length: int) -> bytes:
    return _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, start, length, 0)


def _blocks(size: int) -> int:
    return max(1, -(-size // _BLOCK_BYTES)) * _BLOCK_BYTES


def _new_file(folder: int) -> tuple[int, str | None]:
    flags = os.O_WRONLY | os.O_CLOEXEC
    try:
        return os.open(".", flags | os.O_TMPFILE, _FILE_MODE, dir_fd=folder), None
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL):
            raise
    draft = f"{_DRAFT}{secrets.token_hex(16)}"
    return os.open(draft, flags | os.O_CREAT | os.O_EXCL, _FILE_MODE, dir_fd=folder), draft


class DerivedImage:
    """Open thumbnail: a descriptor of a cached file, or bytes. Implements `OpenedImage`."""

    def __init__(self, image: StoredImage, source: int | bytes) -> None:
        self.image = image
        self._source = source

    async def chunks(self, start: int, length: int) -> AsyncIterator[bytes]:
        """Yield `length` bytes from the offset `start` in chunks."""
        end = start + length
        while start < end:
            size = min(end - start, _READ_BYTES)
            if isinstance(self._source, bytes):
                piece = self._source[start : start + size]
            else:
                piece = await _read(self._source, start, size)
            if not piece:
                raise BackendUnavailable(
                    "the cached thumbnail became shorter while it was read: request it again"
                )
            start += len(piece)
            yield piece

    def close(self) -> None:
        """Close the file, if there is one. A second call does nothing."""
        source, self._source = self._source, b""
        if isinstance(source, int):
            os.close(source)


async def _read(file: int, start: int, size: int) -> bytes:
    """Read bytes of a file: immediately if they are in the page cache, else in a thread."""
    buffer = bytearray(size)
    try:
        count = os.preadv(file, [buffer], start, os.RWF_NOWAIT)
    except OSError:  # EAGAIN: not cached; EOPNOTSUPP: not supported by this filesystem
        return await asyncio.to_thread(os.pread, file, size, start)
    return bytes(memoryview(buffer)[:count]) if count else b""
