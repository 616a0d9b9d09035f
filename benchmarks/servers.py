"""How Stillroom is started and stopped, and how one talks to it and to its peers."""

import contextlib
import dataclasses
import functools
import http.client
import os
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal, Self

import httpx
import jwt

from benchmarks.ports import free_ports
from benchmarks.processes import LOAD_CORE, SERVER_CORE, cores, pinned

IMAGES: Final = "/api/v1/storage/images"

SAVED: Final = (200, 201, 204)
"""What the servers answer to a save that has succeeded."""

CDN: Final = "https://cdn.example.com"

_PIECE_BYTES: Final = 64 * 1024
"""Of pixels, in one chunk: as Pillow writes them."""
_FRAME_BYTES: Final = 12
"""Of a chunk beside its content: length, kind and check sum."""

SECRET: Final = "a secret of 32 bytes for benchmarks only"  # noqa: S105  (on loopback, for minutes)
"""Of the servers that accept the same tokens."""

STILLROOM: Final = Path(sys.executable).with_name("stillroom")
_READY_WITHIN_S: Final = 60


@dataclass(frozen=True)
class Server:
    """A running server.

    Attributes:
        name: As the tables have it.
        pid: The root of its process tree.
        front_pid: The same of the proxy in front, if there is one.
        prefix: What stands before an image's path in a request target.
        fields: Sent with every request.
        upload: A multipart form with the part `file`, or the bytes as they are.
        folder: Where its images lie: a folder, or the URL of one in SeaweedFS's filer.
        ready_after_s: How long it took from its start until it said that it was ready.
    """

    name: str
    pid: int
    port: int
    prefix: str
    folder: Path | str
    fields: dict[str, str] = field(default_factory=dict)
    upload: Literal["form", "put"] = "form"
    ready_after_s: float = 0
    front_pid: int | None = None

    @property
    def pids(self) -> list[int]:
        """The roots of all that a request to it keeps busy."""
        return [pid for pid in (self.pid, self.front_pid) if pid is not None]

    def at(self, folder: str) -> Self:
        """The same server, with its images elsewhere."""
        return dataclasses.replace(self, folder=folder)

    def save(self, path: str, body: bytes, client: httpx.Client | None = None) -> None:
        """Save one image, in the way in which this server is measured."""
        url = f"http://127.0.0.1:{self.port}{self.prefix}{path}"
        post = client.post if client else httpx.post
        if self.upload == "put":
            answer = httpx.put(url, content=body, headers=self.fields, timeout=60)
        else:
            answer = post(url, files={"file": body}, headers=self.fields, timeout=60)
        if answer.status_code not in SAVED:
            raise RuntimeError(f"{self.name} refused an image: {answer.status_code} {answer.text}")

    def make_folder(self, name: str) -> None:
        """Not every peer makes folders on the way."""
        if isinstance(self.folder, Path):
            (self.folder / name).mkdir(parents=True)

    def clear(self, name: str) -> None:
        """Free what the images of a folder take, behind the server's back; their names stay.

        Nothing is deleted: ext4 looks at each inode that was freed within some minutes before it
        takes another one (`recently_deleted`), and what is measured next would pay for that.
        """
        if isinstance(self.folder, Path):
            for file in (self.folder / name).iterdir():
                os.truncate(file, 0)
            os.sync()  # what is freed is discarded with the next commit
        else:
            everything = {"recursive": "true", "ignoreRecursiveError": "true"}
            httpx.delete(f"{self.folder}/{name}", params=everything, timeout=120)


@dataclass(frozen=True)
class Started:
    """A process that is ready, and how long that took."""

    pid: int
    after_s: float


