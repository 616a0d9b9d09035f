"""Delivery of one webhook: an HTTP POST, and the meaning of its response.

Redirects are not followed, and the settings of proxies in the environment are ignored. The time
limit includes the DNS lookup and the connection. The body of the response has no meaning.
"""

import asyncio
import contextlib
import email.utils
import json
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal

import httpx

from stillroom import __version__
from stillroom.features.events.address_lookup import AddressLookup
from stillroom.features.events.event import IMAGE_SAVED
from stillroom.features.events.signing import signed_headers
from stillroom.features.events.webhook_file import Endpoint

TIMEOUT_S: Final = 15.0
"""Time limit of an attempt in seconds. Standard Webhooks recommends 15 to 30 s."""

MAX_BODY_BYTES: Final = 16 * 1024

MAX_AT_ONCE: Final = 8
"""Maximum number of concurrent requests to an endpoint."""

_LIMITS: Final = httpx.Limits(max_connections=MAX_AT_ONCE, keepalive_expiry=2.0)
"""Idle connections are kept for two seconds. Many servers close theirs after five seconds."""

_MAX_HANGING_ADDRESSES: Final = 2
"""Number of addresses of a host that may hang, so that there is time to connect to another one."""

_MAX_RESPONSE_BYTES: Final = 4096
"""Length up to which the body of a response is read, so that its connection is reused."""

_MAX_ERROR_CHARACTERS: Final = 500

_LONGEST_RETRY_AFTER: Final = timedelta(days=1)

Result = Literal["delivered", "failed", "throttled", "gone", "too_large"]
"""Result of an attempt. `throttled`: the receiver said when to try again. `gone`: 410."""

SignUrl = Callable[[str, int], str]
"""Function that returns a signed URL for the image with a path, valid for a number of seconds."""


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
    """HTTP client that sends webhooks to one endpoint.

    `now` returns the time of an attempt in seconds since the epoch.
    """

    endpoint: Endpoint
    sign_url: SignUrl | None = None
    timeout_s: float = TIMEOUT_S
    now: Callable[[], float] = time.time
    _client: httpx.AsyncClient | None = None
    _opening: asyncio.Lock = field(default_factory=asyncio.Lock)
    _lookup: AddressLookup = field(default_factory=AddressLookup)
    _address: str = ""

    async def send(self, event: Mapping[str, Any]) -> Attempt:
        """Send an event, which is the JSON object in the body. Never raises an error."""
        body = encoded(self._completed(event))
        if len(body) > MAX_BODY_BYTES:
            return Attempt("too_large", f"the event has {len(body)} bytes in JSON")
        headers = {
            "content-type": "application/json",
            "user-agent": f"Stillroom/{__version__}",
            **signed_headers(self.endpoint.secrets, event["id"], body, at=int(self.now())),
        }
        attempt: Attempt | None = None
        try:
            async with asyncio.timeout(self.timeout_s):
                async with contextlib.aclosing(await self._response(body, headers)) as response:
                    attempt, size = _attempt_of(response, self.now()), 0
                    async for piece in response.aiter_raw():
                        size += len(piece)
                        if size > _MAX_RESPONSE_BYTES:
                            break
                    return attempt
        except TimeoutError:
            return attempt or Attempt("failed", f"no response within {self.timeout_s:g} s")
        except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
            return attempt or Attempt("failed", _text_of(error))

    async def close(self) -> None:
        """Close all connections."""
        if self._client is not None:
            await self._client.aclose()
            self._client = None

    def _completed(self, event: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the event with a signed URL, if the endpoint is configured to get one."""
        lifetime_s = self.endpoint.signed_urls
        if lifetime_s is None or self.sign_url is None or event["type"] != IMAGE_SAVED:
            return event
        url = self.sign_url(event["data"]["path"], lifetime_s)
        return {**event, "data": {**event["data"], "signed_url": url}}

    async def _response(self, body: bytes, headers: Mapping[str, str]) -> httpx.Response:
        """Send a request to the first address of the host that accepts a connection.

        httpx gets an address instead of the host, so that it looks nothing up. Begin with the
        address that was used last, because there may be an open connection to it.
        """
        url, client = httpx.URL(self.endpoint.url), await self._opened()
        host = url.raw_host.decode("ascii")
        addresses = await self._lookup.addresses(host)
        connect_s = self.timeout_s / min(len(addresses), _MAX_HANGING_ADDRESSES + 1)
        for address in sorted(addresses, key=lambda address: address != self._address):
            request = client.build_request(
                "POST",
                url.copy_with(host=address),
                content=body,
                headers={**headers, "host": url.netloc.decode("ascii")},
                timeout=httpx.Timeout(self.timeout_s, connect=connect_s),
                extensions={"sni_hostname": host},
            )
            try:
                response = await client.send(request, stream=True)
            except (httpx.ConnectError, httpx.ConnectTimeout) as error:
                failure = error
            else:
                self._address = address
                return response
        raise failure

    async def _opened(self) -> httpx.AsyncClient:
        async with self._opening:
            if self._client is None:
                # In a thread, since loading the system's certificates takes about 10 ms.
                trust = await asyncio.to_thread(ssl.create_default_context)
                self._client = httpx.AsyncClient(
                    verify=trust,
                    limits=_LIMITS,
                    follow_redirects=False,
                    trust_env=False,
                )
            return self._client


def encoded(event: Mapping[str, Any]) -> bytes:
    """Return the JSON text of an event, which is signed and sent without any change."""
    return json.dumps(event, ensure_ascii=False, separators=(",", ":")).encode()


def _attempt_of(response: httpx.Response, now: float) -> Attempt:
    status = response.status_code
    if response.is_success:
        return Attempt("delivered", status=status)
    detail = f"the response has the status {status}"
    if response.has_redirect_location:
        detail += ": redirects are not followed, change the URL in webhooks.toml"
    if status == httpx.codes.GONE:
        return Attempt("gone", detail, status)
    if status in (httpx.codes.TOO_MANY_REQUESTS, httpx.codes.SERVICE_UNAVAILABLE):
        pause = parse_retry_after(response.headers.get("retry-after", ""), now)
        return Attempt("failed" if pause is None else "throttled", detail, status, pause)
    return Attempt("failed", detail, status)


def parse_retry_after(text: str, now: float) -> timedelta | None:
    """Parse `Retry-After` (RFC 9110, 10.2.3): seconds or a date. Return None if it is malformed.

    The result is never negative, and a day at most.
    """
    if text.isascii() and text.isdigit():
        pause = timedelta(seconds=min(int(text[:10]), 10**9))
    else:
        try:
            moment = email.utils.parsedate_to_datetime(text)
        except (ValueError, OverflowError):
            return None
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        pause = moment - datetime.fromtimestamp(now, UTC)
    return min(max(pause, timedelta()), _LONGEST_RETRY_AFTER)


def _text_of(error: Exception) -> str:
    text = f"{type(error).__name__}: {error}".removesuffix(": ")[:_MAX_ERROR_CHARACTERS]
    return text.encode(errors="replace").decode().replace("\0", "?")  # as databases accept it
