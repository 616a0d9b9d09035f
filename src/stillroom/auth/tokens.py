"""Minting and checking JSON Web Tokens (RFC 7519), HS256 with a shared secret.

PyJWT checks the signature, `nbf`, `iat`, `iss` and `aud`. What it lets through and we
do not is checked here first: a missing, odd or textual `exp`, names given twice,
padded or non-canonical base64, and tokens too long to be anybody's.
"""

import base64
import binascii
import json
import math
import re
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Final, NoReturn

import jwt

from stillroom.auth.grants import Grant, Scope, parse_scopes
from stillroom.errors import ConfigurationError, InvalidPath, Unauthenticated

ALGORITHM: Final = "HS256"

MIN_SECRET_BYTES: Final = 32
"""An HS256 key shorter than its hash can be guessed: https://www.rfc-editor.org/rfc/rfc7518#section-3.2"""

MAX_TOKEN_CHARACTERS: Final = 8192

_BEARER = re.compile(r"Bearer +([A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+)", re.IGNORECASE)
_LATEST_EXP: Final = 2**53  # beyond it a float of seconds is no longer exact


class TokenVerifier:
    """Turns an `Authorization` field into a `Grant`, or refuses it without saying why."""

    def __init__(
        self,
        secrets: Sequence[str],
        *,
        audience: str | None = None,
        issuer: str | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        """Accept tokens signed with any of `secrets`, the current one first.

        Raises:
            ConfigurationError: a secret is too short.
        """
        check_secrets(secrets)
        self._secrets = tuple(secrets)
        self._audience = audience
        self._issuer = issuer
        self._now = now

    def verify(self, authorization: str | None) -> Grant:
        """The rights that the token in an `Authorization` field carries.

        Raises:
            Unauthenticated: for every reason the same.
        """
        if authorization is None or len(authorization) > MAX_TOKEN_CHARACTERS:
            raise Unauthenticated
        found = _BEARER.fullmatch(authorization)
        if found is None:
            raise Unauthenticated
        try:
            return self._grant(found[1])
        except (jwt.PyJWTError, ValueError, InvalidPath, RecursionError):
            raise Unauthenticated from None

    def _grant(self, token: str) -> Grant:
        header, payload, _ = (_decode_segment(part) for part in token.split("."))
        _parse_object(header)
        claims = _parse_object(payload)
        self._verify_signature(token)
        expires = claims.get("exp")
        if (
            isinstance(expires, bool)
            or not isinstance(expires, int | float)
            or not math.isfinite(expires)
            or not self._now() < expires < _LATEST_EXP
        ):
            raise ValueError("exp")
        return _grant_of(claims)

    def _verify_signature(self, token: str) -> None:
        failure: jwt.PyJWTError = jwt.InvalidTokenError()
        for secret in self._secrets:
            try:
                jwt.decode(
                    token,
                    secret,
                    algorithms=[ALGORITHM],
                    audience=self._audience,
                    issuer=self._issuer,
                    options={"verify_exp": False, "verify_aud": self._audience is not None},
                )
            except jwt.InvalidSignatureError as error:
                failure = error
            else:
                return
        raise failure


def mint_token(
    secret: str,
    *,
    expires_in: timedelta,
    scopes: Sequence[Scope] | None = None,
    folder: str | None = None,
    audience: str | None = None,
    issuer: str | None = None,
) -> str:
    """A token signed with `secret`; without scopes it may do everything.

    Raises:
        ConfigurationError: the secret is too short.
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
    return jwt.encode(claims, secret, algorithm=ALGORITHM)


def check_secrets(secrets: Sequence[str]) -> None:
    """Raise unless every secret is long enough to sign with.

    Raises:
        ConfigurationError: one is not.
    """
    for secret in secrets:
        if len(secret.encode()) < MIN_SECRET_BYTES:
            raise ConfigurationError(
                f"a JWT secret is shorter than {MIN_SECRET_BYTES} bytes: unset "
                "STILLROOM_JWT_SECRET to have one made, or make one with `openssl rand -base64 32`"
            )


def _grant_of(claims: dict[str, object]) -> Grant:
    scope, folder = claims.get("scope"), claims.get("prefix")
    if not isinstance(scope, str | None) or not isinstance(folder, str | None):
        raise ValueError("scope and prefix are text")  # noqa: TRY004  (claims, not arguments)
    scopes = Grant.everything().scopes if scope is None else parse_scopes(scope)
    return Grant(scopes) if folder is None else Grant.confined_to(scopes, folder)


def _decode_segment(text: str) -> bytes:
    try:
        decoded = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except binascii.Error as error:
        raise ValueError("not base64url") from error
    if base64.urlsafe_b64encode(decoded).rstrip(b"=").decode() != text:
        raise ValueError("not canonical base64url")
    return decoded


def _parse_object(data: bytes) -> dict[str, object]:
    found = json.loads(data, object_pairs_hook=_unique, parse_constant=_refuse_constant)
    if not isinstance(found, dict):
        raise ValueError("not an object")  # noqa: TRY004  (a token's fault, not a caller's)
    return found


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name is given twice")
    return found


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")
