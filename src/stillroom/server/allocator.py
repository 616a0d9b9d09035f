"""Memory allocator (glibc malloc) and garbage collector settings of a server process.

Freed memory is given back late, since the next upload needs it again: by default glibc maps each
block above 128 KiB by itself and unmaps it when it is freed, so each piece of a body is new memory:
a page fault for every 4 KiB that arrives.
"""

import ctypes
import gc
from typing import Final

_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3
"""https://man7.org/linux/man-pages/man3/mallopt.3.html; the numbers are those of malloc.h."""

_KEPT_BYTES: Final = 64 * 1024**2
_MAPPED_BYTES: Final = 32 * 1024**2
"""The most that glibc takes (DEFAULT_MMAP_THRESHOLD_MAX), and twice that, as it would go itself."""


def keep_freed_memory() -> None:
    """Keep up to 64 MiB of freed memory at the end of the heap. Does nothing without glibc."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return
    mallopt(_M_MMAP_THRESHOLD, _MAPPED_BYTES)
    mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)


def freeze_startup_objects() -> None:
    """Exempt all objects that exist now from garbage collection (`gc.freeze`).

    The application is some 300,000 objects, and each full collection of them stops all
    connections for 70 ms (https://docs.python.org/3/library/gc.html#gc.freeze).
    """
    gc.collect()
    gc.freeze()
