"""What a request is called in logs and in answers, so that its user can quote it."""

import random
import re
from collections.abc import Iterable
from contextvars import ContextVar
from typing import Final

FIELD: Final = "x-request-id"

_SANE: Final = r"[A-Za-z0-9._:/+=-]{1,128}"
"""UUIDs, nginx's hexadecimal, base64, trace ids; nothing that a log or a header could mistake."""

_ID: Final = re.compile(_SANE)
_LINE: Final = re.compile(rb"\r\nx-request-id: ?(" + _SANE.encode() + rb")(?=\r\n)", re.IGNORECASE)

current: ContextVar[str] = ContextVar("request_id", default="")
"""The id of the request that this task, or thread, works for; empty where there is none."""

_dice = random.Random()  # noqa: S311  (tells requests apart, and hides nothing)


MADE_BYTES: Final = 16


def made() -> str:
    """A new one: 16 hexadecimal digits."""
    return f"{_dice.getrandbits(64):016x}"


def made_bytes() -> bytes:
    """A new one, as it stands in an answer."""
    return b"%016x" % _dice.getrandbits(64)


def sent(headers: Iterable[tuple[bytes, bytes]]) -> str | None:
    """The one that came in a request's fields, if it is there once and can be believed."""
    found = [value for name, value in headers if name == b"x-request-id"]
    if len(found) != 1:
        return None
    text = found[0].decode("latin-1")
    return text if _ID.fullmatch(text) else None


def line_in(head: bytes) -> re.Match[bytes] | None:
    """Where a whole head has such a field, with the line end before it; the id is group 1."""
    return _LINE.search(head)


def without_line(head: bytes) -> bytes:
    """A whole head without this field, so that it can be the same for many requests."""
    found = _LINE.search(head)
    return head if found is None else head[: found.start()] + head[found.end() :]
