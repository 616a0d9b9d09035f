"""Settings of the memory allocator (glibc malloc) and of Python's garbage collector."""

import ctypes
import gc
from typing import Final

# Parameter numbers from malloc.h: https://man7.org/linux/man-pages/man3/mallopt.3.html
_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3

_MAPPED_BYTES: Final = 32 * 1024**2  # largest value that glibc accepts
_KEPT_BYTES: Final = 2 * _MAPPED_BYTES  # the same factor as in glibc itself


def keep_freed_memory() -> None:
    """Keep up to 64 MiB of freed memory in this process. Without glibc, do nothing.

    Otherwise, each piece of an uploaded body would cause one page fault per 4 KiB.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return
    mallopt(_M_MMAP_THRESHOLD, _MAPPED_BYTES)
    mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)


def freeze_startup_objects() -> None:
    """Exclude all existing objects from garbage collection (`gc.freeze`), then enable the GC.

    Otherwise, a full collection of these 300,000 objects would block all connections for 70 ms.
    """
    gc.collect()
    gc.freeze()
    gc.enable()
