"""Files in which the workers share their metrics, for prometheus_client.

prometheus_client maps sparse files into memory. On a full disk, a write to such a file kills the
process with SIGBUS. Therefore, this module allocates the disk space first.
"""

import contextlib
import logging
import mmap
import os
from typing import Final

from prometheus_client.mmap_dict import MmapedDict

_FIRST_BYTES: Final = 1 << 16

log = logging.getLogger("stillroom.server")


class AllocatedDict(MmapedDict):
    """Metrics file of one worker. If the disk is full, the values are only in memory."""

    def __init__(self, filename: str, read_mode: bool = False) -> None:  # noqa: FBT001, FBT002  (as the library's)
        if not read_mode and not os.path.exists(filename):
            try:
                _create(filename)
            except OSError as error:
                filename = _private_file(error)
        super().__init__(filename, read_mode)  # type: ignore[no-untyped-call]  # the library is not typed

    def _init_value(self, key: str) -> None:
        try:
            self._allocate(self._capacity_with(key))
        except OSError as error:
            self._move_to(_private_file(error))
            self._allocate(self._capacity_with(key))
        super()._init_value(key)  # type: ignore[no-untyped-call]  # as above

    def _capacity_with(self, key: str) -> int:
        capacity: int = self._capacity
        while self._used + len(key.encode()) + 32 > capacity:  # a value adds less to its key
            capacity *= 2
        return capacity

    def _allocate(self, capacity: int) -> None:
        if capacity > self._capacity:
            os.posix_fallocate(self._f.fileno(), 0, capacity)

    def _move_to(self, filename: str) -> None:
        file = open(filename, "r+b")  # noqa: SIM115  (as the library's, for as long as the process lives)
        os.posix_fallocate(file.fileno(), 0, self._capacity)
        copy = mmap.mmap(file.fileno(), self._capacity)
        copy[:] = self._m[:]
        self._f.close()
        self._f, self._m = file, copy


def _create(filename: str) -> None:
    """Create a file under a temporary name first, since other workers read all `.db` files."""
    part = f"{filename}.part"
    try:
        with open(os.open(part, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            os.posix_fallocate(file.fileno(), 0, _FIRST_BYTES)
        os.rename(part, filename)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(part)
        raise


def _private_file(error: OSError) -> str:
    """Return the path of a file in memory (memfd), which no other worker reads."""
    log.error(
        "the metrics of this worker are missing in /metrics, because the temporary folder is "
        "full (%s): free some space, or set TMPDIR to another folder, and restart",
        error.strerror,
    )
    fd = os.memfd_create("stillroom-metrics")
    os.posix_fallocate(fd, 0, _FIRST_BYTES)
    return f"/proc/self/fd/{fd}"
