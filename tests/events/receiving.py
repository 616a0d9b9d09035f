"""A receiver of webhooks that verifies each request with the public library."""

import base64
import contextlib
import http.server
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from standardwebhooks import Webhook

from listening import Handler, listening
from stillroom.features.events.signing import parse_secret
from stillroom.features.events.webhook_file import Endpoint

SECRET: Final = f"whsec_{base64.b64encode(bytes(range(32))).decode()}"
OTHER_SECRET: Final = f"whsec_{base64.b64encode(bytes(range(40, 72))).decode()}"


@dataclass(frozen=True)
class Response:
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""


OK: Final = Response()
ERROR: Final = Response(500)


class Receiver:
    """What a receiver got, and what it responds.

    `respond` is called with each event; None closes the connection without a response.
    """

    def __init__(self) -> None:
        self.url = ""
        self.secret = SECRET
        self.respond: Callable[[dict[str, Any]], Response | None] = lambda _: OK
        self.requests: list[dict[str, Any]] = []
        self.accepted: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.at_once = self.most_at_once = self.connections = 0
        self._lock = threading.Lock()

    def receive(self, body: bytes, headers: dict[str, str]) -> Response | None:
        event: dict[str, Any] = Webhook(self.secret).verify(body, headers)
        assert event == json.loads(body)
        assert headers["webhook-id"] == event["id"]
        with self._lock:
            self.requests.append(event)
            self.headers.append(headers)
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            response = self.respond(event)
            if response is not None and response.status < 300:
                self.accepted.append(event)
        finally:
            with self._lock:
                self.at_once -= 1
        return response

    @property
    def paths(self) -> list[str]:
        """The paths of the accepted events, in the order of their responses."""
        return [event["data"]["path"] for event in self.accepted]

    def numbers(self, path: str) -> list[int]:
        """The numbers of the accepted events with a path."""
        return [e["data"]["number"] for e in self.accepted if e["data"]["path"] == path]

    def endpoint(self, name: str = "backend", **values: Any) -> Endpoint:
        return Endpoint(name, self.url, (parse_secret(SECRET),), **values)


def configure(folder: Path, **receivers: Receiver) -> Path:
    """Write a file with these endpoints, which replaces the previous one."""
    secret = folder / "backend.secret"
    secret.touch(0o600)
    secret.write_text(SECRET)
    file, new = folder / "webhooks.toml", folder / "webhooks.new"
    tables = [
        f'[[endpoint]]\nname = "{name}"\nurl = "{receiver.url}"\nsecret_file = "backend.secret"\n'
        for name, receiver in receivers.items()
    ]
    new.write_text("".join(tables))
    new.replace(file)
    return file


@contextlib.contextmanager
def receiving(certificate: Path | None = None) -> Iterator[Receiver]:
    """Run a receiver on a free port of this machine; with a certificate it speaks TLS."""
    receiver = Receiver()

    class Receiving(Handler):
        protocol_version = "HTTP/1.1"

        def setup(self) -> None:
            receiver.connections += 1
            super().setup()

        def do_POST(self) -> None:  # noqa: N802  (the name in the standard library)
            body = self.rfile.read(int(self.headers["content-length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            try:
                response = receiver.receive(body, headers)
            except Exception as error:  # noqa: BLE001  (a test sees it in `accepted`, which lacks the event)
                response = Response(400, body=repr(error).encode())
            if response is None:
                self.close_connection = True
                return
            length = {"content-length": str(len(response.body))}
            self.answer(response.status, response.body, response.headers | length)

    with _quiet_errors(), listening(Receiving, certificate) as url:
        receiver.url = f"{url}/hooks/images"
        yield receiver


@contextlib.contextmanager
def _quiet_errors() -> Iterator[None]:
    """Print no traceback for connections that the sender has closed."""
    handle = http.server.ThreadingHTTPServer.handle_error
    http.server.ThreadingHTTPServer.handle_error = lambda *_: None  # type: ignore[method-assign]
    try:
        yield
    finally:
        http.server.ThreadingHTTPServer.handle_error = handle  # type: ignore[method-assign]
