"""Where the server is, and what every request to it carries."""

import os
import re
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Self
from urllib.parse import urlsplit

import httpx

from stillroom import __version__
from stillroom.client.exchange import Answer, Call, Failure
from stillroom.errors import ConfigurationError

DEFAULT_URL: Final = "http://127.0.0.1:8000"

Token = str | Callable[[], str]
"""A token, or what gives the current one; asked before each attempt, so it should keep it."""

_API: Final = re.compile(r"/api/v1(/.*)?$")
_MAX_CONNECTIONS: Final = 32
_NOT_SENT: Final = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)


@dataclass(frozen=True, slots=True)
class Connection:
    """One server, seen from here.

    Attributes:
        root: What the targets of calls stand behind.
        token: See `Token`; None sends none.
    """

    root: str
    token: Token | None

    @classmethod
    def to(cls, url: str | None, token: Token | None) -> Self:
        """The server at `url`, else at `STILLROOM_URL`; the token likewise.

        What is or lies below the server's `/api/v1`, such as the address of its images, counts as
        the server's root.

        Raises:
            ConfigurationError: neither can be used.
        """
        url = (url or os.environ.get("STILLROOM_URL") or DEFAULT_URL).rstrip("/")
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query:
            raise ConfigurationError(
                f"{url!r} is no URL of a server: set STILLROOM_URL to one such as {DEFAULT_URL}"
            )
        if parts.username is not None:
            raise ConfigurationError("the URL has a user in it: give the token as STILLROOM_TOKEN")
        return cls(
            f"{_API.sub('', url)}/api/v1", token or os.environ.get("STILLROOM_TOKEN") or None
        )

    def url(self, call: Call) -> str:
        """Where a call goes."""
        return call.target if call.elsewhere else self.root + call.target

    def fields(self, call: Call) -> dict[str, str]:
        """What a call carries: the token goes to our server alone.

        Raises:
            ConfigurationError: the token is none.
        """
        fields = {"user-agent": f"stillroom/{__version__}", **call.headers}
        if self.token is not None and not call.elsewhere:
            token = self.token if isinstance(self.token, str) else self.token()
            if not token.isascii() or not token.isprintable() or " " in token:
                raise ConfigurationError(
                    "the token contains invalid characters (a trailing newline?)"
                )
            fields["authorization"] = f"Bearer {token}"
        return fields


def new_limits() -> httpx.Limits:
    """Connections are kept, so that a worker's next image needs no handshake."""
    return httpx.Limits(max_connections=_MAX_CONNECTIONS, keepalive_expiry=30)


def timeouts(call: Call) -> httpx.Timeout:
    """Of one call, in seconds; connecting should not take as long as sending."""
    return httpx.Timeout(call.timeout_s, connect=min(call.timeout_s, 10))


def head_of(response: httpx.Response) -> Answer:
    """The status and the fields."""
    return Answer(response.status_code, dict(response.headers), b"")


def goes_to_sink(call: Call, response: httpx.Response) -> bool:
    """Whether the body is the image that was asked for."""
    return call.sink is not None and response.status_code in (200, 206)


def total_of(call: Call, response: httpx.Response) -> int | None:
    """Bytes of the whole image, of which a part may be there already."""
    declared = response.headers.get("content-length", "")
    assert call.sink is not None  # noqa: S101  (see `goes_to_sink`)
    return int(declared) + call.sink.written if declared.isdigit() else None


def failed(error: httpx.TransportError, head: Answer | None) -> Failure:
    """What to make of an exception.

    Raises:
        ConfigurationError: trying again cannot help.
    """
    if isinstance(error, httpx.UnsupportedProtocol | httpx.LocalProtocolError):
        raise ConfigurationError(f"the request cannot be sent: {error}") from error
    sent = not isinstance(error, _NOT_SENT)
    return Failure(error, sent=sent, head=head, permanent=not sent and _is_permanent(error))


def _is_permanent(error: BaseException | None) -> bool:
    """Whether no server has this name, or it cannot show that it is the one with this name."""
    while error is not None:
        if isinstance(error, socket.gaierror | ssl.SSLError):
            return True
        error = error.__cause__ or error.__context__
    return False
