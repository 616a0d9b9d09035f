"""Request ids: accepted from `X-Request-Id` or generated; logged and returned."""

import os
import random
import re
from collections.abc import Iterable
from contextvars import ContextVar
from typing import Final, NamedTuple

FIELD: Final = "x-request-id"

_ALLOWED: Final = r"[A-Za-z0-9._:/+=-]{1,128}"
"""UUIDs, nginx's hexadecimal, base64, trace ids; nothing that breaks a log line or a header."""

_ID: Final = re.compile(_ALLOWED)
_NAME: Final = re.compile(rb"\r\nx-request-id:", re.IGNORECASE)
_VALUE: Final = re.compile(rb"[ \t]*(" + _ALLOWED.encode() + rb")(?=\r\n)")
_END: Final = b"\r\n\r\n"

current: ContextVar[str] = ContextVar("request_id", default="")
"""The id of the request that this task, or thread, works for; empty where there is none."""

_random = random.Random()  # noqa: S311  (tells requests apart, and hides nothing)
os.register_at_fork(after_in_child=_random.seed)  # a worker that replaces another has other ids


GENERATED_BYTES: Final = 16


def generate() -> str:
    """A new request id: 16 hexadecimal digits."""
    return f"{_random.getrandbits(64):016x}"


def generate_bytes() -> bytes:
    """A new request id, as it stands in a response."""
    return b"%016x" % _random.getrandbits(64)


def from_client(headers: Iterable[tuple[bytes, bytes]]) -> str | None:
    """The request id that the client sent, if there is one field with a valid id."""
    found = [value for name, value in headers if name == b"x-request-id"]
    if len(found) != 1:
        return None
    text = found[0].decode("latin-1")
    return text if _ID.fullmatch(text) else None


class IdField(NamedTuple):
    """Where the field is in a head: from the line end before it to the one behind it."""

    start: int
    end: int
    id: bytes


def find_field(head: bytes) -> IdField | None:
    """The field in the bytes of one whole head, if there is one with a valid id (`from_client`).

    Nothing may follow the head: what stands behind its end is no field of it.
    """
    name = _NAME.search(head)
    if name is None or _NAME.search(head, name.end()) or head.find(_END) != len(head) - len(_END):
        return None
    value = _VALUE.match(head, name.end())
    return value and IdField(name.start(), value.end(), value[1])


def without_field(head: bytes, headers: Iterable[tuple[bytes, bytes]]) -> bytes | None:
    """A whole head without this field, which would differ with each request: the cache key.

    Args:
        head: Its bytes.
        headers: Its fields, as the parser found them.

    Returns:
        None where the field is there and not valid: `from_client` decides on that each time.
    """
    headers = list(headers)
    if all(name != b"x-request-id" for name, _ in headers):
        return head
    line = find_field(head)
    if line is None or from_client(headers) != line.id.decode("ascii"):
        return None
    return head[: line.start] + head[line.end :]
