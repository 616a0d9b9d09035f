"""Error responses that the connection itself sends: 400, 408, 414, 431, 500 and 503."""

import time
from http import HTTPStatus
from typing import Final, NamedTuple

from stillroom.http.fields import format_http_date
from stillroom.http.problems import RETRY_AFTER_S, plain_problem
from stillroom.telemetry import request_id

_CODES: Final = {
    400: "bad_request",
    408: "request_timeout",
    414: "uri_too_long",
    431: "request_header_fields_too_large",
    500: "bug",  # the same code as for operations
    503: "service_unavailable",
}
"""Error codes, derived from https://www.iana.org/assignments/http-status-codes."""


class Refusal(NamedTuple):
    """Response to a request that reaches no operation. The connection is then closed."""

    status: int
    request_id: str
    head: bytes
    body: bytes


def refusal(status: int, message: str) -> Refusal:
    """Create an error response that the connection itself sends."""
    generated_id = request_id.generate()
    problem = plain_problem(status, message, _CODES[status], generated_id)
    head = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}", "connection: close"]
    head += [f"{name}: {value}" for name, value in problem.headers]
    head.append(f"{request_id.FIELD}: {generated_id}")
    if status == 503:
        head.append(f"retry-after: {RETRY_AFTER_S}")
    head.append(f"date: {format_http_date(time.time_ns())}")
    return Refusal(status, generated_id, "\r\n".join(head).encode() + b"\r\n\r\n", problem.body)
