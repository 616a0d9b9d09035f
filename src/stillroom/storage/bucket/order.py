"""Order of a bucket's listings: checked on its pages, and probed for `stillroom doctor`.

A listing continues after the last entry of a page, so a bucket without an order would hide images.
S3 lists whole keys in byte order; SeaweedFS walks a tree of folders.
"""

import contextlib
import hashlib
import logging
import secrets
from collections.abc import Sequence
from typing import Final

from stillroom.errors import BackendUnavailable, ListingUnsupported
from stillroom.storage.capabilities import Limitation
from stillroom.storage.objectstore import ObjectStore, Properties

PROBE: Final = ".stillroom/order-"
"""Prefix of the objects for the probe; no image path leads there."""

_NAMES: Final = ("B", "a-b", "a/b", "a0", "é")
"""In byte order. A bucket that sorts by folders, or ignores case, returns another order."""

_BODY: Final = b"written to try listings; may be deleted"
_SHA256: Final = hashlib.sha256(_BODY).hexdigest()

_BY_TREE: Final = Limitation(
    "lists in the order of its folders", "all of `a/` comes before `a-b` in a listing"
)
_UNORDERED: Final = Limitation(
    "lists in no order that can be told", "listings of more than a page are answered 501"
)

log = logging.getLogger("stillroom.r2")


class ListingOrder:
    """Checks the order of the pages of one bucket."""

    def __init__(self) -> None:
        self._has_warned = False

    def check(self, entries: Sequence[str | None], *, is_part: bool) -> None:
        """Check a page, and log the first one that is not in byte order.

        Raises:
            ListingUnsupported: other pages precede or follow (`is_part`), and cannot be joined.
        """
        limitation = _limitation([entry for entry in entries if entry is not None])
        if limitation is None:
            return
        if not self._has_warned:
            self._has_warned = True
            log.warning(
                "the bucket %s: %s (docs/buckets.md)", limitation.said, limitation.consequence
            )
        if limitation is _UNORDERED and is_part:
            raise ListingUnsupported(
                "the bucket lists in no order that can be told, so a page cannot go on from "
                "another: use a bucket that lists in byte order"
            )


async def probe_order(store: ObjectStore) -> Sequence[Limitation]:
    """Return how a bucket's order differs from S3's, by listing a few objects made for it.

    Raises:
        BackendUnavailable: the probe failed.
    """
    prefix = f"{PROBE}{secrets.token_hex(8)}/"
    try:
        for name in _NAMES:
            await store.put(f"{prefix}{name}", _BODY, _SHA256, Properties())
        page = await store.list(prefix, limit=len(_NAMES))
    finally:
        for name in _NAMES:
            with contextlib.suppress(BackendUnavailable):
                await store.delete(f"{prefix}{name}", once=True)
    limitation = _limitation([entry for entry in page.entries if entry is not None])
    return [] if limitation is None else [limitation]


def _limitation(entries: Sequence[str]) -> Limitation | None:
    if list(entries) == sorted(entries):  # text compares like its UTF-8
        return None
    return _BY_TREE if list(entries) == sorted(entries, key=_by_tree) else _UNORDERED


def _by_tree(entry: str) -> list[str]:
    return entry.split("/")
