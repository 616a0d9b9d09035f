"""Clients that remember what the server has promised them, and check it afterwards."""

import hashlib
import random
import threading
import time
from dataclasses import dataclass, field

import httpx

from running import IMAGES, Server

Digest = str | None
"""The SHA-256 of what a path holds, or None for nothing."""


@dataclass
class Traffic:
    """Saves, replacements and deletions from several threads until the server dies."""

    server: Server
    seed: int
    clients: int = 4
    promised: dict[str, Digest] = field(default_factory=dict)
    """The last acknowledged state of every path."""
    attempted: dict[str, Digest] = field(default_factory=dict)
    """What was under way, unanswered: it may have happened or not."""

    def start(self) -> None:
        self._stopped = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=(number,)) for number in range(self.clients)
        ]
        for thread in self._threads:
            thread.start()

    def wait_until_some_is_promised(self, count: int = 20) -> None:
        deadline = time.monotonic() + 30
        while len(self.promised) < count:
            assert time.monotonic() < deadline
            time.sleep(0.01)  # a condition with a deadline: the threads tell nobody

    def join(self) -> None:
        self._stopped.set()
        for thread in self._threads:
            thread.join()

    def _run(self, number: int) -> None:
        chance = random.Random(f"{self.seed}-{number}")
        with self.server.client() as client:
            while not self._stopped.is_set():
                path = f"{self.seed}/{number}/{chance.randrange(4)}/{chance.randrange(8)}.bin"
                try:
                    if self.promised.get(path) and chance.random() < 0.3:
                        self.attempted[path] = None
                        client.delete(f"{IMAGES}/{path}").raise_for_status()
                        self.promised[path] = None
                    else:
                        data = chance.randbytes(chance.choice((0, 100, 70_000, 1_500_000)))
                        digest = hashlib.sha256(data).hexdigest()
                        self.attempted[path] = digest
                        saved = client.post(f"{IMAGES}/{path}", files={"file": data})
                        assert saved.raise_for_status().json()["sha256"] == digest
                        self.promised[path] = digest
                    del self.attempted[path]
                except (httpx.TransportError, httpx.HTTPStatusError):
                    return  # the server died, or says that it cannot save any more

    def violations(self, client: httpx.Client) -> list[str]:
        """Every path whose state is neither the promised one nor the one under way."""
        found = []
        listed = set(self._list(client))
        for path in self.promised.keys() | self.attempted.keys():
            answer = client.get(f"{IMAGES}/{path}")
            actual: Digest = None
            if answer.status_code == 200:
                actual = hashlib.sha256(answer.content).hexdigest()
            allowed = [self.promised.get(path)]
            if path in self.attempted:
                allowed.append(self.attempted[path])
            if actual not in allowed:
                found.append(f"{path}: {actual} is none of {allowed}")
            if (actual is not None) != (path in listed):
                found.append(f"{path}: read and list disagree")
        return found + [
            f"{path}: nobody saved it"
            for path in listed - self.promised.keys() - self.attempted.keys()
        ]

    def _list(self, client: httpx.Client) -> list[str]:
        ask: dict[str, str | int] = {"prefix": f"{self.seed}/", "limit": 10_000}
        return list(client.get(IMAGES, params=ask).raise_for_status().json())
