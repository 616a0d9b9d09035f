"""In which order a bucket lists: seen on its pages, and tried for the doctor.

A listing goes on behind the last entry of a page, so a bucket without an order would hide images.
Whole keys in byte order are S3's; SeaweedFS walks a tree of folders.
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
"""What the objects for this are called; no image path leads there."""

_NAMES: Final = ("B", "a-b", "a/b", "a0", "é")
"""In byte order. Another one comes of folders, or of names without regard to case."""

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
    """What the pages of one bucket have shown of its order."""

    def __init__(self) -> None:
        self._is_said = False

    def check(self, entries: Sequence[str | None], *, is_part: bool) -> None:
        """Look at a page; what is not in byte order is said in the log, once.

        Args:
            entries: As the bucket had them.
            is_part: Another page went before it, or follows.

        Raises:
            ListingUnsupported: pages of this bucket cannot be put together.
        """
        found = _limitation([entry for entry in entries if entry is not None])
        if found is None:
            return
        if not self._is_said:
            self._is_said = True
            log.warning("the bucket %s: %s (docs/buckets.md)", found.said, found.consequence)
        if found is _UNORDERED and is_part:
            raise ListingUnsupported(
                "the bucket lists in no order that can be told, so a page cannot go on from "
                "another: use a bucket that lists in byte order"
            )


async def lacking_order(store: ObjectStore) -> Sequence[Limitation]:
    """What is not S3's about a bucket's order, by a listing of a few objects of our own.

    Raises:
        BackendUnavailable: that could not be found out.
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
    found = _limitation([entry for entry in page.entries if entry is not None])
    return [] if found is None else [found]


def _limitation(entries: Sequence[str]) -> Limitation | None:
    """What the order of some entries shows; text compares as its UTF-8 does."""
    if list(entries) == sorted(entries):
        return None
    return _BY_TREE if list(entries) == sorted(entries, key=_by_tree) else _UNORDERED


def _by_tree(entry: str) -> list[str]:
    return entry.split("/")
