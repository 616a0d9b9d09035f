"""The proxies that operators put in front: the files of deploy/, with other names and numbers."""

import contextlib
import itertools
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

from services.ports import free_ports
from services.process import answers, program, started

DEPLOY = Path(__file__).parents[2] / "deploy"
FRAMING_BYTES = 256 * 1024

_NGINX = """
daemon off;
{user}
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
    for there, instead in changes.items():
        assert text.count(there) == 1, there
        text = text.replace(there, instead)
    return text


@contextlib.contextmanager
def nginx_proxy(
    folder: Path,
    port: int,
    server_port: int,
    *,
    max_upload_bytes: int,
    sends_for: tuple[Path, str] | None = None,
    **how: bool,
) -> Iterator[None]:
    """Run nginx with `deploy/nginx.conf` on `port`.

    It sends large images of the data directory of `sends_for` itself, if the key with it is right.
    """
    changes = {
        "server 127.0.0.1:8000;": f"server 127.0.0.1:{server_port};",
        **_of_this_run(port, max_upload_bytes, **how),
    }
    if sends_for is not None:
        changes |= sending(folder, *sends_for)
    with nginx(folder, changed((DEPLOY / "nginx.conf").read_text(), changes), port):
        yield


def sending(folder: Path, data: Path, key: str) -> dict[str, str]:
    part = (DEPLOY / "nginx-sendfile.conf").read_text()
    part = changed(part, {"alias /var/lib/stillroom/": f"alias {data}/"})
    (folder / "sendfile.conf").write_text(part)
    return {
        "# include /etc/nginx/stillroom-sendfile.conf;": f"include {folder}/sendfile.conf;",
        '# proxy_set_header X-Stillroom-Sendfile "yours: STILLROOM_SENDFILE_KEY";': (
            f'proxy_set_header X-Stillroom-Sendfile "{key}";'
        ),
    }


@contextlib.contextmanager
def nginx_cluster(
    folder: Path, port: int, *server_ports: int, max_upload_bytes: int, **how: bool
) -> Iterator[None]:
    """Run nginx with `deploy/cluster/nginx.conf` on `port`; a server alone stands for all three."""
    servers = itertools.cycle(server_ports)
    changes = {
        f"server 127.0.0.1:{shipped_port} ": f"server 127.0.0.1:{next(servers)} "
        for shipped_port in (8001, 8002, 8003)
    } | _of_this_run(port, max_upload_bytes, **how)
    with nginx(folder, changed((DEPLOY / "cluster/nginx.conf").read_text(), changes), port):
        yield


def _of_this_run(port: int, max_upload_bytes: int, *, hides: bool = False) -> dict[str, str]:
    """Changes for a run; with `hides`, what needs no token is hidden."""
    most = max_upload_bytes + FRAMING_BYTES
    changes = {
        "listen 80;": f"listen 127.0.0.1:{port};",
        "client_max_body_size 102656k;": f"client_max_body_size {most};",
    }
    if hides:
        changes["# location ~ "] = "location ~ "
    return changes


@contextlib.contextmanager
def nginx_tls_proxy(
    folder: Path,
    port: int,
    server_ports: list[int],
    shown: Path,
    *,
    changes: dict[str, str] | None = None,
) -> Iterator[int]:
    (plain,) = free_ports(1)
    first, *more = server_ports
    numbers = {
        "server 127.0.0.1:8000;": f"server 127.0.0.1:{first};",
        "# server 10.0.0.12:8000;": "".join(f"server 127.0.0.1:{other};" for other in more),
        "listen 80;": f"listen 127.0.0.1:{plain};",
        "listen 443 ssl;": f"listen 127.0.0.1:{port} ssl;",
        "/etc/ssl/images.example.com/fullchain.pem;": f"{shown};",
        "/etc/ssl/images.example.com/key.pem;": f"{shown};",
    }
    shipped = (DEPLOY / "nginx-tls.conf").read_text().replace("images.example.com;", "localhost;")
    with nginx(folder, changed(shipped, numbers | (changes or {})), plain, answer=301):
        yield plain


@contextlib.contextmanager
def nginx(folder: Path, site: str, port: int, *, answer: int = 404) -> Iterator[None]:
    """Run nginx with a site, which responds to requests for `/nothing` with `answer`."""
    (folder / "stillroom.conf").write_text(site.replace("/var/log/nginx/", f"{folder}/"))
    config = folder / "nginx.conf"
    user = "user root;" if os.geteuid() == 0 else ""  # other users get a warning
    config.write_text(_NGINX.format(folder=folder, user=user))
    log = folder / "proxy.log"
    command = [program("nginx", "nginx-light"), "-c", str(config), "-e", str(log)]
    _checked([*command, "-t"])
    with started(command, log, answers(f"http://127.0.0.1:{port}/nothing", answer)):
        yield


@contextlib.contextmanager
def caddy_proxy(
    folder: Path, port: int, server_port: int, *, max_upload_bytes: int, hides: bool = False
) -> Iterator[None]:
    most = max_upload_bytes + FRAMING_BYTES
    changes = {
        "reverse_proxy 127.0.0.1:8000 {": f"reverse_proxy 127.0.0.1:{server_port} {{",
        "\nimages.example.com {": f"\nhttp://127.0.0.1:{port}, http://:{port} {{",
        "max_size 102656KiB": f"max_size {most}",
    }
    if hides:
        changes |= {"# @internal": "@internal", "# respond": "respond"}
    with _caddy(folder, changes, port):
        yield


@contextlib.contextmanager
def caddy_tls_proxy(folder: Path, port: int, server_port: int, shown: Path) -> Iterator[None]:
    (plain,) = free_ports(1)  # to see by that it runs
    changes = {
        "\n{\n": "\n{\n\tauto_https disable_redirects\n",  # not on this machine's port 80
        "reverse_proxy 127.0.0.1:8000 {": f"reverse_proxy 127.0.0.1:{server_port} {{",
        "\nimages.example.com {": (
            f"\nhttp://127.0.0.1:{plain} {{\n\tbind 127.0.0.1\n\trespond 404\n}}\n"
            f"https://localhost:{port} {{\n\tbind 127.0.0.1\n\ttls {shown} {shown}"
        ),
    }
    with _caddy(folder, changes, plain):
        yield


@contextlib.contextmanager
def _caddy(folder: Path, changes: dict[str, str], port: int) -> Iterator[None]:
    binary = program("caddy")
    config = folder / "Caddyfile"
    config.write_text(changed((DEPLOY / "Caddyfile").read_text(), changes))
    (admin,) = free_ports(1)
    environment = {
        **os.environ,
        "CADDY_ADMIN": f"127.0.0.1:{admin}",
        "XDG_DATA_HOME": str(folder / "caddy-data"),
        "XDG_CONFIG_HOME": str(folder / "caddy-config"),
    }
    words = ["--config", str(config), "--adapter", "caddyfile"]
    _checked([binary, "validate", *words], environment)
    log, ready = folder / "proxy.log", answers(f"http://127.0.0.1:{port}/nothing", 404)
    with started([binary, "run", *words], log, ready, environment=environment):
        yield


Proxy = Callable[..., AbstractContextManager[None]]
PROXIES: dict[str, Proxy] = {
    "nginx": nginx_proxy,
    "caddy": caddy_proxy,
    "nginx-cluster": nginx_cluster,
}


def _checked(command: list[str], environment: dict[str, str] | None = None) -> None:
    """The proxy's own check of its configuration: `nginx -t`, `caddy validate`."""
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert "[warn]" not in ran.stderr, ran.stderr
