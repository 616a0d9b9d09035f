"""How this process gives memory back: late, since the next upload wants it again.

glibc maps each block above 128 KiB by itself and unmaps it when it is freed, so each piece of a
body is new memory: a page fault for every 4 KiB that arrives.
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
    """Up to 64 MiB of it, at the end of the heap. Without glibc nothing happens."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return
    mallopt(_M_MMAP_THRESHOLD, _MAPPED_BYTES)
    mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)


def freeze_startup_objects() -> None:
    """Leave what there is now out of every later search for garbage: it stays to the end.

    The application is some 300,000 objects, and each full search among them stops all
    connections for 70 ms (https://docs.python.org/3/library/gc.html#gc.freeze).
    """
    gc.collect()
    gc.freeze()
