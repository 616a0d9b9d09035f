"""Delivery of one webhook: an HTTP POST, and the meaning of its response.

Redirects are not followed, and the settings of proxies in the environment are ignored. The time
limit includes the DNS lookup and the connection. The body of the response has no meaning.

Requests use the connections of the S3 client, which need much less CPU time than httpx.
"""

import asyncio
import contextlib
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from http import HTTPStatus
from typing import Any, Final, Literal
from urllib.parse import quote, urlsplit

from stillroom import __version__
from stillroom.features.events.address_lookup import AddressLookup
from stillroom.features.events.event import IMAGE_SAVED
from stillroom.features.events.signing import signed_headers
from stillroom.features.events.webhook_file import Endpoint
from stillroom.store.connections import Connections, Response
from stillroom.store.http.fields import parse_http_date

TIMEOUT_S: Final = 15.0  # of an attempt; Standard Webhooks recommends 15 to 30 s
MAX_BODY_BYTES: Final = 16 * 1024
MAX_AT_ONCE: Final = 8  # concurrent requests to one endpoint
_IDLE_S: Final = 2.0  # many servers close an idle connection after five seconds
_URL_SAFE: Final = "!$%&'()*+,/:;=?@[]~"  # sent as they are, like letters and digits
_MAX_RESPONSE_BYTES: Final = 4096  # read from a response, so that its connection can be reused
_MAX_ERROR_CHARACTERS: Final = 500

_LONGEST_RETRY_AFTER: Final = timedelta(days=1)

# `throttled`: the receiver has said when to try again. `gone`: the status code was 410.
Result = Literal["delivered", "failed", "throttled", "gone", "too_large"]

SignUrl = Callable[[str, int], str]
"""Function that returns a signed URL. It takes an image's path and a lifetime in seconds."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """Outcome of an attempt to deliver a webhook.

    Attributes:
        detail: Reason for the failure, for the log and the operator; empty after a success.
        status: Status code of the response, or None if there was no response.
        retry_after: Pause that the receiver has requested.
    """

    result: Result
    detail: str = ""
    status: int | None = None
    retry_after: timedelta | None = None

    @property
    def is_delivered(self) -> bool:
        """Return whether the receiver has accepted the event."""
        return self.result == "delivered"


@dataclass(slots=True)
class Sender:
    """HTTP client that sends webhooks to one endpoint. `now` returns seconds since the epoch."""

    endpoint: Endpoint
    sign_url: SignUrl | None = None
    timeout_s: float = TIMEOUT_S
    now: Callable[[], float] = time.time
    _slots: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(MAX_AT_ONCE))
    _connections: Connections = field(init=False)
    _head: str = field(init=False)

    def __post_init__(self) -> None:
        url = urlsplit(self.endpoint.url)
        is_tls = url.scheme == "https"
        self._connections = Connections(
            url.hostname or "",
            url.port or (443 if is_tls else 80),
            tls=is_tls,
            stalled_s=self.timeout_s,
            connect_s=self.timeout_s,
            idle_s=_IDLE_S,
            look_up=AddressLookup().addresses,
            needs_length=False,
        )
        target = quote((url.path or "/") + (url.query and f"?{url.query}"), safe=_URL_SAFE)
        self._head = (
            f"POST {target} HTTP/1.1\r\nhost: {url.netloc}\r\naccept: */*\r\n"
            f"user-agent: Stillroom/{__version__}\r\ncontent-type: application/json\r\n"
        )

    async def send(self, event: Mapping[str, Any]) -> Attempt:
        """Send an event, which is the JSON object in the body. Never raises an error."""
        body = encoded(self._completed(event))
        if len(body) > MAX_BODY_BYTES:
            return Attempt("too_large", f"the event has {len(body)} bytes in JSON")
        signed = signed_headers(self.endpoint.secrets, event["id"], body, at=int(self.now()))
        headers = {**signed, "content-length": len(body)}
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        attempt: Attempt | None = None
        try:
            async with asyncio.timeout(self.timeout_s), self._slots:
                head = f"{self._head}{lines}\r\n".encode()
                sent = self._connections.send(head, body, has_response_body=True)
                with contextlib.closing(await sent) as response:
                    attempt, size = _attempt_of(response, self.now()), 0
                    async for piece in response.pieces():
                        size += len(piece)
                        if size > _MAX_RESPONSE_BYTES:
                            break
                    return attempt
        except TimeoutError:
            return attempt or Attempt("failed", f"no response within {self.timeout_s:g} s")
        except (OSError, ValueError) as error:
            return attempt or Attempt("failed", _text_of(error))

    async def close(self) -> None:
        """Close all connections."""
        await self._connections.close()

    def _completed(self, event: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the event with a signed URL, if the endpoint is configured to get one."""
        lifetime_s = self.endpoint.signed_urls
        if lifetime_s is None or self.sign_url is None or event["type"] != IMAGE_SAVED:
            return event
        url = self.sign_url(event["data"]["path"], lifetime_s)
        return {**event, "data": {**event["data"], "signed_url": url}}


def encoded(event: Mapping[str, Any]) -> bytes:
    """Return the JSON text of an event, which is signed and sent without any change."""
    return json.dumps(event, ensure_ascii=False, separators=(",", ":")).encode()


def _attempt_of(response: Response, now: float) -> Attempt:
    status = response.status
    if 200 <= status < 300:  # noqa: PLR2004  (2xx)
        return Attempt("delivered", status=status)
    detail = f"the response has the status {status}"
    if status < 400 and "location" in response.headers:  # noqa: PLR2004  (3xx)
        detail += ": redirects are not followed, change the URL in webhooks.toml"
    if status == HTTPStatus.GONE:
        return Attempt("gone", detail, status)
    if status in (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE):
        pause = parse_retry_after(response.headers.get("retry-after", ""), now)
        return Attempt("failed" if pause is None else "throttled", detail, status, pause)
    return Attempt("failed", detail, status)


def parse_retry_after(text: str, now: float) -> timedelta | None:
    """Parse `Retry-After` (RFC 9110, 10.2.3): seconds or a date. Return None if it is malformed.

    The result is never negative, and a day at most.
    """
    if text.isascii() and text.isdigit():
        pause = timedelta(seconds=int(text[:10]))
    elif (moment := parse_http_date(text)) is not None:
        pause = timedelta(seconds=moment - now)
    else:
        return None
    return min(max(pause, timedelta()), _LONGEST_RETRY_AFTER)


def _text_of(error: Exception) -> str:
    text = f"{type(error).__name__}: {error}".removesuffix(": ")[:_MAX_ERROR_CHARACTERS]
    return text.encode(errors="replace").decode().replace("\0", "?")  # as databases accept it
