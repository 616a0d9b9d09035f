"""A filesystem whose flushes take as long as those of a disk without power-loss protection.

ext4 or XFS on a loop device, whose backing file is in a small FUSE filesystem that answers fsync
after a delay. So the kernel's journal groups flushes as it does on a real disk, which a delay in
front of the server's own fsync calls would not show. Needs root, /dev/fuse and libfuse 3.
"""

import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from crash.loopback import loop_disk, run

FLUSH_S: Final = 0.005


@contextlib.contextmanager
def slow_disk(folder: Path, kind: str, *, mib: int = 8192) -> Iterator[Path]:
    """Mount a new filesystem (`ext4` or `xfs`) whose flush takes `FLUSH_S`, and yield its root."""
    fuse, backing = folder / "fuse", folder / "backing"
    fuse.mkdir(parents=True)
    backing.touch()
    command = [sys.executable, "-m", "benchmarks.slow_file", str(backing), str(fuse), str(FLUSH_S)]
    server = subprocess.Popen(command)
    image = fuse / backing.name
    try:
        while not image.exists():
            if server.poll() is not None:
                raise SystemExit("FUSE did not start: apt-get install libfuse3-4")
            time.sleep(0.05)  # nothing tells when it is mounted
        with loop_disk(folder, kind=kind, mib=mib, image=image) as disk:
            yield disk.mount
    finally:
        run("umount", str(fuse))
        server.wait()
        backing.unlink()
