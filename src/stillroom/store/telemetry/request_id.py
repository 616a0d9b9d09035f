"""Request ids: read from `X-Request-Id` or generated, then logged and sent to the client."""

import os
import random
import re
from collections.abc import Iterable
from contextvars import ContextVar
from typing import Final, NamedTuple

_ALLOWED: Final = r"[A-Za-z0-9._:/+=-]{1,128}"  # UUIDs, base64 or trace ids; safe in log lines
_ID: Final = re.compile(_ALLOWED)
_NAME: Final = re.compile(rb"\r\nx-request-id:", re.IGNORECASE)
_VALUE: Final = re.compile(rb"[ \t]*(" + _ALLOWED.encode() + rb")(?=\r\n)")
_END: Final = b"\r\n\r\n"

current: ContextVar[str] = ContextVar("request_id", default="")
"""Id of the request that the current task or thread handles; empty if there is none."""

_random = random.Random()  # noqa: S311  (ids must be distinct, not secret)
os.register_at_fork(after_in_child=_random.seed)  # otherwise all workers generate the same ids


def generate() -> str:
    """Generate a request id: 16 hexadecimal digits."""
    return f"{_random.getrandbits(64):016x}"


def from_client(headers: Iterable[tuple[bytes, bytes]]) -> str | None:
    """Return the request id in the headers, or None unless there is exactly one valid id."""
    values = [value for name, value in headers if name == b"x-request-id"]
    if len(values) != 1:
        return None
    text = values[0].decode("latin-1")
    return text if _ID.fullmatch(text) else None


class IdField(NamedTuple):
    """Header `X-Request-Id` in the bytes of a request head."""

    start: int  # offset of the line end before the header
    end: int
    id: bytes


def find_field(head: bytes) -> IdField | None:
    """Find the header `X-Request-Id` in a request head; None if it is missing or invalid."""
    name = _NAME.search(head)
    if name is None or _NAME.search(head, name.end()) or head.find(_END) != len(head) - len(_END):
        return None
    value = _VALUE.match(head, name.end())
    return value and IdField(name.start(), value.end(), value[1])


def without_field(head: bytes, value: str | None) -> bytes | None:
    """Remove `X-Request-Id: value` from a request head. Return None if `value` is no valid id."""
    if value is None:
        return head
    field = find_field(head)
    if field is None or value != field.id.decode("ascii"):
        return None
    return head[: field.start] + head[field.end :]
