"""What the kernel knows about a server: its processes, their time and their memory."""

import contextlib
import os
import time
from pathlib import Path

SERVER_CORE = 0
LOAD_CORE = 1

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_AVAILABLE = os.sched_getaffinity(0)  # once: listings pin this process itself to the load's core


def cores(*wanted: int) -> set[int]:
    """Those of the cores that this run may use; where it has one core, that one."""
    return _AVAILABLE & set(wanted) or _AVAILABLE


def pinned(to: set[int]) -> list[str]:
    """What stands before a command so that it, and all that it starts, runs on these cores."""
    return ["taskset", "--cpu-list", ",".join(str(core) for core in sorted(to))]


def tree(root: int) -> list[int]:
    """A process and all below it that run now."""
    parents = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError):
                parents[int(entry)] = int(_stat(int(entry))[1])
    found = [root]
    for pid in found:  # grows while it is walked
        found += [child for child, parent in parents.items() if parent == pid]
    return found


def cpu_seconds(root: int) -> float:
    """User and system time of a whole tree, children that have ended included.

    What runs now is read from its clock, in nanoseconds; /proc counts in ticks of 10 ms, more
    than nginx takes for hundreds of requests.
    """
    used = 0.0
    for pid in tree(root):
        with contextlib.suppress(OSError):
            used += time.clock_gettime(_clock_of(pid))
            used += sum(int(field) for field in _stat(pid)[13:15]) / _TICKS_PER_S
    return used


def _clock_of(pid: int) -> int:
    """What clock_getcpuclockid(3) answers on Linux: include/linux/posix-timers_types.h."""
    return ~pid << 3 | 2


def peak_bytes(root: int) -> int:
    """VmHWM, summed over a whole tree; pages that processes share count in each."""
    peak = 0
    for pid in tree(root):
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{pid}/status").read_text().splitlines():
                if line.startswith("VmHWM:"):
                    peak += int(line.split()[1]) * 1024
    return peak


def forget_peak(root: int) -> None:
    """Let VmHWM start again from what is resident now: proc_pid_clear_refs(5), value 5."""
    for pid in tree(root):
        with contextlib.suppress(OSError):
            Path(f"/proc/{pid}/clear_refs").write_text("5")


def _stat(pid: int) -> list[str]:
    """The fields behind the name, which may itself hold blanks and brackets: proc_pid_stat(5)."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
