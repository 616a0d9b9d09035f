"""A real filesystem in a file, which can be filled up and can lose its power."""

import contextlib
import fcntl
import os
import struct
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_FS_IOC_SHUTDOWN = 0x8004587D
"""_IOR('X', 125, __u32): https://github.com/torvalds/linux/blob/master/include/uapi/linux/fs.h"""

_DROP_THE_LOG = 2
"""FS_SHUTDOWN_FLAGS_NOLOGFLUSH: what was not synced is lost, as in a power cut."""


@dataclass
class Disk:
    """A mounted loop device."""

    image: Path
    mount: Path

    def cut_power(self) -> None:
        """Stop the filesystem where it is; nothing more reaches the image."""
        fd = os.open(self.mount, os.O_RDONLY)
        try:
            fcntl.ioctl(fd, _FS_IOC_SHUTDOWN, struct.pack("I", _DROP_THE_LOG))
        finally:
            os.close(fd)

    def remount(self) -> None:
        """As after the power is back: the journal is replayed."""
        _run("umount", str(self.mount))
        _run("mount", "-o", "loop", str(self.image), str(self.mount))


@contextlib.contextmanager
def loop_disk(folder: Path, *, kind: str, mib: int) -> Iterator[Disk]:
    """A fresh filesystem of some MiB, mounted below `folder`."""
    disk = Disk(folder / "disk.img", folder / "disk")
    disk.mount.mkdir()
    with disk.image.open("wb") as image:
        image.truncate(mib * 1024**2)
    # ext4 keeps blocks back that only root may use, and the tests run as root.
    options = ["-m", "0"] if kind == "ext4" else []
    _run(f"mkfs.{kind}", "-q", *options, str(disk.image))
    _run("mount", "-o", "loop", str(disk.image), str(disk.mount))
    try:
        yield disk
    finally:
        _run("umount", str(disk.mount))


def _run(*command: str) -> None:
    try:
        subprocess.run(command, check=True, capture_output=True, text=True)
    except FileNotFoundError:
        raise AssertionError(
            f"{command[0]} is missing: apt-get install e2fsprogs xfsprogs mount"
        ) from None
    except subprocess.CalledProcessError as error:
        raise AssertionError(f"{' '.join(command)}: {error.stderr}") from error
