"""The proxies that operators put in front: the files of deploy/, with other names and numbers."""

import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import httpx

from services.ports import free_ports

DEPLOY = Path(__file__).parents[2] / "deploy"
FRAMING_BYTES = 256 * 1024
_READY_WITHIN_S = 20

_NGINX = """
daemon off;
user root;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/proxy.log;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    include {folder}/stillroom.conf;
}}
"""


def changed(text: str, changes: dict[str, str]) -> str:
    """The text with each of these put in the place of the one that is there."""
    for there, instead in changes.items():
        assert text.count(there) == 1, there
        text = text.replace(there, instead)
    return text


@contextlib.contextmanager
def nginx_proxy(
    folder: Path, port: int, server_port: int, *, max_upload_bytes: int, hides: bool = False
) -> Iterator[None]:
    """Run nginx with `deploy/nginx.conf` on `port`."""
    binary = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    assert binary, "nginx is missing: apt-get install nginx-light"
    most = max_upload_bytes + FRAMING_BYTES
    changes = {
        "server 127.0.0.1:8000;": f"server 127.0.0.1:{server_port};",
        "listen 80;": f"listen 127.0.0.1:{port};",
        "client_max_body_size 102656k;": f"client_max_body_size {most};",
    }
    if hides:
        changes["# location ~ "] = "location ~ "
    shipped = (DEPLOY / "nginx.conf").read_text()
    (folder / "stillroom.conf").write_text(changed(shipped, changes))
    config = folder / "nginx.conf"
    config.write_text(_NGINX.format(folder=folder))
    with _proxy([binary, "-c", str(config), "-e", f"{folder}/proxy.log"], folder, port):
        yield


@contextlib.contextmanager
def caddy_proxy(
    folder: Path, port: int, server_port: int, *, max_upload_bytes: int, hides: bool = False
) -> Iterator[None]:
    """Run Caddy with `deploy/Caddyfile` on `port`, without TLS."""
    binary = shutil.which("caddy")
    assert binary, "caddy is missing: apt-get install caddy"
    most = max_upload_bytes + FRAMING_BYTES
    changes = {
        "reverse_proxy 127.0.0.1:8000 {": f"reverse_proxy 127.0.0.1:{server_port} {{",
        "\nimages.example.com {": f"\nhttp://127.0.0.1:{port}, http://:{port} {{",
        "max_size 102656KiB": f"max_size {most}",
    }
    if hides:
        changes |= {"# @internal": "@internal", "# respond": "respond"}
    config = folder / "Caddyfile"
    config.write_text(changed((DEPLOY / "Caddyfile").read_text(), changes))
    (admin,) = free_ports(1)
    with _proxy(
        [binary, "run", "--config", str(config), "--adapter", "caddyfile"],
        folder,
        port,
        CADDY_ADMIN=f"127.0.0.1:{admin}",
        XDG_DATA_HOME=str(folder / "caddy-data"),
        XDG_CONFIG_HOME=str(folder / "caddy-config"),
    ):
        yield


Proxy = Callable[..., AbstractContextManager[None]]
PROXIES: dict[str, Proxy] = {"nginx": nginx_proxy, "caddy": caddy_proxy}


@contextlib.contextmanager
def _proxy(command: list[str], folder: Path, port: int, **variables: str) -> Iterator[None]:
    log = folder / "proxy.log"
    with log.open("ab") as stream:
        process = subprocess.Popen(
            command,
            env={**os.environ, **variables},
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=stream,
        )
    try:
        give_up = time.monotonic() + _READY_WITHIN_S
        while not _answers(port):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < give_up, log.read_text()
            time.sleep(0.05)  # a condition with a deadline: nothing tells when it is ready
        yield
    finally:
        process.terminate()
        process.wait()


def _answers(port: int) -> bool:
    with contextlib.suppress(httpx.TransportError):
        return httpx.get(f"http://127.0.0.1:{port}/").status_code == 404
    return False
