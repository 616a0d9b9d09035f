"""HTTP client that sends webhooks as signed POST requests."""

import asyncio
import json
import socket
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Final

from stillroom.features.events.signing import signed_headers
from stillroom.features.events.types import IMAGE_SAVED
from stillroom.features.events.webhook_file import Endpoint
from stillroom.store.connections import Addresses
from stillroom.store.json_posts import TIMEOUT_S, Attempt, JsonPosts

MAX_BODY_BYTES: Final = 16 * 1024
_FRESH_S: Final = 2.0  # seconds after the start of a DNS lookup for which its result is reused

SignUrl = Callable[[str, int], str]
"""Function that creates a signed URL from an image's path and a lifetime in seconds."""


class Sender:
    """HTTP client that sends webhooks to one endpoint."""

    def __init__(
        self, endpoint: Endpoint, *, sign_url: SignUrl | None = None, timeout_s: float = TIMEOUT_S
    ) -> None:
        self._endpoint, self._sign_url = endpoint, sign_url
        look_up = _AddressLookup().addresses
        self._posts = JsonPosts(endpoint.url, timeout_s=timeout_s, look_up=look_up)

    async def send(self, event: Mapping[str, Any]) -> Attempt:
        """Send an event (a JSON object) once, and return the outcome. Never raises an error."""
        body = encoded(self._completed(event))
        if len(body) > MAX_BODY_BYTES:
            return Attempt("too_large", f"the event has {len(body)} bytes in JSON")
        signed = signed_headers(self._endpoint.secrets, event["id"], body, at=int(time.time()))
        return await self._posts.send(body, signed)

    async def close(self) -> None:
        """Close all connections."""
        await self._posts.close()

    def _completed(self, event: Mapping[str, Any]) -> Mapping[str, Any]:
        """Add a signed URL to an event about a saved image, if the endpoint is to receive one."""
        lifetime_s = self._endpoint.signed_urls
        if lifetime_s is None or self._sign_url is None or event["type"] != IMAGE_SAVED:
            return event
        url = self._sign_url(event["data"]["path"], lifetime_s)
        return {**event, "data": {**event["data"], "signed_url": url}}


@dataclass(slots=True)
class _AddressLookup:
    """DNS lookups of one host, one at a time. Each lookup runs in its own thread.

    An event loop runs only few lookups at the same time (uvloop runs two), and cannot cancel them.
    Lookups that wait for a slow name server would delay connections to the bucket and other hosts.
    """

    _result: Future[Addresses] | None = None
    _began: float = 0.0

    async def addresses(self, host: str, port: int) -> Addresses:
        result = self._result
        if result is None or (result.done() and time.monotonic() - self._began > _FRESH_S):
            self._result = result = Future()
            self._began = time.monotonic()
            result.set_running_or_notify_cancel()  # a cancelled caller does not cancel the lookup
            # A daemon thread, so that the process can end while the lookup hangs.
            threading.Thread(target=_look_up, args=(host, port, result), daemon=True).start()
        return await asyncio.wrap_future(result)


def _look_up(host: str, port: int, result: Future[Addresses]) -> None:
    try:
        result.set_result(
            socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
        )
    except Exception as error:  # noqa: BLE001  (the callers raise it)
        result.set_exception(error)


def encoded(event: Mapping[str, Any]) -> bytes:
    """Encode an event as JSON. These bytes are signed and sent."""
    return json.dumps(event, ensure_ascii=False, separators=(",", ":")).encode()
