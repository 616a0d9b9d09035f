"""Contained opens: openat2(2), or a walk by segments, that cannot leave a folder.

The paths that come here were checked already; this is the wall behind that
check, and it also stops what a lexical check cannot see: links that were
planted in the folder. Linux does it in one call since 5.6
(https://man7.org/linux/man-pages/man2/openat2.2.html); where a kernel or a
sandbox refuses that call, the same is done segment by segment.
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
        OSError: ELOOP or EXDEV for a link or an escape, ENOSYS where the call is missing.
    """
    name = path.encode("utf-8", "surrogateescape")  # as os.fsencode, in a third of the time
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
    """As `open_by_kernel`, with -1 in place of any error."""
    fd: int = _syscall(_SYS_OPENAT2, folder_fd, name, _how(flags), _HOW_BYTES)
    return fd


def is_absent(folder_fd: int, path: str) -> bool:
    """Whether openat2 finds nothing there; False for whatever else it says."""
    fd = try_open(folder_fd, path.encode("utf-8", "surrogateescape"), os.O_PATH)
    if fd >= 0:
        release(fd)
        return False
    return ctypes.get_errno() == errno.ENOENT


def open_by_walk(folder_fd: int, path: str, flags: int) -> int:
    """Open segment by segment, following no link on the way.

    Raises:
        OSError: as `open_by_kernel`; a path with a dot segment is EXDEV.
    """
    *folders, name = path.split("/")
    if path.startswith("/") or ".." in (*folders, name):
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), path)
    at = folder_fd
    try:
        for folder in folders:
            below = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=at)
            if at != folder_fd:
                release(at)
            at = below
        return os.open(name, flags | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=at)
    except NotADirectoryError:
        # O_DIRECTORY on a link says ENOTDIR; callers tell a planted link from a plain file.
        if _is_link_on_the_way(folder_fd, [*folders, name]):
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path) from None
        raise
    finally:
        if at != folder_fd:
            release(at)


def release(fd: int) -> None:
    """Close a descriptor, whatever the system then says.

    Linux closes it in any case, and an error says nothing of bytes that a sync has not
    said before (https://man7.org/linux/man-pages/man2/close.2.html): an image that is
    on the disk must not be refused for it.
    """
    try:  # noqa: SIM105  (on every read: `suppress` would cost more than the call)
        os.close(fd)
    except OSError:
        pass


@functools.cache
def _how(flags: int) -> "_HowPointer":
    """How to open with these flags; made once, since making it costs as much as the call."""
    return ctypes.pointer(
        _OpenHow(
            flags | os.O_CLOEXEC,
            0,
            _RESOLVE_BENEATH | _RESOLVE_NO_SYMLINKS | _RESOLVE_NO_MAGICLINKS,
        )
    )


def choose_opener(folder_fd: int) -> Opener:
    """`open_by_kernel` where it works on this very folder, else `open_by_walk`."""
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
            # Only the first link counts, and the walk stopped there: no link before it.
            os.readlink(path, dir_fd=folder_fd)
        except OSError:
            continue
        return True
    return False
