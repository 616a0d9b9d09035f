"""Checks of the order in which a bucket lists keys, for listings and `stillroom doctor`.

A page continues after the last entry of the previous page, so a listing in an unknown order could
omit images. S3 lists keys in byte order; SeaweedFS lists folder by folder.
"""

import contextlib
import hashlib
import logging
import secrets
from collections.abc import Sequence
from typing import Final

from stillroom.errors import BackendUnavailable, ListingUnsupported
from stillroom.store.capabilities import Limitation
from stillroom.store.objectstore import ObjectStore, Properties

PROBE: Final = ".stillroom/order-"  # key prefix of the temporary objects; no image has it
_NAMES: Final = ("B", "a-b", "a/b", "a0", "é")  # in byte order, unlike by folder or without case
_BODY: Final = b"written to try listings; may be deleted"
_SHA256: Final = hashlib.sha256(_BODY).hexdigest()

_BY_TREE: Final = Limitation(
    "lists in the order of its folders", "all of `a/` comes before `a-b` in a listing"
)
_UNORDERED: Final = Limitation("lists in an unknown order", "listings of several pages get 501")

log = logging.getLogger("stillroom.r2")


class ListingOrder:
    """Checker for the order of the keys in one bucket's listings."""

    def __init__(self) -> None:
        self._has_warned = False

    def check(self, entries: Sequence[str | None], *, is_part: bool) -> None:
        """Check one page, and log the first deviation from byte order.

        Raises `ListingUnsupported` if the order is unknown and there are other pages (`is_part`).
        """
        limitation = _limitation(entries)
        if limitation is not None and not self._has_warned:
            self._has_warned = True
            log.warning(
                "the bucket %s: %s (docs/buckets.md)", limitation.fault, limitation.consequence
            )
        if limitation is _UNORDERED and is_part:
            raise ListingUnsupported(
                "the bucket lists in an unknown order, so a listing cannot continue on another "
                "page: use a bucket that lists in byte order"
            )


async def probe_order(store: ObjectStore) -> Sequence[Limitation]:
    """List temporary objects, and return how the bucket's order deviates from byte order."""
    prefix = f"{PROBE}{secrets.token_hex(8)}/"
    try:
        for name in _NAMES:
            await store.put(f"{prefix}{name}", _BODY, _SHA256, Properties())
        page = await store.list(prefix, limit=len(_NAMES))
    finally:
        for name in _NAMES:
            with contextlib.suppress(BackendUnavailable):
                await store.delete(f"{prefix}{name}", once=True)
    limitation = _limitation(page.entries)
    return [] if limitation is None else [limitation]


def _limitation(entries: Sequence[str | None]) -> Limitation | None:
    keys = [entry for entry in entries if entry is not None]
    if keys == sorted(keys):  # Python compares text like its UTF-8 bytes
        return None
    return _BY_TREE if keys == sorted(keys, key=lambda key: key.split("/")) else _UNORDERED
