"""Cache of images seen recently, so that a popular one is not checked for every request."""

import time
from typing import Final

from stillroom.bounded_cache import BoundedCache

SEEN_FOR_S: Final = 60.0
"""Seconds for which an entry is valid; so long, images deleted elsewhere may seem to exist."""

_MAX: Final = 65_536
"""Maximum number of keys; about 20 MiB."""

_NEVER: Final = (0.0, "")
"""Expiration and content type."""


class ExistenceCache:
    """Keys of images that this process has saved or seen in the last minute."""

    def __init__(self) -> None:
        self._seen: BoundedCache[str, tuple[float, str]] = BoundedCache(_MAX)
        self._removals = 0

    def __contains__(self, key: str) -> bool:
        return self.content_type(key) is not None

    def content_type(self, key: str) -> str | None:
        """Return the type of the image, or None if it was not seen recently."""
        until, content_type = self._seen.get(key) or _NEVER
        return content_type if until > time.monotonic() else None

    @property
    def moment(self) -> int:
        """Counter of removals: read it before a request, and pass it to `note` after it."""
        return self._removals

    def note(self, key: str, content_type: str, moment: int) -> None:
        """Add `key`, unless any key was removed since `moment`.

        A request that began before a deletion may have ended after it.
        """
        if moment != self._removals:
            return
        self._seen.put(key, (time.monotonic() + SEEN_FOR_S, content_type))

    def forget(self, key: str) -> None:
        """Remove `key` after a deletion, whatever its outcome."""
        self._removals += 1
        self._seen.remove(key)
