"""Which images were there a moment ago, so that a busy one is not asked for again and again."""

import time
from typing import Final

from stillroom.bounded_cache import BoundedCache

SEEN_FOR_S: Final = 60.0
"""How long a look is believed. Longer, and an image that another process deletes haunts us."""

_MAX: Final = 65_536
"""Keys remembered; some 20 MiB at most."""

_NEVER: Final = (0.0, "")
"""Until when, and of which type."""


class ExistenceCache:
    """Keys under which this process has saved or seen an image in the last minute."""

    def __init__(self) -> None:
        self._seen: BoundedCache[str, tuple[float, str]] = BoundedCache(_MAX)
        self._forgotten = 0

    def __contains__(self, key: str) -> bool:
        return self.content_type(key) is not None

    def content_type(self, key: str) -> str | None:
        """The type of what is there; None where that is not known."""
        until, content_type = self._seen.get(key) or _NEVER
        return content_type if until > time.monotonic() else None

    @property
    def moment(self) -> int:
        """Take it before a look, and give it to `note` after it."""
        return self._forgotten

    def note(self, key: str, content_type: str, moment: int) -> None:
        """Remember `key`, unless something was deleted here since `moment`.

        A look that began before a deletion may have ended after it.
        """
        if moment != self._forgotten:
            return
        self._seen.put(key, (time.monotonic() + SEEN_FOR_S, content_type))

    def forget(self, key: str) -> None:
        """A deletion of `key` has ended, however it ended."""
        self._forgotten += 1
        self._seen.remove(key)
