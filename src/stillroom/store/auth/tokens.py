"""Creation and verification of JSON Web Tokens (RFC 7519).

This module rejects tokens that PyJWT would accept: those with a missing or invalid `exp`, duplicate
names, padded or non-canonical base64, critical extensions, or more than 8,192 characters. Keys in
a token (`jku`, `jwk`, `x5u`) are ignored.
"""

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass, replace
from datetime import timedelta
from typing import Final, NamedTuple

import jwt

from stillroom.errors import InvalidPath, TokenExpired, Unauthenticated
from stillroom.store.auth.grants import Grant, Scope, parse_scopes, parse_subject
from stillroom.store.auth.keys import (
    KeySource,
    PublicKey,
    check_secrets,
    decode_base64url,
    parse_object,
)

MAX_TOKEN_CHARACTERS: Final = 8192

_BEARER = re.compile(r"Bearer +([A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+)", re.IGNORECASE)
_LATEST: Final = 2**53  # larger numbers of seconds are not exact as a float
_INVALID: Final = (jwt.PyJWTError, ValueError, InvalidPath, RecursionError)


class _UnverifiedToken(NamedTuple):
    encoded: str
    kid: str | None
    claims: dict[str, object]
    expires: float


@dataclass(frozen=True, slots=True)
class TokenVerifier:
    """Verifier of tokens. Its errors do not say why a token is invalid, unless it has expired."""

    keys: KeySource
    _: KW_ONLY
    audience: str | None = None  # required audience; None accepts any
    issuer: str | None = None  # required issuer; None accepts any
    now: Callable[[], float] = time.time

    async def check(self, authorization: str | None) -> tuple[Grant, float]:
        """Return the permissions and the expiration (epoch seconds) of a valid token."""
        try:
            token = self._parse(authorization)
            return self._verify(token, await self.keys.candidates(token.kid))
        except _INVALID:
            raise Unauthenticated from None

    def check_now(self, authorization: str | None) -> tuple[Grant, float] | None:
        """Return the result of `check`, or None if the keys must be fetched first."""
        try:
            token = self._parse(authorization)
            keys = self.keys.candidates_now(token.kid)
            return self._verify(token, keys) if keys else None
        except _INVALID:
            raise Unauthenticated from None

    def _parse(self, authorization: str | None) -> "_UnverifiedToken":
        if authorization is None or len(authorization) > MAX_TOKEN_CHARACTERS:
            raise Unauthenticated
        match = _BEARER.fullmatch(authorization)
        if match is None:
            raise Unauthenticated
        header, payload, _ = (decode_base64url(part) for part in match[1].split("."))
        fields, claims = parse_object(header), parse_object(payload)
        if fields.get("alg") != self.keys.algorithm or "crit" in fields:
            raise ValueError("unsupported algorithm or extension")
        kid = fields.get("kid")
        if not isinstance(kid, str | None):
            raise ValueError("kid must be a string")  # noqa: TRY004  (a wrong claim, not a wrong argument)
        return _UnverifiedToken(match[1], kid, claims, self._check_times(claims))

    def _verify(
        self, token: "_UnverifiedToken", keys: Sequence[str | PublicKey]
    ) -> tuple[Grant, float]:
        self._check_signature(token.encoded, keys)
        grant = self._grant_of(token.claims)
        if token.expires <= self.now():
            raise TokenExpired
        return grant, token.expires

    def _check_times(self, claims: dict[str, object]) -> float:
        """Check that all times are numbers. Return `exp`, even if it is in the past."""
        if "exp" not in claims:
            raise ValueError("exp is missing")
        expires = 0.0
        for name in ("nbf", "iat", "exp"):
            time_s = claims.get(name, 0)
            if (
                isinstance(time_s, bool)
                or not isinstance(time_s, int | float)
                or not -_LATEST < time_s < _LATEST  # False for NaN and infinity, too
            ):
                raise ValueError(f"{name} is not a time")
            expires = time_s  # of `exp`, the last name
        return expires

    def _check_signature(self, token: str, keys: Sequence[str | PublicKey]) -> None:
        failure: jwt.PyJWTError = jwt.InvalidTokenError()
        for key in keys:
            try:
                jwt.decode(
                    token,
                    key,
                    algorithms=[self.keys.algorithm],
                    audience=self.audience,
                    issuer=self.issuer,
                    options={"verify_exp": False, "verify_aud": self.audience is not None},
                )
            except jwt.InvalidSignatureError as error:
                failure = error
            else:
                return
        raise failure

    def _grant_of(self, claims: dict[str, object]) -> Grant:
        # A claim that is null is a mistake by the issuer, and must not grant more permissions.
        scope, folder = claims.get("scope", ""), claims.get("prefix", "")
        if not isinstance(scope, str) or not isinstance(folder, str):
            raise ValueError("scope and prefix must be strings")  # noqa: TRY004  (claims, not arguments)
        if "scope" in claims or not self.keys.unscoped_may_all:
            scopes = parse_scopes(scope)
        else:
            scopes = Grant.everything().scopes
        grant = Grant.confined_to(scopes, folder) if "prefix" in claims else Grant(scopes)
        return replace(grant, subject=parse_subject(claims.get("sub")))


def mint_token(
    secret: str,
    *,
    expires_in: timedelta,
    scopes: Sequence[Scope] | None = None,
    folder: str | None = None,
    subject: str | None = None,
    audience: str | None = None,
    issuer: str | None = None,
) -> str:
    """Create a token and sign it with `secret` (HS256). None for `scopes` means all scopes."""
    check_secrets([secret])
    now = int(time.time())
    claims: dict[str, object] = {"iat": now, "exp": now + int(expires_in.total_seconds())}
    if scopes is not None:
        claims["scope"] = " ".join(scopes)
    if folder is not None:
        claims["prefix"] = Grant.confined_to(frozenset(), folder).folder
    names = {"sub": subject, "aud": audience, "iss": issuer}
    claims |= {claim: name for claim, name in names.items() if name is not None}
    return jwt.encode(claims, secret, algorithm="HS256")
