"""Cursors: opaque texts that encode a position in the feed. Clients can store them."""

import base64
import struct
from typing import Final

from stillroom.errors import CursorExpired, InvalidParameter

LATEST: Final = "latest"  # value of `after` for the end of the feed
_FORMAT: Final = struct.Struct(">8sq")  # id of the feed, and position


def cursor_of(position: int, feed_id: str) -> str:
    """Encode a position in a feed as the cursor with which a client reads the events after it."""
    data = _FORMAT.pack(bytes.fromhex(feed_id), position)
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def check_cursor(cursor: str) -> str:
    """Return `cursor` if it is valid, `latest` or empty. Otherwise, raise `InvalidParameter`."""
    if cursor not in ("", LATEST):
        _parse(cursor)
    return cursor


def position_of(cursor: str, feed_id: str) -> int:
    """Decode the position in a cursor.

    Raises `InvalidParameter` for a malformed cursor, `CursorExpired` for one of another database.
    """
    feed, position = _parse(cursor)
    if feed != feed_id:
        raise CursorExpired("the cursor is from another database: read the feed from its beginning")
    return position


def _parse(cursor: str) -> tuple[str, int]:
    try:
        feed, position = _FORMAT.unpack(base64.b64decode(f"{cursor}==", b"-_", validate=True))
    except (ValueError, struct.error):
        feed, position = b"", -1
    if position < 0:
        raise InvalidParameter("must be a cursor from the feed, or `latest`", at=("query", "after"))
    return feed.hex(), position
