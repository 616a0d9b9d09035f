"""Staging files: temporary files without a name (O_TMPFILE), published with a hard link."""

import contextlib
import errno
import os
import secrets
import stat
import time
from dataclasses import dataclass, field
from typing import Final

from stillroom.errors import PathConflict, PreconditionFailed
from stillroom.store.disk.data_directory import DataDirectory, link_file, translate_os_errors
from stillroom.store.disk.image import Attributes, warn_of_link
from stillroom.store.disk.openat2 import release
from stillroom.store.upload_checks import UploadChecks

_WRITEBACK_BYTES: Final = 4 * 1024**2  # after these, writing to the disk starts during the upload
_MAX_BYTES: Final = 1024**2  # of a batch; one upload keeps at most this many bytes in memory
_MAX_CHUNKS: Final = 1024  # maximum number of chunks in a batch: IOV_MAX of Linux
RESERVED_BYTES: Final = 16 * 1024**2  # at a time, since the announced size may never be sent


@dataclass(slots=True)
class Batch:
    """Chunks that are written together."""

    chunks: list[bytes] = field(default_factory=list)
    size: int = 0

    def add(self, chunk: bytes) -> None:
        """Append a chunk."""
        self.chunks.append(chunk)
        self.size += len(chunk)

    @property
    def is_full(self) -> bool:
        """True if the batch must be written before another chunk is added."""
        return self.size >= _MAX_BYTES or len(self.chunks) >= _MAX_CHUNKS


class Staged:
    """A staging file. `close` deletes it unless it was published."""

    def __init__(self, data_directory: DataDirectory, fd: int | None = None) -> None:
        """Create an empty file, or use the complete file `fd`, whose existing name is kept."""
        self._data_directory = data_directory
        self._written = self._writeback_end = self._reserved = 0
        self.fd, self._name = data_directory.open_staged() if fd is None else (fd, None)

    def bytes_to_reserve(self, more: int, max_bytes: int | None) -> int:
        """Return how many bytes to reserve before `more` bytes of an upload are written."""
        if max_bytes is None:
            return more
        end = self._written + more
        if end <= self._reserved:
            return 0
        return max(min(self._reserved + RESERVED_BYTES, max_bytes), end) - self._reserved

    def reserve(self, more: int) -> None:
        """Reserve `more` bytes of disk space, in one extent if possible."""
        with translate_os_errors():
            try:
                os.posix_fallocate(self.fd, self._reserved, more)
            except OSError as error:
                if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):
                    raise
        self._reserved += more

    def write(self, batch: Batch, checks: UploadChecks) -> None:
        """Write and hash a batch. Short writes, as on an almost full disk, are continued."""
        for chunk in batch.chunks:
            checks.digest(chunk)
        with translate_os_errors():
            rest: list[bytes | memoryview] = [*batch.chunks]
            first = 0
            while first < len(rest):
                written = os.writev(self.fd, rest[first : first + _MAX_CHUNKS])
                while first < len(rest) and written >= len(rest[first]):
                    written -= len(rest[first])
                    first += 1
                if written:
                    rest[first] = memoryview(rest[first])[written:]
        self._written += batch.size
        waiting = self._written - self._writeback_end
        if waiting >= _WRITEBACK_BYTES:
            self._data_directory.start_writeback(self.fd, self._writeback_end, waiting)
            self._writeback_end = self._written

    def trim(self, size: int) -> None:
        """Release reserved disk space beyond `size`."""
        if self._reserved > size:
            os.ftruncate(self.fd, size)

    def copy_from(self, source_fd: int, size: int) -> None:
        """Copy a whole file in the kernel. Some filesystems share its blocks (reflink)."""
        start = 0
        while start < size:
            count = os.copy_file_range(source_fd, self.fd, size - start, start, start)
            if count == 0:
                raise OSError(errno.EIO, "the source image became shorter while it was copied")
            start += count

    def stamp(
        self, kind: str, sha256: bytes | None, *, modified_ns: int | None = None
    ) -> os.stat_result:
        """Set the modification time and attributes of a complete file. Return its stat(2) result.

        The last three digits of `modified_ns`, the image's time in another store, are randomized,
        so that save ids differ even if inodes are reused.
        """
        if modified_ns is None:
            time_ns = time.time_ns()
        else:
            time_ns = max(modified_ns, 0) // 1000 * 1000 + secrets.randbelow(1000)
        os.utime(self.fd, ns=(time_ns, time_ns))
        status = os.fstat(self.fd)  # the filesystem may have rounded the time
        if self._data_directory.has_attributes and sha256 is not None:
            Attributes(status.st_mtime_ns, sha256, kind).write(self.fd)
        return status

    def link_or_replace(self, folder_fd: int, name: str, *, create_only: bool) -> None:
        """Publish the file as `name` atomically.

        Raises `PreconditionFailed` if `create_only` is set and a file has this name. Raises
        `PathConflict` if a link or device has the name. Raises `OSError` if a folder has the name
        (EISDIR) or the parent folder was removed (ENOENT).
        """
        try:
            self._data_directory.link_staged(self.fd, self._name, name, folder_fd)
        except FileExistsError:
            mode = os.stat(name, dir_fd=folder_fd, follow_symlinks=False).st_mode
            if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
                warn_of_link(name)
                raise PathConflict(
                    "a symbolic link or device has this path: save the image under another path"
                ) from None
            if create_only:
                # Never rename here: a new image may have replaced the folder in the meantime.
                if stat.S_ISREG(mode):
                    raise PreconditionFailed from None
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), name) from None
            self._replace(name, folder_fd)

    def _replace(self, name: str, folder_fd: int) -> None:
        if self._name is None:
            self._name = self._data_directory.staging_name()
            link_file(self.fd, self._name, self._data_directory.staging_fd)
        os.replace(
            self._name, name, src_dir_fd=self._data_directory.staging_fd, dst_dir_fd=folder_fd
        )
        self._name = None

    def close(self) -> None:
        """Delete the file unless it was published. A second call does nothing."""
        if self.fd < 0:
            return
        release(self.fd)
        self.fd = -1
        if self._name is not None:
            # The next start removes files that cannot be removed now.
            with contextlib.suppress(OSError):
                os.unlink(self._name, dir_fd=self._data_directory.staging_fd)
