"""Giving up what a decoding process never needs: by limits, and by Landlock where there is any.

Landlock is Linux's way for a process to lay down rights for good: here all of those to open, make
or change anything in a file system, to speak TCP, and to signal others. What is open stays so.
"""

import ctypes
import resource
import struct
from typing import Final

_PR_SET_NO_NEW_PRIVS: Final = 38
_CREATE_RULESET: Final = 444
_RESTRICT_SELF: Final = 446
_ASK_VERSION: Final = 1
"""Numbers of https://docs.kernel.org/userspace-api/landlock.html and of every architecture alike:
https://git.kernel.org/pub/scm/linux/kernel/git/torvalds/linux.git/tree/scripts/syscall.tbl."""

_FILE_RIGHTS: Final = {1: 13, 2: 14, 3: 15, 5: 16}
"""How many there are from which version of the interface on, a bit each."""

_NET_VERSION: Final = 4
_TCP_RIGHTS: Final = 0b11
_SCOPE_VERSION: Final = 6
_SCOPES: Final = 0b11
"""Abstract sockets and signals."""

_DESCRIPTORS: Final = 32


def limit(*, memory_bytes: int) -> None:
    """Bound what this process can take; the bounds cannot be raised again.

    Source:
        https://man7.org/linux/man-pages/man2/getrlimit.2.html
    """
    for name, most in (
        (resource.RLIMIT_AS, memory_bytes),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NOFILE, _DESCRIPTORS),
    ):
        _, hard = resource.getrlimit(name)
        value = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(name, (value, value))


def give_up_files() -> int:
    """Open nothing from here on. What is to be imported must have been.

    Returns:
        The version of Landlock that sees to it; 0 where there is none, and nothing is given up.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    version = max(0, libc.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), _ASK_VERSION))
    if version == 0 or libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        return 0
    files = max(count for since, count in _FILE_RIGHTS.items() if since <= version)
    rules = struct.pack("=Q", (1 << files) - 1)
    if version >= _NET_VERSION:
        rules += struct.pack("=Q", _TCP_RIGHTS)
    if version >= _SCOPE_VERSION:
        rules += struct.pack("=Q", _SCOPES)
    ruleset = libc.syscall(_CREATE_RULESET, rules, ctypes.c_size_t(len(rules)), 0)
    if ruleset < 0 or libc.syscall(_RESTRICT_SELF, ctypes.c_int(ruleset), 0) != 0:
        return 0
    return int(version)
