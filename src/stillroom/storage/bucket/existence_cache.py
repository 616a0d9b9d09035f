"""Which images were there a moment ago, so that a busy one is not asked for again and again."""

import time
from typing import Final

SEEN_FOR_S: Final = 60.0
"""How long a look is believed. Longer, and an image that another process deletes haunts us."""

_MAX: Final = 65_536
"""Keys remembered; some 15 MiB at most."""


class ExistenceCache:
    """Keys under which this process has saved or seen an image in the last minute."""

    def __init__(self) -> None:
        self._until: dict[str, float] = {}  # in the order in which they were noted
        self._forgotten = 0

    def __contains__(self, key: str) -> bool:
        return self._until.get(key, 0.0) > time.monotonic()

    @property
    def moment(self) -> int:
        """Take it before a look, and give it to `note` after it."""
        return self._forgotten

    def note(self, key: str, moment: int) -> None:
        """Remember `key`, unless something was deleted here since `moment`.

        A look that began before a deletion may have ended after it.
        """
        if moment != self._forgotten:
            return
        self._until.pop(key, None)
        while len(self._until) >= _MAX:
            del self._until[next(iter(self._until))]
        self._until[key] = time.monotonic() + SEEN_FOR_S

    def forget(self, key: str) -> None:
        """A deletion of `key` has ended, however it ended."""
        self._forgotten += 1
        self._until.pop(key, None)
