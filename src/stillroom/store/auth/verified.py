"""Cache of verified tokens, since verifying a token takes 50 µs (HS256) to 130 µs (EdDSA).

The keys of the cache are complete `Authorization` headers. Only valid tokens are cached, so that
forged tokens cannot fill the cache. An entry expires after 30 s, as a signing key may be withdrawn.
"""

import time
from collections.abc import Callable
from typing import Final, NamedTuple

from stillroom.bounded_cache import BoundedCache
from stillroom.errors import Unauthenticated
from stillroom.store.auth.grants import Grant
from stillroom.store.auth.tokens import TokenVerifier

CACHE_S: Final = 30.0  # maximum age, equal to `jwks.UNKNOWN_KEY_S`
_MAX: Final = 4096
_LONGEST: Final = 2048  # characters of a header. With `_MAX` entries, this is about 10 MiB.


class Verified(NamedTuple):
    """Permissions of a token that has been verified."""

    grant: Grant
    until: float  # time (epoch seconds) at which the token must be verified again


class VerifiedTokens:
    """Token verifier that caches valid tokens."""

    def __init__(self, verifier: TokenVerifier, *, now: Callable[[], float] = time.time) -> None:
        self._verifier = verifier
        self._now = now
        self._cache: BoundedCache[str, Verified] = BoundedCache(_MAX)

    def verify_now(self, authorization: str | None) -> Verified | None:
        """Return a valid token's permissions, or None if `verify` must be awaited instead."""
        if authorization is None:
            return None
        verified = self._look_up(authorization)
        if verified is None:
            try:
                checked = self._verifier.check_now(authorization)
            except Unauthenticated:
                return None
            verified = checked and self._add(authorization, *checked)
        return verified

    async def verify(self, authorization: str | None) -> Grant:
        """Return the permissions of a token, or raise `Unauthenticated` or `TokenExpired`."""
        verified = None if authorization is None else self._look_up(authorization)
        if verified is not None:
            return verified.grant
        grant, expires = await self._verifier.check(authorization)
        assert authorization is not None  # noqa: S101  (`check` raises for None)
        return self._add(authorization, grant, expires).grant

    def _look_up(self, authorization: str) -> Verified | None:
        verified = self._cache.get(authorization)
        if verified is None:
            return None
        remaining = verified.until - self._now()
        # More than `CACHE_S` means that the clock was set back.
        return verified if 0 < remaining <= CACHE_S else None

    def _add(self, authorization: str, grant: Grant, expires: float) -> Verified:
        verified = Verified(grant, min(expires, self._now() + CACHE_S))
        if len(authorization) <= _LONGEST:
            self._cache.put(authorization, verified)
        return verified
