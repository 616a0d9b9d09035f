"""Contained opens: openat2(2), or a walk by segments, that cannot leave a folder.

Paths are checked before they come here. This second check also stops links planted in the folder,
which the first one cannot see. Linux 5.6 and later do it in one call
(https://man7.org/linux/man-pages/man2/openat2.2.html). If the kernel or a sandbox refuses that
call, the path is opened segment by segment.
"""

import ctypes
import errno
import functools
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

_SYS_OPENAT2: Final = 437  # the same number on every architecture
_RESOLVE_NO_MAGICLINKS: Final = 0x02
_RESOLVE_NO_SYMLINKS: Final = 0x04
_RESOLVE_BENEATH: Final = 0x08
_TRIES_ON_EAGAIN: Final = 3  # openat2(2): a rename raced with the look-up

Opener = Callable[[int, str, int], int]
"""(folder's descriptor, relative path, flags) -> descriptor; raises OSError."""


class _OpenHow(ctypes.Structure):
    _fields_ = (
        ("flags", ctypes.c_uint64),
        ("mode", ctypes.c_uint64),
        ("resolve", ctypes.c_uint64),
    )


if TYPE_CHECKING:
    _HowPointer = ctypes._Pointer[_OpenHow]  # noqa: SLF001  (typeshed's name for it)

_HOW_BYTES: Final = ctypes.sizeof(_OpenHow)

_syscall = ctypes.CDLL(None, use_errno=True).syscall
_syscall.restype = ctypes.c_long


def open_by_kernel(folder_fd: int, path: str, flags: int) -> int:
    """Open with openat2, which refuses to leave the folder or to follow a link.

    Raises:
        OSError: ELOOP or EXDEV for a link or an escape, ENOSYS if the call is missing.
    """
    name = path.encode("utf-8", "surrogateescape")  # like os.fsencode, in a third of the time
    tries = 0
    while True:
        fd = try_open(folder_fd, name, flags)
        if fd >= 0:
            return fd
        number = ctypes.get_errno()
        tries += 1
        if number != errno.EAGAIN or tries == _TRIES_ON_EAGAIN:
            raise OSError(number, os.strerror(number), path)


def try_open(folder_fd: int, name: bytes, flags: int) -> int:
    """Open with openat2; return -1 on any error."""
    fd: int = _syscall(_SYS_OPENAT2, folder_fd, name, _how(flags), _HOW_BYTES)
    return fd


def is_absent(folder_fd: int, path: str) -> bool:
    """Return whether openat2 finds no file; False on any other error."""
    fd = try_open(folder_fd, path.encode("utf-8", "surrogateescape"), os.O_PATH)
    if fd >= 0:
        release(fd)
        return False
    return ctypes.get_errno() == errno.ENOENT


def open_by_walk(folder_fd: int, path: str, flags: int) -> int:
    """Open segment by segment, following no link on the way.

    Raises:
        OSError: as in `open_by_kernel`; EXDEV for a path with a dot segment.
    """
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
        # O_DIRECTORY on a link fails with ENOTDIR; callers need to know links from files.
        if _is_link_on_the_way(folder_fd, [*folders, name]):
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path) from None
        raise
    finally:
        if at != folder_fd:
            release(at)


def release(fd: int) -> None:
    """Close a descriptor, ignoring errors.

    Linux closes it in any case, and an error reports nothing that a sync has not reported before
    (https://man7.org/linux/man-pages/man2/close.2.html). A durable save must not fail for it.
    """
    try:  # noqa: SIM105  (on every read: `suppress` would cost more than the call)
        os.close(fd)
    except OSError:
        pass


@functools.cache
def _how(flags: int) -> "_HowPointer":
    """Return the cached argument for these flags; building it costs as much as the call."""
    return ctypes.pointer(
        _OpenHow(
            flags | os.O_CLOEXEC,
            0,
            _RESOLVE_BENEATH | _RESOLVE_NO_SYMLINKS | _RESOLVE_NO_MAGICLINKS,
        )
    )


def choose_opener(folder_fd: int) -> Opener:
    """Return `open_by_kernel` if it works on this folder, else `open_by_walk`."""
    try:
        os.close(open_by_kernel(folder_fd, ".", os.O_RDONLY | os.O_DIRECTORY))
    except OSError:
        return open_by_walk
    return open_by_kernel


def _is_link_on_the_way(folder_fd: int, folders: list[str]) -> bool:
    path = ""
    for folder in folders:
        path = f"{path}/{folder}" if path else folder
        try:
            # Only the first link counts: the walk stopped there, so none comes before it.
            os.readlink(path, dir_fd=folder_fd)
        except OSError:
            continue
        return True
    return False
