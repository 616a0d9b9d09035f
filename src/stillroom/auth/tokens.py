"""Minting and checking JSON Web Tokens (RFC 7519).

PyJWT checks the signature, `nbf`, `iat`, `iss` and `aud`. What it lets through and we
do not is checked here first: a missing, odd or textual `exp`, names given twice,
padded or non-canonical base64, critical extensions, and tokens too long to be
real. Fields of a token that name a key themselves (`jku`, `jwk`, `x5u`) are
never looked at.
"""

import re
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Final, NamedTuple

import jwt

from stillroom.auth.grants import Grant, Scope, parse_scopes
from stillroom.auth.keys import (
    KeySource,
    PublicKey,
    check_secrets,
    decode_base64url,
    parse_object,
)
from stillroom.errors import InvalidPath, TokenExpired, Unauthenticated

MAX_TOKEN_CHARACTERS: Final = 8192

_BEARER = re.compile(r"Bearer +([A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+)", re.IGNORECASE)
_LATEST: Final = 2**53  # beyond it a float of seconds is no longer exact


_FAULTS: Final = (jwt.PyJWTError, ValueError, InvalidPath, RecursionError)


class _Read(NamedTuple):
    token: str
    kid: str | None
    claims: dict[str, object]
    expires: float


class TokenVerifier:
    """Turns an `Authorization` field into a `Grant`, or refuses it.

    Why is said of one that has expired only, once all else about it is found to be good.
    """

    def __init__(
        self,
        keys: KeySource,
        *,
        audience: str | None = None,
        issuer: str | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        """Accept tokens signed with any of `keys`, for `audience` and from `issuer` if given."""
        self._keys = keys
        self._audience = audience
        self._issuer = issuer
        self._now = now

    async def verify(self, authorization: str | None) -> Grant:
        """The rights that the token in an `Authorization` field carries; see `check`."""
        return (await self.check(authorization))[0]

    async def check(self, authorization: str | None) -> tuple[Grant, float]:
        """The rights that a token carries, and its `exp` in seconds since the epoch.

        Waits only if the token names a key that is not known yet.

        Raises:
            TokenExpired: nothing is wrong with it but its `exp`.
            Unauthenticated: for every other reason the same.
        """
        try:
            read = self._read(authorization)
            return self._grant(read, await self._keys.candidates(read.kid))
        except _FAULTS:
            raise Unauthenticated from None

    def check_now(self, authorization: str | None) -> tuple[Grant, float] | None:
        """As `check`, with the keys that are at hand; None: a key must be waited for."""
        try:
            read = self._read(authorization)
            keys = self._keys.at_hand(read.kid)
            return self._grant(read, keys) if keys else None
        except _FAULTS:
            raise Unauthenticated from None

    def _read(self, authorization: str | None) -> "_Read":
        """What an `Authorization` field says, its signature not checked."""
        if authorization is None or len(authorization) > MAX_TOKEN_CHARACTERS:
            raise Unauthenticated
        found = _BEARER.fullmatch(authorization)
        if found is None:
            raise Unauthenticated
        header, payload, _ = (decode_base64url(part) for part in found[1].split("."))
        kid = self._check_header(parse_object(header))
        claims = parse_object(payload)
        return _Read(found[1], kid, claims, self._check_times(claims))

    def _grant(self, read: "_Read", keys: Sequence[str | PublicKey]) -> tuple[Grant, float]:
        self._check_signature(read.token, keys)
        grant = self._grant_of(read.claims)
        if read.expires <= self._now():
            raise TokenExpired
        return grant, read.expires

    def _check_header(self, header: dict[str, object]) -> str | None:
        """The `kid` of a token that may be one of ours; no key is looked for otherwise."""
        kid = header.get("kid")
        if header.get("alg") != self._keys.algorithm or "crit" in header:
            raise ValueError("another algorithm, or an extension")
        if not isinstance(kid, str | None):
            raise ValueError("kid is text")  # noqa: TRY004  (a token's fault, not a caller's)
        return kid

    def _check_times(self, claims: dict[str, object]) -> float:
        """When it ends; that may be over."""
        if "exp" not in claims:
            raise ValueError("without an end")
        expires = 0.0
        for name in ("nbf", "iat", "exp"):
            moment = claims.get(name, 0)
            if (
                isinstance(moment, bool)
                or not isinstance(moment, int | float)
                or not -_LATEST < moment < _LATEST  # NaN and infinity, too
            ):
                raise ValueError(f"{name} is not a moment")
            expires = moment
        return expires

    def _check_signature(self, token: str, keys: Sequence[str | PublicKey]) -> None:
        failure: jwt.PyJWTError = jwt.InvalidTokenError()
        for key in keys:
            try:
                jwt.decode(
                    token,
                    key,
                    algorithms=[self._keys.algorithm],
                    audience=self._audience,
                    issuer=self._issuer,
                    options={"verify_exp": False, "verify_aud": self._audience is not None},
                )
            except jwt.InvalidSignatureError as error:
                failure = error
            else:
                return
        raise failure

    def _grant_of(self, claims: dict[str, object]) -> Grant:
        # A claim that is there and null is a mistake of the issuer's, and must not widen anything.
        scope, folder = claims.get("scope", ""), claims.get("prefix", "")
        if not isinstance(scope, str) or not isinstance(folder, str):
            raise ValueError("scope and prefix are text")  # noqa: TRY004  (claims, not arguments)
        if "scope" in claims or not self._keys.unscoped_may_all:
            scopes = parse_scopes(scope)
        else:
            scopes = Grant.everything().scopes
        return Grant.confined_to(scopes, folder) if "prefix" in claims else Grant(scopes)


def mint_token(
    secret: str,
    *,
    expires_in: timedelta,
    scopes: Sequence[Scope] | None = None,
    folder: str | None = None,
    audience: str | None = None,
    issuer: str | None = None,
) -> str:
    """A token signed with `secret` (HS256); without scopes it may do everything.

    Raises:
        ConfigurationError: the secret cannot be one.
        InvalidPath: no image can lie in `folder`.
    """
    check_secrets([secret])
    now = int(time.time())
    claims: dict[str, object] = {"iat": now, "exp": now + int(expires_in.total_seconds())}
    if scopes is not None:
        claims["scope"] = " ".join(scopes)
    if folder is not None:
        claims["prefix"] = Grant.confined_to(frozenset(), folder).folder
    if audience is not None:
        claims["aud"] = audience
    if issuer is not None:
        claims["iss"] = issuer
    return jwt.encode(claims, secret, algorithm="HS256")
