"""A stub of Cloudflare's API for purges, and nginx with a cache as the edge that it purges.

The stub keeps the documented limits: 100 URLs in a request, hosts of the zone only, the right
token, and a token bucket of URLs. https://developers.cloudflare.com/cache/how-to/purge-cache/
"""

import contextlib
import hashlib
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import httpx

from listening import Handler, listening
from services.seaweedfs import BUCKET

ZONE: Final = "0123456789abcdef0123456789abcdef"
TOKEN: Final = "purge-only-token"
MAX_URLS: Final = 100


@dataclass(frozen=True)
class Failure:
    status: int
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Cloudflare:
    """What the API got, and the cache that it purges.

    Attributes:
        fail: Called before each purge. The request fails if it returns a failure.
        note: Called with each URL that is purged.
        purged: Times of the purges of each URL, of requests that succeeded.
    """

    url: str
    edge: str
    cache: Path
    fail: Callable[[], Failure | None] = lambda: None
    note: Callable[[str], None] = lambda _url: None
    purged: dict[str, list[float]] = field(default_factory=dict)
    statuses: Counter[int] = field(default_factory=Counter)
    largest: int = 0
    tokens: float = 800.0
    per_s: float = 800.0
    _filled: float = field(default_factory=time.monotonic)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def variables(self) -> dict[str, str]:
        """Settings of a server whose images are at the edge."""
        return {
            "R2_PUBLIC_URL": self.edge,
            "CLOUDFLARE_ZONE_ID": ZONE,
            "CLOUDFLARE_API_TOKEN": TOKEN,
            "CLOUDFLARE_API_URL": f"{self.url}/client/v4",
        }

    def answer(self, path: str, authorization: str, body: bytes) -> tuple[Failure, dict[str, Any]]:
        with self._lock:
            failure = self._refusal(path, authorization, body)
            self.statuses[failure.status] += 1
        is_well = failure.status == 200
        errors = [] if is_well else [{"code": 1000 + failure.status, "message": "no purge"}]
        return failure, {"success": is_well, "errors": errors}

    def _refusal(self, path: str, authorization: str, body: bytes) -> Failure:
        if authorization != f"Bearer {TOKEN}":
            return Failure(403)
        if path != f"/client/v4/zones/{ZONE}/purge_cache":
            return Failure(404)
        urls = json.loads(body)["files"]
        self.largest = max(self.largest, len(urls))
        host = urlsplit(self.edge).netloc
        if not 1 <= len(urls) <= MAX_URLS or any(urlsplit(url).netloc != host for url in urls):
            return Failure(400)
        if (failure := self.fail()) is not None:
            return failure
        now = time.monotonic()
        self.tokens = min(800.0, self.tokens + (now - self._filled) * self.per_s)
        self._filled = now
        if self.tokens < len(urls):
            return Failure(429, {"retry-after": "1"})
        self.tokens -= len(urls)
        for url in urls:
            self._purge(url)
        return Failure(200)

    def _purge(self, url: str) -> None:
        """Delete the file that nginx has for the URL (its name is a hash of the URL behind it)."""
        key = f"http://bucket/{BUCKET}{urlsplit(url).path}"
        (self.cache / hashlib.md5(key.encode()).hexdigest()).unlink(missing_ok=True)
        self.note(url)
        self.purged.setdefault(url, []).append(time.monotonic())

    def read(self, key: str) -> httpx.Response:
        """Read an object at the edge, as everyone can."""
        return httpx.get(f"{self.edge}/{key}", timeout=60)


@contextlib.contextmanager
def cloudflare(edge: str, cache: Path) -> Iterator[Cloudflare]:
    """Run the API, for an edge whose cache is in a folder."""
    stub = Cloudflare("", edge, cache)

    class Answering(Handler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:  # noqa: N802  (the name in the standard library)
            body = self.rfile.read(int(self.headers["content-length"]))
            said, content = stub.answer(self.path, self.headers["authorization"] or "", body)
            text = json.dumps(content).encode()
            self.answer(said.status, text, said.headers | {"content-length": str(len(text))})

    with listening(Answering) as url:
        stub.url = url
        yield stub
