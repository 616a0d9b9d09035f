"""Refusals by the connection, which reach no operation: 400, 408, 414, 431, 500 and 503."""

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
    500: "bug",  # as of an operation
    503: "service_unavailable",
}
"""Source of the others: https://www.iana.org/assignments/http-status-codes."""


class Refusal(NamedTuple):
    """The response to a request that reaches no operation; the connection closes behind it."""

    status: int
    request_id: str
    head: bytes
    body: bytes


def refusal(status: int, message: str) -> Refusal:
    """The response with this status, and a sentence for the client's user."""
    generated_id = request_id.generate()
    found = plain_problem(status, message, _CODES[status], generated_id)
    head = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}", "connection: close"]
    head += [f"{name}: {value}" for name, value in found.headers]
    head.append(f"{request_id.FIELD}: {generated_id}")
    if status == 503:
        head.append(f"retry-after: {RETRY_AFTER_S}")
    head.append(f"date: {format_http_date(time.time_ns())}")
    return Refusal(status, generated_id, "\r\n".join(head).encode() + b"\r\n\r\n", found.body)
