"""A CDN in small: nginx in front of a public bucket, with a cache, for reading only."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from services.ports import free_ports
from services.proxies import nginx
from services.seaweedfs import BUCKET

# The raw target goes on as it came: nginx would decode it, and encode it in its own way.
_CDN = """\
    proxy_cache_path {folder}/cache keys_zone=cdn:1m;
    map $request_uri $raw_path {{ "~^(?<path>[^?]*)" $path; }}
    upstream bucket {{ server {bucket}; keepalive 8; }}
    server {{
        listen 127.0.0.1:{port};
        location = /nothing {{ return 404; }}
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
        location = /nothing {{ return 404; }}
        location {path}/ {{ proxy_pass http://127.0.0.1:{server_port}$behind; }}
    }}
"""


@contextlib.contextmanager
def nginx_cdn(folder: Path, endpoint_url: str, *, keeps_404: bool = True) -> Iterator[str]:
    """Run one that keeps 404, as Cloudflare does without a rule; what to put in front of keys."""
    (port,) = free_ports(1)
    bucket, valid_404 = urlsplit(endpoint_url).netloc, "proxy_cache_valid 404 3m;" * keeps_404
    site = _CDN.format(folder=folder, bucket=bucket, port=port, name=BUCKET, valid_404=valid_404)
    with nginx(folder, site, port):
        yield f"http://127.0.0.1:{port}"


@contextlib.contextmanager
def nginx_below(folder: Path, port: int, server_port: int, path: str) -> Iterator[None]:
    site = _BELOW.format(port=port, server_port=server_port, path=path)
    with nginx(folder, site, port):
        yield
