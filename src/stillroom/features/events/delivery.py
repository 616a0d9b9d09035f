"""Delivery of one webhook: a signed HTTP POST."""

import asyncio
import json
import socket
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Final

from stillroom.features.events.event import IMAGE_SAVED
from stillroom.features.events.signing import signed_headers
from stillroom.features.events.webhook_file import Endpoint
from stillroom.store.connections import Addresses
from stillroom.store.json_posts import TIMEOUT_S, Attempt, JsonPosts

MAX_BODY_BYTES: Final = 16 * 1024
_FRESH_S: Final = 2.0  # seconds after the start of a DNS lookup for which its result is reused

SignUrl = Callable[[str, int], str]
"""Function that returns a signed URL. It takes an image's path and a lifetime in seconds."""


@dataclass(slots=True)
class Sender:
    """HTTP client that sends webhooks to one endpoint. `now` returns seconds since the epoch."""

    endpoint: Endpoint
    sign_url: SignUrl | None = None
    timeout_s: float = TIMEOUT_S
    now: Callable[[], float] = time.time
    _posts: JsonPosts = field(init=False)

    def __post_init__(self) -> None:
        self._posts = JsonPosts(
            self.endpoint.url,
            timeout_s=self.timeout_s,
            look_up=_AddressLookup().addresses,
            now=self.now,
        )

    async def send(self, event: Mapping[str, Any]) -> Attempt:
        """Send an event, which is the JSON object in the body. Never raises an error."""
        body = encoded(self._completed(event))
        if len(body) > MAX_BODY_BYTES:
            return Attempt("too_large", f"the event has {len(body)} bytes in JSON")
        signed = signed_headers(self.endpoint.secrets, event["id"], body, at=int(self.now()))
        return await self._posts.send(body, signed)

    async def close(self) -> None:
        """Close all connections."""
        await self._posts.close()

    def _completed(self, event: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the event with a signed URL, if the endpoint is configured to get one."""
        lifetime_s = self.endpoint.signed_urls
        if lifetime_s is None or self.sign_url is None or event["type"] != IMAGE_SAVED:
            return event
        url = self.sign_url(event["data"]["path"], lifetime_s)
        return {**event, "data": {**event["data"], "signed_url": url}}


@dataclass(slots=True)
class _AddressLookup:
    """DNS lookups of one host, in threads of their own, and never two at the same time.

    An event loop runs only few lookups at the same time (uvloop runs two), and cannot cancel them.
    A name server that hangs would delay the connections to buckets and to other hosts.
    """

    _found: Future[Addresses] | None = None
    _began: float = 0.0

    async def addresses(self, host: str, port: int) -> Addresses:
        if self._found is None or (
            self._found.done() and time.monotonic() - self._began > _FRESH_S
        ):
            self._found, self._began = Future(), time.monotonic()
            self._found.set_running_or_notify_cancel()  # a caller that gives up cannot cancel it
            # A daemon thread, so that the process can end while the lookup hangs.
            threading.Thread(target=_look_up, args=(host, port, self._found), daemon=True).start()
        return await asyncio.wrap_future(self._found)


def _look_up(host: str, port: int, found: Future[Addresses]) -> None:
    try:
        rows = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
    except Exception as error:  # noqa: BLE001  (the callers raise it)
        found.set_exception(error)
    else:
        found.set_result(rows)


def encoded(event: Mapping[str, Any]) -> bytes:
    """Return the JSON text of an event, which is signed and sent without any change."""
    return json.dumps(event, ensure_ascii=False, separators=(",", ":")).encode()
