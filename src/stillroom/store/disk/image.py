"""Opened image files, their metadata, and the extended attribute that stores it."""

import errno
import logging
import os
import stat
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Final, Self

from stillroom.errors import BackendUnavailable, ImageNotFound
from stillroom.paths import StorageKey
from stillroom.store import content_type
from stillroom.store.disk.data_directory import translate_os_errors
from stillroom.store.disk.openat2 import release
from stillroom.store.values import StoredImage, Version

_READ_BYTES: Final = 256 * 1024  # bytes per read. Larger reads are not faster and use more memory.
_ATTRIBUTE: Final = "user.stillroom"
_LAYOUT: Final = struct.Struct("<BQ32s")  # version, modified_ns, SHA-256; then the type
_VERSION: Final = 1

ReadInThread = Callable[[Callable[[int, int], bytes], int, int], Awaitable[bytes]]

log = logging.getLogger("stillroom.disk")


@dataclass(frozen=True, slots=True)
class Attributes:
    """Content of the extended attribute that stores the SHA-256 and content type of an image file.

    It also stores the file's modification time. A file with another time was edited, and its
    attribute is outdated. The 60 bytes of an attribute fit into an ext4 inode (256 bytes).
    """

    modified_ns: int
    sha256: bytes
    content_type: str

    def write(self, fd: int) -> None:
        """Write the attributes to an open file. Raises `OSError` if space or support is missing."""
        head = _LAYOUT.pack(_VERSION, self.modified_ns, self.sha256)
        os.setxattr(fd, _ATTRIBUTE, head + self.content_type.encode("ascii"))

    @classmethod
    def read(cls, fd: int, modified_ns: int) -> Self | None:
        """Return an open file's attributes if they were stored for `modified_ns`, else None."""
        try:
            value = os.getxattr(fd, _ATTRIBUTE)
            version, noted_ns, sha256 = _LAYOUT.unpack_from(value)
            content_type = value[_LAYOUT.size :].decode("ascii")
        except (OSError, struct.error, UnicodeDecodeError):
            return None
        is_valid = version == _VERSION and modified_ns == noted_ns and content_type
        return cls(noted_ns, sha256, content_type) if is_valid else None

    @staticmethod
    def outdated_sha256(fd: int) -> bytes | None:
        """Return the recorded SHA-256, if any, even if the file or its attribute has changed."""
        try:
            version, _, sha256 = _LAYOUT.unpack_from(os.getxattr(fd, _ATTRIBUTE))
        except (OSError, struct.error):
            return None
        return bytes(sha256) if version == _VERSION else None


class DiskImage:
    """An open image file, which implements `LocalImage`."""

    __slots__ = ("_run", "fd", "image")

    def __init__(self, fd: int, image: StoredImage, run: ReadInThread) -> None:
        self.fd = fd
        self.image = image
        self._run = run

    async def chunks(self, start: int, length: int) -> AsyncIterator[bytes]:
        """Yield `length` bytes from offset `start` in chunks; see `OpenedImage.chunks`."""
        end = start + length
        while start < end:
            size = min(end - start, _READ_BYTES)
            chunk = self._read_cached(start, size)
            if chunk is None:
                chunk = await self._run(self._read, start, size)
            if not chunk:
                raise BackendUnavailable(
                    f"the file of {self.image.key.text!r} became shorter while it was read"
                )
            start += len(chunk)
            yield chunk

    def _read_cached(self, start: int, size: int) -> bytes | None:
        buffer = bytearray(size)
        try:
            count = os.preadv(self.fd, [buffer], start, os.RWF_NOWAIT)
        except OSError:  # EAGAIN: not in the cache; EOPNOTSUPP: not supported by the filesystem
            return None
        return bytes(memoryview(buffer)[:count]) if count else None

    def _read(self, start: int, size: int) -> bytes:
        with translate_os_errors():
            return os.pread(self.fd, size, start)

    def take_facts(self) -> StoredImage:
        """Close the file and return its metadata."""
        self.close()
        return self.image

    def fileno(self) -> int:
        """Return the file descriptor."""
        return self.fd

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            release(fd)


def describe_file(key: StorageKey, fd: int, known: StoredImage | None = None) -> StoredImage:
    """Return the metadata of an open file, or raise `OSError` (ENXIO) if it is no regular file."""
    del known  # older metadata, for caches that replace this function
    return read_facts(key, fd, os.fstat(fd))


def read_facts(
    key: StorageKey, fd: int, status: os.stat_result, version: Version | None = None
) -> StoredImage:
    """Return the metadata of an open file with this stat(2) result; see `describe_file`."""
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.ENXIO, os.strerror(errno.ENXIO))
    attributes = Attributes.read(fd, status.st_mtime_ns)
    if attributes is not None:
        return describe(key, status, attributes.content_type, attributes.sha256, version)
    start = os.pread(fd, content_type.SNIFFED_BYTES, 0)
    return describe(key, status, content_type.detect(start), None, version)


def describe(
    key: StorageKey,
    status: os.stat_result,
    kind: str,
    sha256: bytes | None,
    version: Version | None = None,
) -> StoredImage:
    """Build the metadata of a file from its stat(2) result, content type and hash."""
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


def status_at(folder_fd: int, name: str) -> os.stat_result | None:
    """Return the stat(2) result of an image in an open folder, or None if it does not exist."""
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
    """Return an ETag that changes with every save. It contains inode and modification time."""
    return f'"{status.st_mtime_ns:x}-{status.st_size:x}-{status.st_ino:x}"'


def save_id_of(status: os.stat_result) -> str:
    """Return the save id, made of inode and modification time. No two saves share both."""
    return f"{status.st_ino:x}-{status.st_mtime_ns:x}"


def warn_of_link(where: str) -> None:
    """Log that a path leads to a symbolic link or device. The client gets a 404 or 409."""
    log.warning(
        "security: %r in the data directory is a symbolic link or device: clients cannot access it",
        where,
    )


def error_of_open(key: StorageKey, error: OSError) -> Exception:
    """Return `ImageNotFound` or `BackendUnavailable` for an error of open(2)."""
    if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ENXIO):
        return ImageNotFound()
    if error.errno in (errno.ELOOP, errno.EXDEV):
        warn_of_link(key.text)
        return ImageNotFound()
    return BackendUnavailable(f"cannot open the image on the disk: {os.strerror(error.errno or 0)}")
