"""A real systemd, the first process of its own namespaces, with the units of deploy/ as they are.

It has a `/run`, an `/etc` and a `/var/lib` of its own over this machine's, no other units but the
few that ours name, and this checkout at `/opt/stillroom`. Needs root.
"""

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from services.installed import INSTALL, variables
from services.process import spawn, with_children
from services.proxies import DEPLOY
from waiting import until

_TARGETS = ("sysinit", "basic", "shutdown", "network-online", "multi-user", "timers", "sockets")

_BOOT = (
    "set -eu\n"
    + INSTALL
    + """
echo 'stillroom:x:10001:10001::/var/lib/stillroom:/usr/sbin/nologin' >> /etc/passwd
echo 'stillroom:x:10001:' >> /etc/group
mkdir -p /etc/stillroom
install -d -m 700 /etc/credstore
mount -t tmpfs tmpfs /var/lib
umount -l /sys/fs/cgroup
mount -t cgroup2 none /sys/fs/cgroup
mount -t proc proc /proc
mount --make-rshared /
exec env -i PATH="$PATH" container=other SYSTEMD_UNIT_PATH="$UNITS" \
  "$SYSTEMD" --system --unit=multi-user.target --log-target=console --show-status=no
"""
)


@dataclass(frozen=True)
class Manager:
    pid: int

    def run(self, *command: str, given: str | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["nsenter", f"--target={self.pid}", "--mount", "--pid", "--cgroup", *command],
            input=given,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )

    def write(self, file: str, text: str) -> None:
        """A file that only root can read."""
        script = f"umask 077 && cat > {file}"
        assert self.run("sh", "-c", script, given=text).returncode == 0

    def append(self, file: str, text: str) -> None:
        assert self.run("sh", "-c", f"cat >> {file}", given=text).returncode == 0

    def read(self, file: str) -> str:
        return self.run("cat", file).stdout

    def shown(self, unit: str, name: str) -> str:
        return self.run("systemctl", "show", "--property", name, "--value", unit).stdout.strip()


@contextlib.contextmanager
def systemd(folder: Path) -> Iterator[Manager]:
    binary = shutil.which("systemd", path="/usr/lib/systemd:/lib/systemd")
    assert binary, "systemd is missing: apt-get install systemd"
    shutil.copytree(DEPLOY / "systemd", folder, dirs_exist_ok=True)
    for name in _TARGETS:
        (folder / f"{name}.target").write_text("[Unit]\nDefaultDependencies=no\n")
    log = folder / "stillroom.service.d/log.conf"  # there is no journal
    log.parent.mkdir()
    log.write_text("[Service]\nStandardOutput=file:/run/stillroom.log\nStandardError=inherit\n")
    environment = {**variables(), "SYSTEMD": binary, "UNITS": str(folder)}
    with _cgroup() as cgroup:
        enter = f"echo $$ > {cgroup}/cgroup.procs && exec unshare --mount --pid --fork --cgroup "
        command = ["sh", "-c", enter + '--ipc --uts --kill-child sh -c "$0"', _BOOT]
        process = spawn(command, folder / "log", environment=environment)
        try:
            yield Manager(_booted(process, folder / "log"))
        finally:
            process.kill()
            process.wait()


def _booted(process: subprocess.Popen[bytes], log: Path) -> int:
    def up() -> int | None:
        for first in with_children(process.pid)[1:]:
            if Manager(first).shown("multi-user.target", "ActiveState") == "active":
                return first
        return None

    return until(up, by=process, said=log.read_text)


@contextlib.contextmanager
def _cgroup() -> Iterator[Path]:
    """A group of its own, gone afterwards with all that systemd has made in it."""
    mounted = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    root = next(Path(fields[1]) for fields in mounted if fields[2] == "cgroup2")
    ours = root / f"stillroom-{os.getpid()}"
    ours.mkdir()
    try:
        yield ours
    finally:
        until(lambda: "populated 1" not in (ours / "cgroup.events").read_text())
        for group, _, _ in os.walk(ours, topdown=False):
            os.rmdir(group)
