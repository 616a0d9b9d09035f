"""Cursors: opaque texts for the positions in one feed, which clients can store."""

import base64
import re
from typing import Final

from stillroom.errors import CursorExpired, InvalidParameter

LATEST: Final = "latest"
"""Value of `after` for the end of the feed."""

_CURSOR: Final = re.compile(r"([0-9a-f]{16})([0-9a-f]{16})", re.ASCII)
_AT: Final = ("query", "after")


def cursor_of(position: int, feed_id: str) -> str:
    """Return the cursor after which the events behind `position` follow."""
    return base64.urlsafe_b64encode(bytes.fromhex(f"{feed_id}{position:016x}")).decode().rstrip("=")


def check_cursor(cursor: str) -> str:
    """Return a cursor, `LATEST` or the empty text. Raise `InvalidParameter` if it is malformed."""
    if cursor not in ("", LATEST):
        _parse(cursor)
    return cursor


def position_of(cursor: str, feed_id: str) -> int:
    """Return the position of a cursor.

    Raises:
        InvalidParameter: the cursor is malformed.
        CursorExpired: the cursor is from the feed of another database.
    """
    feed, position = _parse(cursor)
    if feed != feed_id:
        raise CursorExpired("the cursor is from another database: read the feed from its beginning")
    return position


def _parse(cursor: str) -> tuple[str, int]:
    try:
        text = base64.b64decode(
            cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True
        ).hex()
    except ValueError:  # also binascii.Error
        text = ""
    match = _CURSOR.fullmatch(text)
    if match is None or match[2] > "7" + "f" * 15:
        raise InvalidParameter("must be a cursor from the feed, or `latest`", at=_AT)
    return match[1], int(match[2], 16)
