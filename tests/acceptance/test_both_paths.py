"""Random requests to two servers on the same images, one of them without the fast path.

Each answer must be the same: status, fields and bytes. The images are replaced and deleted all
the while, and the tokens differ in scopes, folder and end. A failure prints the request; the
seed makes all of it again. `STILLROOM_TEST_REQUESTS` says how many; 200,000 take some minutes more.
"""

import os
import random
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import httpx
import jwt
import pytest

from running import IMAGES, Server, parsed, running

REQUESTS = int(os.environ.get("STILLROOM_TEST_REQUESTS", "20000"))
SEED = 20261125
SECRET = "the secret of two servers, long enough"

PNG = b"\x89PNG\r\n\x1a\n"
SIZES = (9, 300, 4_000, 4_000, 60_000, 64 * 1024, 64 * 1024 + 1, 300_000, 2_000_000)
STARTS = (PNG, PNG, b"RIFF\0\0\0\0WEBPVP8 ", b"<script>alert(1)</script>")
NAMES = [f"{folder}{name}" for folder in ("", "a/", "a/b/", "ab/")
         for name in ("1.png", "2.png", "Zo\u00eb 1+1.png", "x")]  # fmt: skip
AGENTS = ("curl/8.14.1", "python-httpx/0.28.1", "Mozilla/5.0 (X11)", "worker")


@dataclass
class Connection:
    """A keep-alive connection, opened anew when the server has closed it."""

    server: Server
    stream: IO[bytes] | None = None
    link: socket.socket | None = None

    def send(self, request: bytes) -> None:
        if self.link is None:
            self.link = socket.create_connection(("127.0.0.1", self.server.port), timeout=60)
            self.stream = self.link.makefile("rb")
        self.link.sendall(request)

    def receive(self, *, has_body: bool) -> tuple[int, list[tuple[str, str]], bytes]:
        """Status, fields in order of their names, and body; without what is always another."""
        assert self.stream is not None
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            line = self.stream.readline()
            assert line, head
            head += line
        found = parsed(head)
        length = int(found.headers.get("content-length", "0"))
        body = self.stream.read(length) if has_body and found.status != 304 else b""
        if found.headers.get("connection") == "close":
            self.close()
        del found.headers["date"]
        if len(found.headers.get("x-request-id", "")) == 16:  # generated
            found.headers["x-request-id"] = "generated"
        return found.status, sorted(found.headers.items()), body

    def close(self) -> None:
        if self.stream is not None and self.link is not None:
            self.stream.close()
            self.link.close()
        self.stream = self.link = None


