"""Parser for request heads in HTTP/1.1, and functions that format response heads."""

import functools
import http.client
import re
import time
from collections.abc import Iterable
from typing import Final, NamedTuple

import httptools

from stillroom.speed.settings import SpeedSettings
from stillroom.store.http.fields import format_http_date
from stillroom.store.http.problems import RETRY_AFTER_S, Problem, plain_problem

_TARGET: Final = re.compile(
    rb"(?:http://(?:\[[0-9a-f:.]+\]|[a-z0-9._~%!$&'()*+,;=-]+)(?::[0-9]{0,5})?)?"
    rb"(/[\x21\x22\x24-\x3e\x40-\x7e]*)(?:\?([\x21\x22\x24-\x7e]*))?",
    re.IGNORECASE,
)
"""Request target in origin form or absolute form (RFC 9112, 3.2): ASCII, without a fragment."""

_END: Final = b"\r\n\r\n"

# Error codes, derived from https://www.iana.org/assignments/http-status-codes.
_CODES: Final = {
    400: "bad_request",
    408: "request_timeout",
    414: "uri_too_long",
    431: "request_header_fields_too_large",
    500: "bug",  # the same code as for operations
    503: "service_unavailable",
}


class BadRequest(Exception):
    """Exception for a request that is rejected because it is malformed, too large or too slow."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class Request(NamedTuple):
    """Head of a request (request line and headers) that has passed all checks."""

    method: str
    target: bytes
    path: bytes  # path of the target, not decoded
    query: bytes  # query of the target without `?`, not decoded
    version: str  # "1.0" or "1.1"
    headers: list[tuple[bytes, bytes]]  # headers in their original order, with names in lower case
    keep_alive: bool  # True if the client may send another request on this connection
    length: int | None  # length of the body; None if it is chunked
    expects_continue: bool  # True if the client waits for `100 Continue` before it sends the body


class HeadParser:
    """Parser for one request head, which may arrive in pieces.

    httptools gets no bytes after the head, since it would parse pipelined requests into memory.
    """

    def __init__(self, settings: SpeedSettings) -> None:
        self._settings = settings
        self._parser = httptools.HttpRequestParser(self)
        self._is_complete = self._keeps_alive = self._offers_upgrade = False
        self._target = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._size = 0
        self._last = b""

    def feed(self, data: bytes) -> bytes | None:
        """Parse a piece. Return the bytes after the head, or None if the head is incomplete."""
        at = (self._last + data).find(_END)
        if at < 0:
            self._parse(data)
            self._last = (self._last + data)[1 - len(_END) :]
            return None
        end = at + len(_END) - len(self._last)
        self._parse(data[: end - 1])
        # httptools must report the end of the head at exactly this byte. Otherwise the start of the
        # body would be ambiguous (request smuggling).
        self._parse(data[end - 1 : end], is_last=True)
        return data[end:]

    def request(self) -> Request:
        """Check and return the complete head, or raise `BadRequest`."""
        version = self._parser.get_http_version()
        names = [name for name, _ in self._headers]
        path, query = self._check(version, names)
        fields = dict(self._headers)
        is_1_1 = version != "1.0"
        length = None if b"transfer-encoding" in fields else int(fields.get(b"content-length", 0))
        return Request(
            method=self._parser.get_method().decode("ascii"),
            target=self._target,
            path=path,
            query=query,
            version=version,
            headers=self._headers,
            # After an offer to upgrade, the next bytes might be another protocol.
            keep_alive=is_1_1 and self._keeps_alive and not self._offers_upgrade,
            length=length,
            expects_continue=is_1_1 and fields.get(b"expect", b"").lower() == b"100-continue",
        )

    def on_url(self, url: bytes) -> None:
        """Append a piece of the request target. Called by httptools."""
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Append a header. Called by httptools."""
        self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """Store values that httptools resets at the end of the head. Called by httptools."""
        self._is_complete = True
        self._keeps_alive = self._parser.should_keep_alive()
        self._offers_upgrade = self._parser.should_upgrade()

    def _parse(self, data: bytes, *, is_last: bool = False) -> None:
        allowed = self._settings.max_head_bytes - self._size
        self._size += len(data)
        try:
            self._parser.feed_data(data[:allowed] if len(data) > allowed else data)
        except httptools.HttpParserUpgrade:
            pass  # the upgrade is declined
        except httptools.HttpParserError:
            raise BadRequest(400, "malformed HTTP request") from None
        if len(self._target) > self._settings.max_target_bytes:
            raise BadRequest(414, "the request target is too long")
        if self._size > self._settings.max_head_bytes:
            raise BadRequest(431, "the headers of the request are too large")
        if self._is_complete is not is_last:
            raise BadRequest(400, "malformed HTTP request")

    def _check(self, version: str, names: list[bytes]) -> tuple[bytes, bytes]:
        if version not in ("1.0", "1.1"):
            raise BadRequest(400, "unsupported HTTP version: use 1.1 or 1.0")
        if len(names) > self._settings.max_header_fields:
            raise BadRequest(431, "the request has too many headers")
        hosts = names.count(b"host")
        if hosts > 1 or (hosts == 0 and version != "1.0"):
            raise BadRequest(400, "exactly one Host field is required")
        target = _TARGET.fullmatch(self._target)
        if target is None:
            raise BadRequest(400, "the request target is not an ASCII path")
        lengths = names.count(b"content-length")
        codings = [value.lower() for name, value in self._headers if name == b"transfer-encoding"]
        if lengths > 1 or (lengths and codings):
            raise BadRequest(400, "the length of the body is declared twice")
        if codings and (codings != [b"chunked"] or version == "1.0"):
            raise BadRequest(400, "unsupported Transfer-Encoding: use chunked, in HTTP/1.1")
        if self._offers_upgrade and (lengths or codings):
            # Other servers interpret the bytes after an Upgrade as another protocol.
            raise BadRequest(
                400, "a request with an Upgrade field cannot have a body: omit the Upgrade field"
            )
        return target[1], target[2] or b""


@functools.lru_cache(maxsize=64)
def start_of_head(status: int, second: int) -> bytes:
    """Return the status line and the `Date` header. `second` is the time in epoch seconds."""
    phrase = http.client.responses.get(status, "")
    return f"HTTP/1.1 {status} {phrase}\r\ndate: {format_http_date(second * 10**9)}\r\n".encode()


def header_lines(headers: Iterable[tuple[str, str]]) -> bytes:
    """Return headers as the lines of a response head, each with a line end."""
    return "".join([f"{name}: {value}\r\n" for name, value in headers]).encode("latin-1")


def make_head(status: int, headers: bytes, request_id: str = "", *, keep_alive: bool) -> bytes:
    """Return a complete response head. `headers` are lines that `header_lines` has returned."""
    id_line = b"x-request-id: %s\r\n" % request_id.encode() if request_id else b""
    close_line = b"" if keep_alive else b"connection: close\r\n"
    return b"".join(
        (start_of_head(status, int(time.time())), id_line, headers, close_line, b"\r\n")
    )


def refusal(status: int, message: str, request_id: str) -> Problem:
    """Return the error response to a request that is rejected before an operation handles it."""
    problem = plain_problem(status, message, _CODES[status], request_id)
    if status == 503:
        problem.headers.append(("retry-after", str(RETRY_AFTER_S)))
    return problem
