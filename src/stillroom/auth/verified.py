"""Tokens whose check was passed a moment ago, so that a busy one is not checked each time.

A full check costs some 50 µs (HS256) to 130 µs (EdDSA), more than everything else that a
read does. Only what passed is remembered, under the whole field, so that a forged token gains
nothing; never past the token's own end; and never for long, so that a withdrawn key stops
working soon.
"""

import time
from collections.abc import Callable
from typing import Final, NamedTuple

from stillroom.auth.grants import Grant
from stillroom.auth.tokens import TokenVerifier
from stillroom.bounded_cache import BoundedCache
from stillroom.errors import Unauthenticated

CACHE_S: Final = 30.0
"""How long a passed check is believed: as often as a key set may be fetched anew."""

_MAX: Final = 4096
_LONGEST: Final = 2048
"""Characters; with `_MAX` no more than some 10 MiB, whichever keys sign the tokens."""


class Verified(NamedTuple):
    """Rights, and the moment (seconds since the epoch) from which they must be checked again."""

    grant: Grant
    until: float


class VerifiedTokens:
    """A `TokenVerifier` with a memory of at most 30 seconds."""

    def __init__(self, verifier: TokenVerifier, *, now: Callable[[], float] = time.time) -> None:
        self._verifier = verifier
        self._now = now
        self._passed: BoundedCache[str, Verified] = BoundedCache(_MAX)

    def lookup(self, authorization: str | None) -> Verified | None:
        """What this field is good for right now, without waiting; None: `verify` says why not."""
        if authorization is None:
            return None
        found = self._remembered(authorization)
        if found is None:
            try:
                checked = self._verifier.check_now(authorization)
            except Unauthenticated:
                return None
            found = checked and self._remember(authorization, *checked)
        return found

    async def verify(self, authorization: str | None) -> Grant:
        """As `TokenVerifier.verify`.

        Raises:
            Unauthenticated: for every reason the same, but for `TokenExpired`.
        """
        lookup = None if authorization is None else self._remembered(authorization)
        if lookup is not None:
            return lookup.grant
        grant, expires = await self._verifier.check(authorization)
        assert authorization is not None  # noqa: S101  (it was good)
        return self._remember(authorization, grant, expires).grant

    def _remembered(self, authorization: str) -> Verified | None:
        found = self._passed.get(authorization)
        if found is None:
            return None
        left = found.until - self._now()
        return found if 0 < left <= CACHE_S else None  # more: the clock was set back

    def _remember(self, authorization: str, grant: Grant, expires: float) -> Verified:
        found = Verified(grant, min(expires, self._now() + CACHE_S))
        if len(authorization) <= _LONGEST:
            self._passed.put(authorization, found)
        return found
