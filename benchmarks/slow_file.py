"""FUSE filesystem with one file, a copy of another one, whose fsync takes a given time.

python -m benchmarks.slow_file FILE FOLDER SECONDS
"""

import errno
import os
import stat
import sys
import time
from collections.abc import Iterator

import mfusepy


class SlowFile(mfusepy.Operations):
    """Operations of the filesystem; the kernel calls them one at a time."""

    use_ns = True

    def __init__(self, file: str, flush_s: float) -> None:
        self._fd = os.open(file, os.O_RDWR)
        self._name = os.path.basename(file)
        self._flush_s = flush_s

    def getattr(self, path: str, _fh: int | None = None) -> dict[str, int]:
        """Return the attributes of the folder or the file."""
        if path == "/":
            return {"st_mode": stat.S_IFDIR | 0o755, "st_nlink": 2}
        if path != f"/{self._name}":
            raise mfusepy.FuseOSError(errno.ENOENT)
        size = os.fstat(self._fd).st_size
        return {"st_mode": stat.S_IFREG | 0o644, "st_nlink": 1, "st_size": size}

    def readdir(self, _path: str, _fh: int) -> Iterator[str]:
        """List the folder."""
        yield from (".", "..", self._name)

    def open(self, _path: str, _flags: int) -> int:
        """Open the file."""
        return 0

    def read(self, _path: str, size: int, offset: int, _fh: int) -> bytes:
        """Read from the other file."""
        return os.pread(self._fd, size, offset)

    def write(self, _path: str, data: bytes, offset: int, _fh: int) -> int:
        """Write to the other file."""
        return os.pwrite(self._fd, data, offset)

    def truncate(self, _path: str, length: int, _fh: int | None = None) -> None:
        """Change the size of the other file."""
        os.ftruncate(self._fd, length)

    def fsync(self, _path: str, _datasync: int, _fh: int) -> int:
        """Take as long as a slow disk."""
        time.sleep(self._flush_s)
        return 0


if __name__ == "__main__":
    mfusepy.FUSE(SlowFile(sys.argv[1], float(sys.argv[3])), sys.argv[2], foreground=True)
