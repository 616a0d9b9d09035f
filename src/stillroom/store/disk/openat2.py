"""Functions that open a path below a folder and never follow symbolic links.

A validated path may still lead through links in the folder. Linux 5.6 and later refuse them in the
same call (https://man7.org/linux/man-pages/man2/openat2.2.html). If a kernel or a sandbox does not
support this call, the path is opened segment by segment.
"""

import contextlib
import ctypes
import errno
import functools
import itertools
import os
import struct
from collections.abc import Callable, Iterator
from typing import Final

_SYS_OPENAT2: Final = 437  # the same number on every architecture
_RESOLVE: Final = 0x02 | 0x04 | 0x08  # RESOLVE_NO_MAGICLINKS, _NO_SYMLINKS and _BENEATH
_TRIES_ON_EAGAIN: Final = 3  # openat2(2): a concurrent rename disturbed the lookup

Opener = Callable[[int, str, int], int]  # arguments: a folder's descriptor, a relative path, flags

_HOW: Final = struct.Struct("=QQQ")  # flags, mode, resolve

_syscall = ctypes.CDLL(None, use_errno=True).syscall
_syscall.restype = ctypes.c_long


def open_by_kernel(folder_fd: int, path: str, flags: int) -> int:
    """Open a file with openat2, which raises `OSError` (ELOOP, EXDEV) for a link in the path."""
    name = path.encode("utf-8", "surrogateescape")  # like os.fsencode, but three times as fast
    for _ in range(_TRIES_ON_EAGAIN):
        fd = try_open(folder_fd, name, flags)
        if fd >= 0:
            return fd
        number = ctypes.get_errno()
        if number != errno.EAGAIN:
            break
    raise OSError(number, os.strerror(number), path)


def try_open(folder_fd: int, name: bytes, flags: int) -> int:
    """Open a file with openat2. Return its descriptor, or -1 on any error."""
    fd: int = _syscall(_SYS_OPENAT2, folder_fd, name, _how(flags), _HOW.size)
    return fd


@contextlib.contextmanager
def closing(fd: int) -> Iterator[int]:
    """Context manager: close a descriptor at the end of the block. See `release`."""
    try:
        yield fd
    finally:
        release(fd)


def is_absent(folder_fd: int, path: str) -> bool:
    """Return whether openat2 reports that a file does not exist. Returns False on other errors."""
    fd = try_open(folder_fd, path.encode("utf-8", "surrogateescape"), os.O_PATH)
    if fd >= 0:
        release(fd)
        return False
    return ctypes.get_errno() == errno.ENOENT


def open_by_walk(folder_fd: int, path: str, flags: int) -> int:
    """Open a file segment by segment, without following links. Raises `OSError` for a link."""
    *folders, name = path.split("/")
    if path.startswith("/") or ".." in (*folders, name):
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), path)
    at = folder_fd
    try:
        for folder in folders:
            next_fd = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=at)
            if at != folder_fd:
                release(at)
            at = next_fd
        return os.open(name, flags | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=at)
    except NotADirectoryError:
        # O_DIRECTORY on a link fails with ENOTDIR, but callers must distinguish links from files.
        if _is_link_on_the_way(folder_fd, path):
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path) from None
        raise
    finally:
        if at != folder_fd:
            release(at)


def release(fd: int) -> None:
    """Close a descriptor, ignoring errors.

    Linux closes the descriptor in any case, and an earlier fsync has reported the same errors
    (https://man7.org/linux/man-pages/man2/close.2.html). A completed save must not fail here.
    """
    try:  # noqa: SIM105  (on every read: `suppress` would cost more than the call)
        os.close(fd)
    except OSError:
        pass


@functools.cache
def _how(flags: int) -> bytes:
    return _HOW.pack(flags | os.O_CLOEXEC, 0, _RESOLVE)


def choose_opener(folder_fd: int) -> Opener:
    """Return `open_by_kernel` if it works on this folder, else `open_by_walk`."""
    try:
        os.close(open_by_kernel(folder_fd, ".", os.O_RDONLY | os.O_DIRECTORY))
    except OSError:
        return open_by_walk
    return open_by_kernel


def _is_link_on_the_way(folder_fd: int, path: str) -> bool:
    for parent in itertools.accumulate(path.split("/"), "{}/{}".format):
        with contextlib.suppress(OSError):
            # The walk stopped at this link, so it is the first one in the path.
            os.readlink(parent, dir_fd=folder_fd)
            return True
    return False
