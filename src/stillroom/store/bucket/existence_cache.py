"""Cache of keys whose images existed recently, so that not every read sends a HEAD request."""

import time
from typing import Final

from stillroom.bounded_cache import BoundedCache

SEEN_FOR_S: Final = 60.0  # images that another process has deleted may seem to exist for this time
_MAX: Final = 65_536  # maximum number of keys (about 20 MiB)
_NEVER: Final = (0.0, "")  # expiration and content type of a key that is not cached


class ExistenceCache:
    """Keys of images that this process has saved or found in the last minute."""

    def __init__(self) -> None:
        self._seen: BoundedCache[str, tuple[float, str]] = BoundedCache(_MAX)
        self._removals = 0

    def __contains__(self, key: str) -> bool:
        return self.content_type(key) is not None

    def content_type(self, key: str) -> str | None:
        """Return the cached content type of the image, or None if the key is not cached."""
        until, content_type = self._seen.get(key) or _NEVER
        return content_type if until > time.monotonic() else None

    @property
    def moment(self) -> int:
        """Number of removals so far. Read it before a request, and pass it to `note` afterwards."""
        return self._removals

    def note(self, key: str, content_type: str, moment: int) -> None:
        """Add `key`. If a key was removed since `moment`, do nothing: the data may be outdated."""
        if moment == self._removals:
            self._seen.put(key, (time.monotonic() + SEEN_FOR_S, content_type))

    def forget(self, key: str) -> None:
        """Remove `key` after a deletion, even if it is unknown whether the deletion succeeded."""
        self._removals += 1
        self._seen.remove(key)
