"""HTTP client that sends JSON to another server and classifies the status code of the response.

It follows no redirects, and ignores proxies that the environment configures. The time limit
includes the DNS lookup and the connection. Its connections need much less CPU time than httpx.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from http import HTTPStatus
from typing import Final, Literal
from urllib.parse import quote, urlsplit

from stillroom import __version__
from stillroom.store.connections import Connections, LookUp, Response, look_up
from stillroom.store.http.fields import parse_http_date

TIMEOUT_S: Final = 15.0  # of an attempt; Standard Webhooks recommends 15 to 30 s
MAX_AT_ONCE: Final = 8  # concurrent requests to one URL
_IDLE_S: Final = 2.0  # many servers close an idle connection after five seconds
_URL_SAFE: Final = "!$%&'()*+,/:;=?@[]~"  # sent as they are, like letters and digits
_MAX_RESPONSE_BYTES: Final = 4096  # read from a response, so that its connection can be reused
_MAX_ERROR_CHARACTERS: Final = 500
_LONGEST_RETRY_AFTER: Final = timedelta(days=1)

# `throttled`: the receiver has said when to try again. `gone`: the status code was 410.
Result = Literal["delivered", "failed", "throttled", "gone", "too_large"]


@dataclass(frozen=True, slots=True)
class Attempt:
    """Outcome of an attempt to send JSON."""

    result: Result
    detail: str = ""  # reason for the failure, for the log and the operator
    status: int | None = None  # status code of the response; None if there was no response
    retry_after: timedelta | None = None  # pause that the receiver has requested

    @property
    def is_delivered(self) -> bool:
        """True if the receiver has accepted the JSON."""
        return self.result == "delivered"


class JsonPosts:
    """HTTP client that sends JSON to one URL. `now` returns the time in seconds since the epoch."""

    def __init__(
        self,
        url: str,
        *,
        timeout_s: float = TIMEOUT_S,
        look_up: LookUp = look_up,
        now: Callable[[], float] = time.time,
    ) -> None:
        parts = urlsplit(url)
        is_tls = parts.scheme == "https"
        self._timeout_s, self._now = timeout_s, now
        self._slots = asyncio.Semaphore(MAX_AT_ONCE)
        self._connections = Connections(
            parts.hostname or "",
            parts.port or (443 if is_tls else 80),
            tls=is_tls,
            stalled_s=timeout_s,
            connect_s=timeout_s,
            idle_s=_IDLE_S,
            look_up=look_up,
            needs_length=False,
        )
        target = quote((parts.path or "/") + (parts.query and f"?{parts.query}"), safe=_URL_SAFE)
        self._head = (
            f"POST {target} HTTP/1.1\r\nhost: {parts.netloc}\r\naccept: */*\r\n"
            f"user-agent: Stillroom/{__version__}\r\ncontent-type: application/json\r\n"
        )

    async def send(self, body: bytes, headers: Mapping[str, object]) -> Attempt:
        """Send JSON with additional headers. Never raises an error."""
        all_headers = {**headers, "content-length": len(body)}
        lines = "".join(f"{name}: {value}\r\n" for name, value in all_headers.items())
        attempt: Attempt | None = None
        try:
            async with asyncio.timeout(self._timeout_s), self._slots:
                head = f"{self._head}{lines}\r\n".encode()
                sent = self._connections.send(head, body, has_response_body=True)
                with contextlib.closing(await sent) as response:
                    attempt, size = _attempt_of(response, self._now()), 0
                    async for piece in response.pieces():
                        size += len(piece)
                        if size > _MAX_RESPONSE_BYTES:
                            break
                    return attempt
        except TimeoutError:
            return attempt or Attempt("failed", f"no response within {self._timeout_s:g} s")
        except (OSError, ValueError) as error:
            return attempt or Attempt("failed", _text_of(error))

    async def close(self) -> None:
        """Close all connections."""
        await self._connections.close()


def _attempt_of(response: Response, now: float) -> Attempt:
    status = response.status
    if 200 <= status < 300:  # noqa: PLR2004  (2xx)
        return Attempt("delivered", status=status)
    detail = f"the response has the status {status}"
    if status < 400 and "location" in response.headers:  # noqa: PLR2004  (3xx)
        detail += ": redirects are not followed, change the URL"
    if status == HTTPStatus.GONE:
        return Attempt("gone", detail, status)
    if status in (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE):
        pause = parse_retry_after(response.headers.get("retry-after", ""), now)
        return Attempt("failed" if pause is None else "throttled", detail, status, pause)
    return Attempt("failed", detail, status)


def parse_retry_after(text: str, now: float) -> timedelta | None:
    """Parse `Retry-After` (RFC 9110, 10.2.3), limited to a day. None if it is malformed."""
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
