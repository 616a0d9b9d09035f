"""Settings with which the SDK connects to a server: URL, token, timeouts and connection limits."""

import os
import re
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Self

import httpx

from stillroom import __version__
from stillroom.client.exchange import Answer, Call, Failure
from stillroom.errors import ConfigurationError

DEFAULT_URL: Final = "http://127.0.0.1:8000"

Token = str | Callable[[], str]
"""Token, or a function that returns it. The function is called for each attempt of a request."""

_API: Final = re.compile(r"/api/v1(/.*)?$")
LIMITS: Final = httpx.Limits(max_connections=32, keepalive_expiry=30)
"""Limits of the connection pool. Idle connections stay open for 30 s to avoid TLS handshakes."""


@dataclass(frozen=True, slots=True)
class Connection:
    """Base URL of the API, and token with which the SDK connects to a server."""

    root: str
    token: Token | None

    @classmethod
    def to(cls, url: str | None, token: Token | None) -> Self:
        """Create the settings. Defaults are the variables `STILLROOM_URL` and `STILLROOM_TOKEN`.

        The URL of an image is also accepted: `/api/v1` and everything after it is ignored.
        """
        url = (url or os.environ.get("STILLROOM_URL") or DEFAULT_URL).rstrip("/")
        try:
            parts = httpx.URL(url)
        except httpx.InvalidURL:
            parts = httpx.URL()  # refused below, since it has no scheme
        if parts.scheme not in ("http", "https") or not parts.host or parts.query:
            message = f"{url!r} is not a server's URL: set STILLROOM_URL to a URL like"
            raise ConfigurationError(f"{message} {DEFAULT_URL}")
        if parts.userinfo:
            message = "the URL contains a user name: remove it, and use STILLROOM_TOKEN instead"
            raise ConfigurationError(message)
        token = token or os.environ.get("STILLROOM_TOKEN") or None
        return cls(f"{_API.sub('', url)}/api/v1", token)

    def url(self, call: Call) -> str:
        """Return the complete URL of a request."""
        return call.target if call.elsewhere else self.root + call.target

    def fields(self, call: Call) -> dict[str, str]:
        """Return the headers of a request. Only requests to the Stillroom server get the token."""
        fields = {"user-agent": f"stillroom/{__version__}", **call.headers}
        if self.token is not None and not call.elsewhere:
            token = self.token if isinstance(self.token, str) else self.token()
            if not token.isascii() or not token.isprintable() or " " in token:
                raise ConfigurationError(
                    "the token contains invalid characters (a trailing newline?)"
                )
            fields["authorization"] = f"Bearer {token}"
        return fields


def failed(error: httpx.TransportError, head: Answer | None) -> Failure:
    """Convert an httpx error to a `Failure`. An invalid request raises `ConfigurationError`."""
    if isinstance(error, httpx.UnsupportedProtocol | httpx.LocalProtocolError):
        raise ConfigurationError(f"the request cannot be sent: {error}") from error
    sent = not isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout)
    return Failure(error, sent=sent, head=head, permanent=not sent and _is_permanent(error))


def _is_permanent(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, socket.gaierror | ssl.SSLError):
            return True
        error = error.__cause__ or error.__context__
    return False
