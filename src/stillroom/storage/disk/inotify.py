"""inotify(7) by ctypes: which names in a folder have changed, by any process.

The kernel queues an event before the call that made the change returns
(https://man7.org/linux/man-pages/man7/inotify.7.html), so a reader of the
queue after a save has been answered finds that save in it. Three calls are
needed.
"""

import contextlib
import ctypes
import os
import struct
from collections.abc import Iterator
from typing import Final

IN_MOVED_FROM: Final = 0x0040
IN_MOVED_TO: Final = 0x0080
IN_CREATE: Final = 0x0100
IN_DELETE: Final = 0x0200
IN_Q_OVERFLOW: Final = 0x4000
IN_IGNORED: Final = 0x8000
IN_ONLYDIR: Final = 0x0100_0000

_NAMES_CHANGE: Final = IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO | IN_ONLYDIR
_HEAD: Final = struct.Struct("iIII")  # watch, mask, cookie, length of the name with its padding
_READ_BYTES: Final = 64 * 1024

_TELLS_ALL: Final = frozenset({
    0xEF53,  # ext2, ext3, ext4
    0x5846_5342,  # XFS
    0x9123_683E,  # btrfs
    0x0102_1994,  # tmpfs
})  # fmt: skip
"""Filesystems (statfs(2), f_type) on which nothing changes behind this kernel's back, as it
does on NFS, FUSE and 9p, below overlayfs, and in a rollback of ZFS."""

_STATFS_BYTES: Final = 256  # more than any architecture's

_libc = ctypes.CDLL(None, use_errno=True)


class Inotify:
    """A queue of events. Used by one thread at a time; what a reader finds, it takes."""

    def __init__(self) -> None:
        """Open a queue.

        Raises:
            OSError: EMFILE beyond fs.inotify.max_user_instances, ENOSYS in some sandboxes.
        """
        self._fd = _checked(_libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC))

    def watch(self, folder_fd: int) -> int:
        """Report from now on which names come, go or change hands in an open folder.

        Returns:
            The number that its events will carry; the same for the same folder.

        Raises:
            OSError: ENOSPC beyond fs.inotify.max_user_watches.
        """
        path = f"/proc/self/fd/{folder_fd}".encode()
        return _checked(_libc.inotify_add_watch(self._fd, path, _NAMES_CHANGE))

    def unwatch(self, watch: int) -> None:
        """End it; fine if the kernel has ended it before, since the folder was removed."""
        with contextlib.suppress(OSError):
            _checked(_libc.inotify_rm_watch(self._fd, watch))

    def events(self) -> Iterator[tuple[int, int, str]]:
        """What has happened so far: watch, mask, and the name in the folder."""
        while True:
            try:
                read = os.read(self._fd, _READ_BYTES)
            except BlockingIOError:
                return
            at = 0
            while at < len(read):
                watch, mask, _, length = _HEAD.unpack_from(read, at)
                at += _HEAD.size + length
                yield watch, mask, os.fsdecode(read[at - length : at].rstrip(b"\0"))

    def close(self) -> None:
        """End all watches."""
        os.close(self._fd)


def tells_all(folder_fd: int) -> bool:
    """Whether inotify reports every change of an open folder, on this filesystem."""
    status = ctypes.create_string_buffer(_STATFS_BYTES)
    _checked(_libc.fstatfs(folder_fd, status))
    return ctypes.c_long.from_buffer(status).value in _TELLS_ALL


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result
