"""What a request is called in logs and in answers, so that its user can quote it."""

import random
import re
from collections.abc import Iterable
from contextvars import ContextVar
from typing import Final, NamedTuple

FIELD: Final = "x-request-id"

_SANE: Final = r"[A-Za-z0-9._:/+=-]{1,128}"
"""UUIDs, nginx's hexadecimal, base64, trace ids; nothing that a log or a header could mistake."""

_ID: Final = re.compile(_SANE)
_NAME: Final = re.compile(rb"\r\nx-request-id:", re.IGNORECASE)
_VALUE: Final = re.compile(rb"[ \t]*(" + _SANE.encode() + rb")(?=\r\n)")
_END: Final = b"\r\n\r\n"

current: ContextVar[str] = ContextVar("request_id", default="")
"""The id of the request that this task, or thread, works for; empty where there is none."""

_random = random.Random()  # noqa: S311  (tells requests apart, and hides nothing)


MADE_BYTES: Final = 16


def made() -> str:
    """A new one: 16 hexadecimal digits."""
    return f"{_random.getrandbits(64):016x}"


def made_bytes() -> bytes:
    """A new one, as it stands in an answer."""
    return b"%016x" % _random.getrandbits(64)


def sent(headers: Iterable[tuple[bytes, bytes]]) -> str | None:
    """The one that came in a request's fields, if it is there once and can be believed."""
    found = [value for name, value in headers if name == b"x-request-id"]
    if len(found) != 1:
        return None
    text = found[0].decode("latin-1")
    return text if _ID.fullmatch(text) else None


class Line(NamedTuple):
    """Where a head has the field: from the line end before it to the one behind it."""

    start: int
    end: int
    id: bytes


def line_in(head: bytes) -> Line | None:
    """The field in one whole head, if it is there once and can be believed, as in `sent`.

    Nothing may follow the head: what stands behind its end is no field of it.
    """
    name = _NAME.search(head)
    if name is None or _NAME.search(head, name.end()) or head.find(_END) != len(head) - len(_END):
        return None
    value = _VALUE.match(head, name.end())
    return value and Line(name.start(), value.end(), value[1])


def without_line(head: bytes, headers: Iterable[tuple[bytes, bytes]]) -> bytes | None:
    """A whole head without this field, so that it can be the same for many requests.

    Args:
        head: Its bytes.
        headers: Its fields, as the parser found them.

    Returns:
        None where the field is there and is not believed: that is for `sent` to decide each time.
    """
    headers = list(headers)
    if all(name != b"x-request-id" for name, _ in headers):
        return head
    line = line_in(head)
    if line is None or sent(headers) != line.id.decode("ascii"):
        return None
    return head[: line.start] + head[line.end :]
