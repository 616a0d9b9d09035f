"""Interface to inotify(7), with which Linux reports the names that change in a folder.

The kernel queues an event before the call that made the change returns, so the queue contains every
completed save. Source: https://man7.org/linux/man-pages/man7/inotify.7.html
"""

import contextlib
import ctypes
import os
import struct
from collections.abc import Iterator
from typing import Final

IN_Q_OVERFLOW: Final = 0x4000
IN_IGNORED: Final = 0x8000
# IN_MOVED_FROM, IN_MOVED_TO, IN_CREATE, IN_DELETE, and IN_ONLYDIR (refuse files)
_NAMES_CHANGE: Final = 0x0040 | 0x0080 | 0x0100 | 0x0200 | 0x0100_0000
_HEAD: Final = struct.Struct("iIII")  # watch, mask, cookie, length of the padded name
_READ_BYTES: Final = 64 * 1024

_FULLY_REPORTED: Final = frozenset({
    0xEF53,  # ext2, ext3, ext4
    0x5846_5342,  # XFS
    0x9123_683E,  # btrfs
    0x0102_1994,  # tmpfs
})  # fmt: skip
"""Types (statfs(2), f_type) of filesystems that only this kernel changes. On others, such as NFS,
FUSE, 9p, overlayfs and ZFS, files can change without an event."""

_STATFS_BYTES: Final = 256  # more than on any architecture

_libc = ctypes.CDLL(None, use_errno=True)


class Inotify:
    """Queue of inotify events. Not thread-safe.

    Raises `OSError` if too many queues exist, or if a sandbox forbids them.
    """

    def __init__(self) -> None:
        self._fd = _checked(_libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC))

    def watch(self, folder_fd: int) -> int:
        """Start to report the names that change in an open folder. Return the watch number."""
        path = f"/proc/self/fd/{folder_fd}".encode()
        return _checked(_libc.inotify_add_watch(self._fd, path, _NAMES_CHANGE))

    def unwatch(self, watch: int) -> None:
        """Remove a watch, unless the kernel has already removed it together with the folder."""
        with contextlib.suppress(OSError):
            _checked(_libc.inotify_rm_watch(self._fd, watch))

    def events(self) -> Iterator[tuple[int, int, str]]:
        """Remove and yield the queued events as tuples of watch number, mask and file name."""
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
        """Close the queue, which removes all watches."""
        os.close(self._fd)


def reports_all_changes(folder_fd: int) -> bool:
    """Return whether inotify reports every change on the filesystem of an open folder."""
    status = ctypes.create_string_buffer(_STATFS_BYTES)
    _checked(_libc.fstatfs(folder_fd, status))
    return ctypes.c_long.from_buffer(status).value in _FULLY_REPORTED


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result