@contextlib.contextmanager
def stillroom(
    folder: Path,
    *,
    name: str = "Stillroom",
    workers: int = 1,
    variables: dict[str, str] | None = None,
    program: Path = STILLROOM,
) -> Iterator[Server]:
    """As it is shipped: `stillroom serve`, tokens checked, durable, SHA-256, no access log."""
    (port,) = free_ports(1)
    folder.mkdir(exist_ok=True, parents=True)
    inherited = {
        key: value for key, value in os.environ.items() if not key.startswith(("STILLROOM_", "R2_"))
    }
    environment = {
        **inherited,
        "STILLROOM_DATA_DIR": str(folder),
        "STILLROOM_PORT": str(port),
        "STILLROOM_MAX_UPLOAD_BYTES": str(2 * 1024**3),
        **(variables or {}),
    }
    command = [str(program), "serve", "--workers", str(workers)]
    log = folder.with_name(f"{folder.name}.log")
    core = SERVER_CORE if workers == 1 else None
    with running_process(
        command, port, "/readyz", log, environment=environment, core=core
    ) as started:
        own = environment.get("STILLROOM_JWT_SECRET")
        token = minted(own) if own else _token(folder, _secret_made_ns(folder))
        fields = {"Authorization": f"Bearer {token}"}
        images = folder / "compute"
        yield Server(
            name, started.pid, port, f"{IMAGES}/", images, fields, ready_after_s=started.after_s
        )


def index_images(server: Server) -> None:
    """Index what was put there by hand, else the server does it beside what is measured."""
    folder = str(Path(server.folder).parent)
    variables = {"STILLROOM_DATA_DIR": folder, "STILLROOM_JWT_SECRET": SECRET}
    subprocess.run(
        [STILLROOM, "index", "rebuild"],
        env={**os.environ, **variables},
        check=True,
        capture_output=True,
    )


def image_bytes(size: int) -> bytes:
    """A PNG of so many bytes as a generator writes it: how it was made, and pixels in pieces."""
    shape = struct.pack(">IIBBBBB", 1024, 1024, 8, 2, 0, 0, 0)
    made = b"parameters\0a red fox in the snow\nSteps: 20, Sampler: Euler, Seed: 7, Size: 1024x1024"
    start = b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", shape) + _chunk(b"tEXt", made)
    end = _chunk(b"IEND", b"")
    left = size - len(start) - len(end)
    number = -(-left // _PIECE_BYTES)
    each, more = divmod(left, number)
    piece = _chunk(b"IDAT", os.urandom(each - _FRAME_BYTES))
    last = _chunk(b"IDAT", os.urandom(each + more - _FRAME_BYTES))
    return b"".join((start, piece * (number - 1), last, end))


def _chunk(kind: bytes, content: bytes) -> bytes:
    check = zlib.crc32(kind + content)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", check)


def minted(secret: str, number: int = 0) -> str:
    """A token that may do everything for a day; another one for each number."""
    claims = {"sub": f"benchmark-{number}", "exp": int(time.time()) + 86_400}
    return jwt.encode(claims, secret, "HS256")


@functools.cache
def _token(folder: Path, _made_ns: int) -> str:
    """What `stillroom token` prints for this data directory, as long as its secret stays."""
    command = [str(STILLROOM), "token", "--data-dir", str(folder)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def _secret_made_ns(folder: Path) -> int:
    return (folder / ".stillroom" / "secret").stat().st_mtime_ns


@contextlib.contextmanager
def running_process(
    command: list[str],
    port: int,
    ready: str,
    log: Path,
    *,
    environment: dict[str, str] | None = None,
    core: int | None = SERVER_CORE,
    cwd: Path | None = None,
    patient: bool = True,
) -> Iterator[Started]:
    """A process on its core, ready; on None on both. `patient` waits for an orderly end."""
    wanted = cores(SERVER_CORE, LOAD_CORE) if core is None else cores(core)
    begun = time.monotonic()
    with log.open("ab") as stream:
        process = subprocess.Popen(
            [*pinned(wanted), *command],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=stream,
            cwd=cwd,
        )
    try:
        while not _answers(port, ready):
            if process.poll() is not None or time.monotonic() > begun + _READY_WITHIN_S:
                raise RuntimeError(f"{command[:4]} did not start:\n{log.read_text()[-2000:]}")
            time.sleep(0.005)  # a condition with a deadline: nothing tells when it is ready
        yield Started(process.pid, time.monotonic() - begun)
    finally:
        if patient:
            process.terminate()
        else:
            process.kill()  # SeaweedFS takes up to 25 s after SIGTERM
        process.wait(60)


def _answers(port: int, target: str) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", target)
        return connection.getresponse().status in SAVED
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
