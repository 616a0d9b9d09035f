"""A server as its users start it: the installed command, and a port."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from click.testing import CliRunner

from services.forking import fork_server
from services.ports import free_ports
from services.process import answers, spawn
from services.trust import TRUST
from stillroom.cli.main import commands
from surroundings import inherited
from waiting import until

_TELL_PEAK = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, check=True)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""
STILLROOM = str(Path(sys.executable).parent / "stillroom")
IMAGES = "/api/v1/storage/images"
_MINTING = threading.Lock()  # it sets the environment and the output of the whole process

_log_sizes: dict[Path, int] = {}
"""The log of each server that this process has started, and its size when the test began."""
_MOST_SHOWN_LINES = 60


def remember_logs() -> None:
    for log in list(_log_sizes):
        if log.exists():
            _log_sizes[log] = log.stat().st_size
        else:
            del _log_sizes[log]


def new_log_lines() -> list[tuple[str, str]]:
    found = []
    for log, size in _log_sizes.items():
        if log.exists() and (text := log.read_bytes()[size:].decode(errors="replace")):
            lines = text.splitlines()[-_MOST_SHOWN_LINES:]
            found.append((f"log of the server in {log.parent.name}", "\n".join(lines)))
    return found


@dataclass
class Verified:
    status: int
    report: dict[str, Any]
    log: str

    def names(self, kind: str) -> list[str]:
        return [found["name"] for found in self.report["findings"] if found["kind"] == kind]


def verify(data: Path, *flags: str) -> Verified:
    """Run it on a data directory, or on the bucket that the environment names."""
    ran = subprocess.run(
        [STILLROOM, "verify", "--json", "--data-dir", str(data), *flags],
        capture_output=True,
        text=True,
        check=False,
    )
    return Verified(ran.returncode, json.loads(ran.stdout or "{}"), ran.stderr)


def free_port() -> int:
    (port,) = free_ports(1)
    return port


@dataclass
class Server:
    process: subprocess.Popen[bytes]
    data: Path
    port: int
    log: Path
    environment: dict[str, str]
    minted: dict[tuple[str, ...], str] = field(default_factory=dict)
    root: str = ""
    """The path that all of it is below."""
    follows: bool = False
    """Whether a client follows redirects, as one of a bucket's images must."""

    keeps: bool = True
    """Whether a client sends a second request over a connection."""

    def __post_init__(self) -> None:
        _log_sizes.setdefault(self.log, 0)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}{self.root}"

    @property
    def images(self) -> str:
        return self.url + IMAGES

    def token(self, *options: str) -> str:
        """What `stillroom token` prints; asked for once for the same options.

        In this process: one of its own takes as long to start as half a server.
        """
        if options not in self.minted:
            ours = (*os.environ, *self.environment)
            environment = {
                name: self.environment.get(name) for name in ours if name.startswith("STILLROOM_")
            }
            arguments = ["token", "--data-dir", str(self.data), *options]
            with _MINTING:
                ran = CliRunner().invoke(commands, arguments, env=environment)
            assert ran.exit_code == 0, ran.output
            self.minted[options] = ran.stdout.strip()
        return self.minted[options]

    def client(self, *options: str) -> httpx.Client:
        headers = {"Authorization": f"Bearer {self.token(*options)}"}
        return httpx.Client(
            base_url=self.url,
            headers=headers,
            timeout=300,  # as long as `until` waits: a single busy core may be this slow
            follow_redirects=self.follows,
            limits=httpx.Limits(max_keepalive_connections=20 if self.keeps else 0),
            verify=TRUST,
        )

    def logged(self) -> str:
        return self.log.read_text()

    def children(self) -> list[int]:
        """The worker processes: a single one is a fork of the supervisor, others are spawned."""
        own = Path(f"/proc/{self.process.pid}/cmdline").read_bytes()
        found = []
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError, ValueError, IndexError):
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                command = (entry / "cmdline").read_bytes()
                is_worker = command == own or b"spawn_main" in command
                if int(fields[1]) == self.process.pid and is_worker:
                    found.append(int(entry.name))
        return found

    @property
    def pid(self) -> int:
        """The process that responds: the first worker, or the host that has the store in it."""
        return next(iter(self.children()), self.process.pid)

    def kill(self) -> None:
        """SIGKILL to all processes at once; returns when they are gone."""
        processes = [self.process.pid, *self.children()]
        for pid in processes:
            with contextlib.suppress(ProcessLookupError):  # workers end with their supervisor
                os.kill(pid, signal.SIGKILL)
        self.process.wait()
        until(lambda: all(is_gone(pid) for pid in processes))

    def stop(self) -> int:
        self.process.terminate()
        return self.process.wait(timeout=120)


def is_gone(pid: int) -> bool:
    """Whether a process holds nothing any more; init may take its time to reap it."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        return state == "Z" and len(os.listdir(f"/proc/{pid}/task")) == 1
    except (FileNotFoundError, ProcessLookupError):
        return True


@contextlib.contextmanager
def running(
    folder: Path,
    *flags: str,
    data: Path | None = None,
    under: str = "",
    program: str = "",
    ready: str = "/readyz",
    **settings: str,
) -> Iterator[Server]:
    """A server on `data` (`folder`/data), of which `ready` is 200; it is stopped afterwards.

    `under` is a command that starts another, such as `setpriv --bounding-set=-all`; `program` is
    the `stillroom` to run, perhaps of another environment. Without them, the server is forked from
    a process that has imported its modules, which takes half the CPU time.
    """
    port = free_port()
    data = data or folder / "data"
    environment = {
        **inherited(),
        "STILLROOM_DATA_DIR": str(data),
        "STILLROOM_PORT": str(port),
        "STILLROOM_MIN_FREE_BYTES": "0",
        **{f"STILLROOM_{name.upper()}": value for name, value in settings.items()},
    }
    log = folder / "server.log"
    command = [*under.split(), program or STILLROOM, "serve", *flags]
    forked = None if under or program else fork_server(command, log, environment)
    process = forked or spawn(command, log, environment=environment)
    server = Server(process, data, port, log, environment)
    try:
        wait_until_ready(server, ready)
        yield server
    finally:
        if process.poll() is None:
            server.stop()


def wait_until_ready(server: Server, path: str = "/readyz") -> None:
    until(
        answers(server.url + path),
        despite=httpx.TransportError, by=server.process, said=server.logged,
    )  # fmt: skip


def exchange(port: int, request: bytes, *, timeout_s: float = 60) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=timeout_s) as connection:
        connection.sendall(request)
        with connection.makefile("rb") as answer:
            return answer.read()


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def parsed(answer: bytes) -> Answer:
    """Take an answer apart; its body is all that follows the head."""
    head, _, body = answer.partition(b"\r\n\r\n")
    status_line, *lines = head.decode("latin-1").split("\r\n")
    headers = {}
    for line in lines:
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip()
    return Answer(int(status_line.split()[1]), headers, body)


def reset_peak(pid: int) -> int:
    Path(f"/proc/{pid}/clear_refs").write_text("5")
    return peak_bytes(pid)


def peak_bytes(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no VmHWM")


def peak_bytes_of(command: Sequence[str]) -> int:
    """The highest use of memory of a command that succeeds.

    A small process starts it: the kernel counts a child's memory from that of its parent.
    """
    told = subprocess.check_output([sys.executable, "-c", _TELL_PEAK, *command])
    return int(told) * 1024
