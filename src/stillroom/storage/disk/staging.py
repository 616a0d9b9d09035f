"""Staging: a temporary file without a name (O_TMPFILE), published by one link or rename."""

import contextlib
import errno
import os
import secrets
import stat
import time
from dataclasses import dataclass
from typing import Final

from stillroom.errors import PathConflict, PreconditionFailed
from stillroom.storage.disk.attributes import Attributes
from stillroom.storage.disk.data_directory import DataDirectory, link_file, translated
from stillroom.storage.disk.image import warn_of_link
from stillroom.storage.disk.openat2 import release
from stillroom.storage.upload_checks import UploadChecks

_BEGUN_BYTES: Final = 4 * 1024**2
"""As much is given to the disk at once while the rest is still coming."""

_MAX_BYTES: Final = 1024**2
"""Written and hashed in one go off the loop; the most that one upload keeps in memory."""

_MAX_CHUNKS: Final = 1024
"""IOV_MAX of Linux: as many are written in one call."""

RESERVED_BYTES: Final = 16 * 1024**2
"""Room that is taken ahead: what a client announces costs it nothing, and may never come."""


@dataclass(slots=True)
class Batch:
    """Chunks that wait to be written together."""

    chunks: list[bytes]
    size: int

    def __init__(self) -> None:
        self.chunks = []
        self.size = 0

    def add(self, chunk: bytes) -> None:
        """Add a chunk."""
        self.chunks.append(chunk)
        self.size += len(chunk)

    @property
    def is_full(self) -> bool:
        """Whether it should be written before more is added."""
        return self.size >= _MAX_BYTES or len(self.chunks) >= _MAX_CHUNKS


class Staged:
    """A temporary file without a name; closing it removes it."""

    def __init__(self, data_directory: DataDirectory) -> None:
        self._data_directory = data_directory
        self._written = self._begun = self._reserved = 0
        self.fd, self._name = data_directory.open_staged()

    def lacking(self, more: int, max_bytes: int | None) -> int:
        """The space to reserve before `more` bytes are written: 0 while there is some left.

        Args:
            more: Of the next batch.
            max_bytes: Of the whole upload; None where that is unknown.
        """
        end = self._written + more
        if max_bytes is None:
            return more
        if end <= self._reserved:
            return 0
        return max(min(self._reserved + RESERVED_BYTES, max_bytes), end) - self._reserved

    def reserve(self, more: int) -> None:
        """Reserve as much space as `lacking` says, in one extent where the filesystem can."""
        with translated():
            try:
                os.posix_fallocate(self.fd, self._reserved, more)
            except OSError as error:
                if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):
                    raise
        self._reserved += more

    def write(self, batch: Batch, checks: UploadChecks) -> None:
        """Write and hash a batch in full; short writes do happen when a disk fills up."""
        for chunk in batch.chunks:
            checks.digest(chunk)
        with translated():
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
        waiting = self._written - self._begun
        if waiting >= _BEGUN_BYTES:
            self._data_directory.begin_writing(self.fd, self._begun, waiting)
            self._begun = self._written

    def trim(self, size: int) -> None:
        """Give back what was reserved beyond `size`."""
        if self._reserved > size:
            os.ftruncate(self.fd, size)

    def copy_from(self, source_fd: int, size: int) -> None:
        """Copy a whole file in the kernel; blocks are shared where the filesystem can.

        Raises:
            OSError: also where the source has become shorter than `size`.
        """
        start = 0
        while start < size:
            count = os.copy_file_range(source_fd, self.fd, size - start, start, start)
            if count == 0:
                raise OSError(errno.EIO, "the file became shorter while it was copied")
            start += count

    def stamp(
        self, kind: str, sha256: bytes | None, *, modified_ns: int | None = None
    ) -> os.stat_result:
        """Give a whole file its time (now, or that of another store), and the facts of that time.

        Of another store's time what is below a microsecond is drawn by lot: with an inode that
        is used again, the same time would make two saves of one id.
        """
        if modified_ns is None:
            time_ns = time.time_ns()
        else:
            time_ns = max(modified_ns, 0) // 1000 * 1000 + secrets.randbelow(1000)
        os.utime(self.fd, ns=(time_ns, time_ns))
        status = os.fstat(self.fd)  # what the filesystem made of that time
        if self._data_directory.has_attributes and sha256 is not None:
            Attributes(status.st_mtime_ns, sha256, kind).write(self.fd)
        return status

    def link_or_replace(self, folder_fd: int, name: str, *, create_only: bool) -> None:
        """Put the file under `name`, at once and whole.

        Raises:
            PreconditionFailed: `create_only`, and something is there.
            IsADirectoryError: a folder is there.
            PathConflict: something that is no image is there, such as a planted link.
            FileNotFoundError: the folder has no place any more.
        """
        try:
            self._link(name, folder_fd)
        except FileExistsError:
            mode = os.stat(name, dir_fd=folder_fd, follow_symlinks=False).st_mode
            if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
                warn_of_link(name)
                raise PathConflict("something that is not an image has this name") from None
            if create_only:
                # Never a rename: what is a folder now may be a new image by then.
                if stat.S_ISREG(mode):
                    raise PreconditionFailed from None
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), name) from None
            self._replace(name, folder_fd)

    def _link(self, name: str, folder_fd: int) -> None:
        if self._name is None:
            link_file(self.fd, name, folder_fd)
        else:
            os.link(
                self._name, name, src_dir_fd=self._data_directory.staging_fd, dst_dir_fd=folder_fd,
                follow_symlinks=False,
            )  # fmt: skip

    def _replace(self, name: str, folder_fd: int) -> None:
        if self._name is None:
            self._name = self._data_directory.staging_name()
            link_file(self.fd, self._name, self._data_directory.staging_fd)
        os.replace(
            self._name, name, src_dir_fd=self._data_directory.staging_fd, dst_dir_fd=folder_fd
        )
        self._name = None

    def close(self) -> None:
        """Forget the file, unless it was published; a second call does nothing."""
        if self.fd < 0:
            return
        release(self.fd)
        self.fd = -1
        if self._name is not None:
            # A name that cannot be removed now goes at the next start; the image is none the worse.
            with contextlib.suppress(OSError):
                os.unlink(self._name, dir_fd=self._data_directory.staging_fd)