@dataclass
class World:
    """What is stored, and who asks."""

    chance: random.Random
    writer: httpx.Client
    etags: dict[str, str] = field(default_factory=dict)
    old_etags: list[str] = field(default_factory=lambda: ['"none"'])
    tokens: list[str] = field(default_factory=list)
    ends: float = 0.0

    def change(self) -> None:
        """Save, replace or delete an image."""
        name = self.chance.choice(NAMES)
        if name in self.etags:
            self.old_etags.append(self.etags[name])
            del self.old_etags[:-20]
        if name in self.etags and self.chance.random() < 0.3:
            self.writer.delete(f"{IMAGES}/{name}").raise_for_status()
            del self.etags[name]
            return
        data = self.chance.choice(STARTS) + self.chance.randbytes(self.chance.choice(SIZES))
        answer = self.writer.post(f"{IMAGES}/{name}", files={"file": data})
        if answer.status_code == 200:
            self.etags[name] = answer.json()["etag"]
        else:
            assert answer.status_code == 409, answer.text  # `x` beside `x/`

    def renew_tokens(self) -> None:
        """Four scopes, three folders, some about to end, and some that were never good."""
        now = int(time.time())
        self.ends = now + 3
        self.tokens = ["", "Bearer x.y.z", "Basic abc"]
        for scope in ("storage:read", "storage:read storage:write", "storage:delete", "media"):
            for folder in ("", "a/", "a/b/"):
                for ends in (now + 3600, now + 3, now - 5):
                    said = {"iat": now - 10, "exp": ends, "scope": scope}
                    said |= {"prefix": folder} if folder else {}
                    self.tokens.append("Bearer " + jwt.encode(said, SECRET, "HS256"))

    def request(self) -> tuple[bytes, bool]:
        """A request, and whether its answer has a body."""
        chance = self.chance
        method = chance.choices(("GET", "HEAD", "OPTIONS", "PUT"), (20, 5, 1, 1))[0]
        name = chance.choice([*NAMES, *self.etags, "missing.png", "a", "../x", "a//b", "%00"])
        target = f"{IMAGES}/{httpx.URL('http://a/' + name).raw_path.decode()[1:]}"
        target += chance.choices(("", "?x=1", "?width=0"), (30, 1, 1))[0]
        lines = [f"{method} {target} HTTP/1.1", "Host: a",
                 f"User-Agent: {chance.choice(AGENTS)}"]  # fmt: skip
        # Most requests are those that applications make.
        token = self.tokens[3] if chance.random() < 0.5 else chance.choice(self.tokens)
        lines += [f"Authorization: {token}"] if token else []
        for make, likely in (
            (self._condition, 0.3), (self._condition, 0.05), (self._range, 0.2),
            (self._request_id, 0.1), (self._other, 0.05),
        ):  # fmt: skip
            if chance.random() < likely:
                lines.append(make(name))
        return "\r\n".join([*lines, "", ""]).encode(), method != "HEAD"

    def _condition(self, name: str) -> str:
        tag = self.chance.choice(
            [self.etags.get(name, '"none"'), self.chance.choice(self.old_etags), "*", "W/", "x"]
        )
        if tag == "W/":
            tag += self.etags.get(name, '"none"')
        if self.chance.random() < 0.2:
            tag = f'"other", {tag}'
        date = self.chance.choice(
            ("Tue, 24 Nov 2099 00:00:00 GMT", "Sun, 06 Nov 1994 08:49:37 GMT", "yesterday")
        )
        return self.chance.choice(
            (f"If-None-Match: {tag}", f"If-Match: {tag}", f"If-Range: {tag}",
             f"If-Modified-Since: {date}", f"If-Unmodified-Since: {date}", f"If-Range: {date}")
        )  # fmt: skip

    def _range(self, _: str) -> str:
        first, last = self.chance.choice(SIZES), self.chance.choice(SIZES)
        return "Range: " + self.chance.choice(
            (f"bytes={first}-{last}", f"bytes={first}-", f"bytes=-{last}", "bytes=0-0",
             "bytes=0-1,3-4", "lines=1-2", "bytes=-0", f"bytes={'9' * 30}-")
        )  # fmt: skip

    def _request_id(self, _: str) -> str:
        return self.chance.choice(("X-Request-Id: mine", "x-request-id:mine", "X-Request-Id: m;e"))

    def _other(self, _: str) -> str:
        return self.chance.choice(
            ("Connection: keep-alive", "Origin: https://example.com", "Accept: image/*",
             "Content-Length: 0", "Connection: close", "Expect: 100-continue")
        )  # fmt: skip


@pytest.fixture
def paths(tmp_path: Path) -> Iterator[tuple[Server, Server]]:
    """A server with the fast path, and one without."""
    with (
        running(tmp_path, jwt_secret=SECRET) as fast,
        running(
            tmp_path, data=fast.data, jwt_secret=SECRET, fast_path="false", public_base_url=fast.url
        ) as asgi,
    ):
        yield fast, asgi


@pytest.mark.whole
@pytest.mark.timeout(1800)
def test_both_paths_answer_random_requests_alike(paths: tuple[Server, Server]) -> None:
    fast, asgi = (Connection(server) for server in paths)
    with paths[0].client() as writer:
        world = World(random.Random(SEED), writer)
        for _ in range(40):
            world.change()
        for number in range(REQUESTS):
            if number % 50 == 0:
                world.change()
            if time.time() > world.ends + 2:
                world.renew_tokens()
            request, has_body = world.request()
            answers = []
            for _ in range(10):
                for connection in (fast, asgi):
                    connection.send(request)
                answers = [connection.receive(has_body=has_body) for connection in (fast, asgi)]
                # A token may end between the two: then both must say so the next time.
                if answers[0] == answers[1] or 401 not in (answers[0][0], answers[1][0]):
                    break
            assert answers[0] == answers[1], (number, request)
    fast.close()
    asgi.close()
