"""A real filesystem in a file, which can be filled up and can lose its power."""

import contextlib
import fcntl
import os
import struct
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from waiting import until

_FS_IOC_SHUTDOWN = 0x8004587D
"""_IOR('X', 125, __u32): https://github.com/torvalds/linux/blob/master/include/uapi/linux/fs.h"""

_DROP_THE_LOG = 2
"""FS_SHUTDOWN_FLAGS_NOLOGFLUSH: what was not synced is lost, as in a power cut."""


@dataclass
class Disk:
    image: Path
    mount: Path
    options: str = "loop"

    def cut_power(self) -> None:
        fd = os.open(self.mount, os.O_RDONLY)
        try:
            fcntl.ioctl(fd, _FS_IOC_SHUTDOWN, struct.pack("I", _DROP_THE_LOG))
        finally:
            os.close(fd)

    def remount(self) -> None:
        self.unmount()
        run("mount", "-o", self.options, str(self.image), str(self.mount))

    def unmount(self) -> None:
        """Unmount when the processes that a killed server has started have ended, too."""
        command = ["umount", str(self.mount)]
        until(
            lambda: subprocess.run(command, check=False, capture_output=True).returncode == 0,
            said=lambda: run("findmnt", str(self.mount), expected=(0, 1)),
        )

    def break_down(self) -> None:
        """Have ext4 believe that it has met an error, and turn read-only for it.

        Source: https://www.kernel.org/doc/html/latest/admin-guide/abi-testing-files.html,
            /sys/fs/ext4/<disk>/trigger_fs_error
        """
        device = run("findmnt", "--noheadings", "--output", "SOURCE", str(self.mount)).strip()
        trigger = Path("/sys/fs/ext4") / Path(device).name / "trigger_fs_error"
        trigger.write_text("a test asks for it")

    def repair(self) -> None:
        """As an operator would before mounting a filesystem with errors again."""
        self.unmount()
        run("e2fsck", "-y", "-f", str(self.image), expected=(0, 1))
        run("mount", "-o", self.options, str(self.image), str(self.mount))


@contextlib.contextmanager
def loop_disk(
    folder: Path,
    *,
    kind: str,
    mib: int,
    inodes: int | None = None,
    options: str = "loop",
    image: Path | None = None,
) -> Iterator[Disk]:
    """Mount a new filesystem in `image`, by default a file in `folder`."""
    disk = Disk(image or folder / "disk.img", folder / "disk", options)
    disk.mount.mkdir(parents=True)
    with disk.image.open("wb") as file:
        file.truncate(mib * 1024**2)
    # ext4 keeps blocks back that only root may use, and the tests run as root.
    making = ["-m", "0"] if kind == "ext4" else []
    if inodes is not None:
        making += ["-N", str(inodes)]
    run(f"mkfs.{kind}", "-q", *making, str(disk.image))
    run("mount", "-o", options, str(disk.image), str(disk.mount))
    try:
        yield disk
    finally:
        disk.unmount()


def run(*command: str, expected: tuple[int, ...] = (0,)) -> str:
    try:
        ran = subprocess.run(command, check=False, capture_output=True, text=True)
    except FileNotFoundError:
        raise AssertionError(
            f"{command[0]} is missing: apt-get install e2fsprogs xfsprogs mount"
        ) from None
    assert ran.returncode in expected, f"{' '.join(command)}: {ran.stderr}"
    return ran.stdout
