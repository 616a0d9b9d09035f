"""Confinement of decoding processes by resource limits, Landlock and seccomp (Linux features).

With Landlock, a process permanently gives up the permissions to open or change files, use TCP and
signal other processes. Open file descriptors remain usable. With seccomp, the kernel rejects all
system calls that decoding does not need. A kernel may lack one or both of these features.
"""

import ctypes
import errno
import platform
import resource
import struct
import sys
from typing import Final

# Constants from https://docs.kernel.org/userspace-api/landlock.html, and the system calls from
# https://git.kernel.org/pub/scm/linux/kernel/git/torvalds/linux.git/tree/scripts/syscall.tbl.
_PR_GET_SECCOMP: Final = 21
_PR_SET_SECCOMP: Final = 22
_PR_SET_NO_NEW_PRIVS: Final = 38
_CREATE_RULESET: Final = 444
_RESTRICT_SELF: Final = 446
_ASK_VERSION: Final = 1

# Number of file permissions (one bit each), by the version of Landlock that introduced them.
_FILE_RIGHTS: Final = {1: 13, 2: 14, 3: 15, 5: 16}
# Bits for TCP, and for abstract sockets and signals, by the version that introduced them.
_OTHER_RIGHTS: Final = {4: 0b11, 6: 0b11}
_DESCRIPTORS: Final = 32
# Index into the pairs of system call numbers, and AUDIT_ARCH for seccomp filters, by machine.
_MACHINES: Final = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
_ALLOWED: Final = {
    # https://git.kernel.org/pub/scm/linux/kernel/git/torvalds/linux.git/tree/arch/x86/entry/syscalls/syscall_64.tbl
    # and the system call table that is linked above
    "read": (0, 63), "close": (3, 57), "fstat": (5, 80), "newfstatat": (262, 79), "lseek": (8, 62),
    "mmap": (9, 222), "mprotect": (10, 226), "munmap": (11, 215), "brk": (12, 214),
    "mremap": (25, 216), "madvise": (28, 233), "rt_sigaction": (13, 134),
    "rt_sigprocmask": (14, 135), "rt_sigreturn": (15, 139), "sigaltstack": (131, 132),
    "sendto": (44, 206), "recvmsg": (47, 212), "getrusage": (98, 165), "exit": (60, 93),
    "exit_group": (231, 94), "restart_syscall": (219, 128), "futex": (202, 98),
    "sched_yield": (24, 124), "clock_gettime": (228, 113), "gettimeofday": (96, 169),
    "getrandom": (318, 278),
}  # fmt: skip
# System call with which a process renews its own limit of processor time for each image. The
# process may not use it for other processes.
_PRLIMIT64: Final = (302, 261)

_LOAD: Final = 0x20
_JUMP_IF_EQUAL: Final = 0x15
_RETURN: Final = 0x06
# Offsets in struct seccomp_data. On both machines, an argument's lower half is stored first.
_NUMBER_AT, _MACHINE_AT, _FIRST_ARGUMENT_AT = 0, 4, 16
_ALLOW: Final = 0x7FFF0000
_KILL_PROCESS: Final = 0x80000000
# Reject a call without killing the process, because libraries try optional calls, such as
# terminal queries. See https://man7.org/linux/man-pages/man2/seccomp.2.html.
_REFUSE: Final = 0x00050000 | errno.EPERM
_MODE_FILTER: Final = 2


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def limit(*, memory_bytes: int) -> None:
    """Set the resource limits of this process, irreversibly."""
    for name, most in (
        (resource.RLIMIT_AS, memory_bytes),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NOFILE, _DESCRIPTORS),
        (resource.RLIMIT_NPROC, 0),
    ):
        _, hard = resource.getrlimit(name)
        value = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(name, (value, value))


def gaps() -> dict[str, tuple[str, str]]:
    """Return a warning and a remedy for each missing feature: "Landlock" or "seccomp"."""
    libc = _libc()
    lacking = {}
    if not _landlock_version(libc):
        lacking["Landlock"] = (
            "decoding processes can open files, because this kernel has no Landlock",
            "use Linux 5.13 or later with `landlock` in its `lsm=`",
        )
    if _machine() is None or libc.prctl(_PR_GET_SECCOMP, 0, 0, 0, 0) < 0:
        lacking["seccomp"] = (
            "decoding processes can make any system call, because there is no seccomp filter here",
            "use a kernel with CONFIG_SECCOMP_FILTER, on x86_64 or aarch64",
        )
    return lacking


def deny_files() -> int:
    """Prevent this process from opening files. Return the version of Landlock, or 0 without it."""
    libc = _libc()
    version = _landlock_version(libc)
    if version == 0 or libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        return 0
    files = max(count for since, count in _FILE_RIGHTS.items() if since <= version)
    others = [bits for since, bits in _OTHER_RIGHTS.items() if since <= version]
    rules = struct.pack(f"={1 + len(others)}Q", (1 << files) - 1, *others)
    ruleset = libc.syscall(_CREATE_RULESET, rules, ctypes.c_size_t(len(rules)), 0)
    if ruleset < 0 or libc.syscall(_RESTRICT_SELF, ctypes.c_int(ruleset), 0) != 0:
        return 0
    return version


def deny_system_calls() -> bool:
    """Reject system calls that decoding does not need. Return whether the kernel supports that."""
    libc, machine = _libc(), _machine()
    if machine is None or libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        return False
    code = _filter(*machine)
    program = _Program(len(code) // 8, code)
    return int(libc.prctl(_PR_SET_SECCOMP, _MODE_FILTER, ctypes.byref(program), 0, 0)) == 0


def _filter(index: int, machine: int) -> bytes:
    def step(code: int, value: int, if_so: int = 0, if_not: int = 0) -> bytes:
        return struct.pack("=HBBI", code, if_so, if_not, value)

    steps = [
        step(_LOAD, _MACHINE_AT),
        step(_JUMP_IF_EQUAL, machine, 1),
        step(_RETURN, _KILL_PROCESS),
        step(_LOAD, _NUMBER_AT),
    ]
    for numbers in _ALLOWED.values():
        steps += [step(_JUMP_IF_EQUAL, numbers[index], 0, 1), step(_RETURN, _ALLOW)]
    steps += [
        step(_JUMP_IF_EQUAL, _PRLIMIT64[index], 0, 3),
        step(_LOAD, _FIRST_ARGUMENT_AT),
        step(_JUMP_IF_EQUAL, 0, 0, 1),
        step(_RETURN, _ALLOW),
        step(_RETURN, _REFUSE),
    ]
    return b"".join(steps)


def _machine() -> tuple[int, int] | None:
    return _MACHINES.get(platform.machine()) if sys.maxsize > 1 << 32 else None


def _landlock_version(libc: ctypes.CDLL) -> int:
    return max(0, int(libc.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), _ASK_VERSION)))


def _libc() -> ctypes.CDLL:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    return libc
