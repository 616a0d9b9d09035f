"""Response heads, and error responses that are sent by the connection itself."""

import functools
import time
from collections.abc import Iterable
from http import HTTPStatus
from typing import Final

from stillroom.store.http.fields import format_http_date
from stillroom.store.http.problems import RETRY_AFTER_S, Problem, plain_problem

_CODES: Final = {
    400: "bad_request",
    408: "request_timeout",
    414: "uri_too_long",
    431: "request_header_fields_too_large",
    500: "bug",  # the same code as for operations
    503: "service_unavailable",
}
"""Error codes, derived from https://www.iana.org/assignments/http-status-codes."""


@functools.lru_cache(maxsize=64)
def start_of_head(status: int, second: int) -> bytes:
    """Return the status line and the `Date` header for a time in seconds since the epoch."""
    phrase = HTTPStatus(status).phrase if status in _STATUSES else ""
    return f"HTTP/1.1 {status} {phrase}\r\ndate: {format_http_date(second * 10**9)}\r\n".encode()


_STATUSES: Final = frozenset(HTTPStatus)


def header_lines(headers: Iterable[tuple[str, str]]) -> bytes:
    """Encode headers as lines of a response head."""
    return "".join([f"{name}: {value}\r\n" for name, value in headers]).encode("latin-1")


def make_head(status: int, headers: bytes, request_id: str = "", *, keep_alive: bool) -> bytes:
    """Return a complete response head. `headers` come from `header_lines`."""
    id_line = b"x-request-id: %s\r\n" % request_id.encode() if request_id else b""
    close_line = b"" if keep_alive else b"connection: close\r\n"
    return b"".join(
        (start_of_head(status, int(time.time())), id_line, headers, close_line, b"\r\n")
    )


def refusal(status: int, message: str, request_id: str) -> Problem:
    """Create the error response to a request that no operation handles."""
    problem = plain_problem(status, message, _CODES[status], request_id)
    if status == 503:
        problem.headers.append(("retry-after", str(RETRY_AFTER_S)))
    return problem
