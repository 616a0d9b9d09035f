"""A CDN in small: nginx in front of a public bucket, with a cache, for reading only."""

import contextlib
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from services.ports import free_ports
from services.seaweedfs import BUCKET
from waiting import until

_AROUND = """
daemon off;
user root;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 256; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
{site}}}
"""

# The raw target goes on as it came: nginx would decode it, and encode it in its own way.
_CDN = """\
    proxy_cache_path {folder}/cache keys_zone=cdn:1m;
    map $request_uri $raw_path {{ "~^(?<path>[^?]*)" $path; }}
    upstream bucket {{ server {bucket}; keepalive 8; }}
    server {{
        listen 127.0.0.1:{port};
        location = /ready {{ return 204; }}
        location / {{
            limit_except GET {{ deny all; }}
            proxy_pass http://bucket/{name}$raw_path;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Authorization "";
            proxy_cache cdn;
            {valid_404}
            proxy_force_ranges on;
            add_header X-Cache $upstream_cache_status;
            add_header X-Content-Type-Options nosniff;  # the transform rule of docs/r2.md
        }}
    }}
"""

_BELOW = """\
    map $request_uri $behind {{ "~^{path}(?<rest>/.*)$" $rest; }}
    server {{
        listen 127.0.0.1:{port};
        location = /ready {{ return 204; }}
        location {path}/ {{ proxy_pass http://127.0.0.1:{server_port}$behind; }}
    }}
"""


@contextlib.contextmanager
def nginx_cdn(folder: Path, endpoint_url: str, *, keeps_404: bool = True) -> Iterator[str]:
    """Run one; gives what to put in front of keys.

    Args:
        keeps_404: As Cloudflare does without a rule.
    """
    (port,) = free_ports(1)
    site = _CDN.format(
        folder=folder,
        bucket=urlsplit(endpoint_url).netloc,
        port=port,
        name=BUCKET,
        valid_404="proxy_cache_valid 404 3m;" if keeps_404 else "",
    )
    with _nginx(folder, port, site):
        yield f"http://127.0.0.1:{port}"


@contextlib.contextmanager
def nginx_below(folder: Path, port: int, server_port: int, path: str) -> Iterator[None]:
    """A proxy that has a server below `path`, and takes that away from what it passes on."""
    with _nginx(folder, port, _BELOW.format(port=port, server_port=server_port, path=path)):
        yield


@contextlib.contextmanager
def _nginx(folder: Path, port: int, site: str) -> Iterator[None]:
    binary = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    assert binary, "nginx is missing: apt-get install nginx-light"
    (folder / "nginx.conf").write_text(_AROUND.format(folder=folder, site=site))
    process = subprocess.Popen(
        [binary, "-c", f"{folder}/nginx.conf", "-e", f"{folder}/error.log"],
        stdin=subprocess.DEVNULL,
    )
    try:
        _wait_until_ready(process, f"http://127.0.0.1:{port}", folder / "error.log")
        yield
    finally:
        process.terminate()
        process.wait()


def _wait_until_ready(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    until(
        lambda: httpx.get(f"{url}/ready").status_code == 204,
        despite=httpx.TransportError, by=process, said=log.read_text,
    )  # fmt: skip
