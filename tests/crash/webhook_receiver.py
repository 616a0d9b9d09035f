"""A receiver of webhooks that uses only Python's library and the public one of Standard Webhooks.

It remembers what it has received, as an application that handles each id once.
"""

import base64
import contextlib
import hashlib
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from standardwebhooks import Webhook, WebhookVerificationError

from listening import Handler, listening

SECRET: Final = f"whsec_{base64.b64encode(bytes(range(32))).decode()}"
_REFUSED: Final = 50
"""One in so many ids is refused at the first attempt."""


@dataclass
class WebhookReceiver:
    """Events by path in the order of their first arrival, and the numbers of other requests.

    Attributes:
        arrived: Time of the first arrival of each (path, SHA-256), by the monotonic clock.
        repeated: Accepted requests with an id that was accepted before.
        unverified: Requests without a valid signature.
    """

    url: str = ""
    events: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    arrived: dict[tuple[str, str], float] = field(default_factory=dict)
    repeated: int = 0
    refused: int = 0
    unverified: int = 0

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        self._webhook = Webhook(SECRET)
        self._seen: set[str] = set()
        self._refused: set[str] = set()

    def receive(self, body: bytes, headers: dict[str, str]) -> int:
        """Return the status code of the response."""
        try:
            event = self._webhook.verify(body, headers)
        except WebhookVerificationError:
            self.unverified += 1
            return 401
        with self._lock:
            if self._is_refused(event["id"]):
                return 500
            self._accept(event)
        return 204

    def _is_refused(self, event_id: str) -> bool:
        number = int.from_bytes(hashlib.sha256(event_id.encode()).digest()[:4])
        if number % _REFUSED or event_id in self._refused:
            return False
        self._refused.add(event_id)
        self.refused += 1
        return True

    def _accept(self, event: dict[str, Any]) -> None:
        if event["id"] in self._seen:
            self.repeated += 1
            return
        self._seen.add(event["id"])
        data = event["data"]
        self.events.setdefault(data["path"], []).append(event)
        self.arrived.setdefault((data["path"], data["sha256"]), time.monotonic())


@contextlib.contextmanager
def receiving() -> Iterator[WebhookReceiver]:
    """Run a receiver on a free port of this machine."""
    receiver = WebhookReceiver()

    class Receiving(Handler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:  # noqa: N802  (the name in the standard library)
            # A sender that is killed leaves half a request, or resets the connection.
            with contextlib.suppress(OSError):
                length = int(self.headers["content-length"])
                body = self.rfile.read(length)
                if len(body) == length:
                    headers = {name.lower(): value for name, value in self.headers.items()}
                    self.answer(receiver.receive(body, headers), b"", {"content-length": "0"})

        def handle(self) -> None:
            with contextlib.suppress(OSError):
                super().handle()

    with listening(Receiving) as url:
        receiver.url = f"{url}/hooks/images"
        yield receiver
