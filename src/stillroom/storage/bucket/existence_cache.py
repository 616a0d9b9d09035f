"""Which images were there a moment ago, so that a busy one is not asked for again and again."""

import time
from typing import Final

SEEN_FOR_S: Final = 60.0
"""How long a look is believed. Longer, and an image that another process deletes haunts us."""

_MAX: Final = 65_536
"""Keys remembered; some 20 MiB at most."""

_NEVER: Final = (0.0, "")


class ExistenceCache:
    """Keys under which this process has saved or seen an image in the last minute."""

    def __init__(self) -> None:
        # Until when, and of which type; in the order in which they were noted.
        self._seen: dict[str, tuple[float, str]] = {}
        self._forgotten = 0

    def __contains__(self, key: str) -> bool:
        return self._seen.get(key, _NEVER)[0] > time.monotonic()

    def content_type(self, key: str) -> str | None:
        """The type of what is there; None where that is not known."""
        until, content_type = self._seen.get(key, _NEVER)
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
        self._seen.pop(key, None)
        while len(self._seen) >= _MAX:
            del self._seen[next(iter(self._seen))]
        self._seen[key] = time.monotonic() + SEEN_FOR_S, content_type

    def forget(self, key: str) -> None:
        """A deletion of `key` has ended, however it ended."""
        self._forgotten += 1
        self._seen.pop(key, None)
