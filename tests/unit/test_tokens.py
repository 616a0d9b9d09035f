"""Tokens: what is minted is accepted, and nothing else is."""

import base64
import hashlib
import hmac
import json
from datetime import timedelta
from typing import Any

import pytest

from stillroom.auth.grants import SCOPES, Grant
from stillroom.auth.tokens import TokenVerifier, mint_token
from stillroom.errors import ConfigurationError, Forbidden, InvalidPath, Unauthenticated
from stillroom.paths import ImagePath, ImagePrefix

SECRET = "s" * 32
OTHER = "o" * 32
NOW = 1_700_000_000
HEADER = {"alg": "HS256", "typ": "JWT"}


def encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def signed(
    header: str | dict[str, Any], payload: str | dict[str, Any], secret: str = SECRET
) -> str:
    parts = [
        encode((part if isinstance(part, str) else json.dumps(part)).encode())
        for part in (header, payload)
    ]
    body = ".".join(parts)
    return f"{body}.{encode(hmac.digest(secret.encode(), body.encode(), hashlib.sha256))}"


def verify(token: str, **options: Any) -> Grant:
    return TokenVerifier([SECRET], now=lambda: NOW, **options).verify(f"Bearer {token}")


def test_a_minted_token_may_do_everything_unless_told_otherwise() -> None:
    token = mint_token(SECRET, expires_in=timedelta(hours=1))
    assert TokenVerifier([SECRET]).verify(f"bearer {token}") == Grant.everything()


def test_a_minted_token_carries_its_scopes_and_folder() -> None:
    token = mint_token(
        SECRET, expires_in=timedelta(hours=1), scopes=["storage:read"], folder="cats/2026"
    )
    grant = TokenVerifier([SECRET]).verify(f"Bearer {token}")
    assert grant == Grant(frozenset(["storage:read"]), "cats/2026/")


def test_a_previous_secret_is_still_accepted() -> None:
    token = mint_token(OTHER, expires_in=timedelta(hours=1))
    assert TokenVerifier([SECRET, OTHER]).verify(f"Bearer {token}") == Grant.everything()
    with pytest.raises(Unauthenticated):
        TokenVerifier([SECRET]).verify(f"Bearer {token}")


def test_unknown_scopes_grant_nothing() -> None:
    assert verify(signed(HEADER, {"exp": NOW + 1, "scope": "admin storage:read x"})).scopes == {
        "storage:read"
    }
    assert verify(signed(HEADER, {"exp": NOW + 1, "scope": ""})).scopes == frozenset()


GOOD = {"exp": NOW + 10}
TOKENS = {
    "no exp": signed(HEADER, {}),
    "exp now": signed(HEADER, {"exp": NOW}),
    "exp past": signed(HEADER, {"exp": NOW - 1}),
    "exp as text": signed(HEADER, {"exp": str(NOW + 10)}),
    "exp null": signed(HEADER, {"exp": None}),
    "exp true": signed(HEADER, {"exp": True}),
    "exp infinite": signed(HEADER, '{"exp": Infinity}'),
    "exp NaN": signed(HEADER, '{"exp": NaN}'),
    "exp 1e400": signed(HEADER, '{"exp": 1e400}'),
    "exp in a list": signed(HEADER, {"exp": [NOW + 10]}),
    "exp twice": signed(HEADER, f'{{"exp": {NOW - 9}, "exp": {NOW + 9}}}'),
    "not yet valid": signed(HEADER, {**GOOD, "nbf": 2**40}),
    "scope as a list": signed(HEADER, {**GOOD, "scope": ["storage:read"]}),
    "prefix as a number": signed(HEADER, {**GOOD, "prefix": 1}),
    "prefix empty": signed(HEADER, {**GOOD, "prefix": ""}),
    "prefix leaves its folder": signed(HEADER, {**GOOD, "prefix": "a/../b"}),
    "claims are a list": signed(HEADER, "[]"),
    "claims are not JSON": signed(HEADER, "exp"),
    "claims nest too deep": signed(HEADER, "[" * 3000),
    "alg none": signed({"alg": "none"}, GOOD),
    "alg none, unsigned": signed({"alg": "none"}, GOOD).rpartition(".")[0] + ".",
    "alg HS512": signed({"alg": "HS512"}, GOOD),
    "alg RS256": signed({"alg": "RS256"}, GOOD),
    "alg twice": signed('{"alg": "none", "alg": "HS256"}', GOOD),
    "alg missing": signed({"typ": "JWT"}, GOOD),
    "another secret": signed(HEADER, GOOD, OTHER),
    "padded": signed(HEADER, GOOD) + "=",
    "a part more": signed(HEADER, GOOD) + ".x",
    "a part less": signed(HEADER, GOOD).rpartition(".")[0],
    "a space inside": signed(HEADER, GOOD).replace(".", ". ", 1),
    "too long": signed(HEADER, {**GOOD, "x": "y" * 9000}),
    "empty": "",
}


@pytest.mark.parametrize("token", TOKENS.values(), ids=TOKENS.keys())
def test_a_token_is_refused_for(token: str) -> None:
    with pytest.raises(Unauthenticated):
        verify(token)


def test_the_control_for_the_refusals_is_accepted() -> None:
    assert verify(signed(HEADER, GOOD)) == Grant.everything()
    assert verify(signed(HEADER, {"exp": NOW + 0.5})) == Grant.everything()


def test_a_signature_with_stray_bits_is_refused() -> None:
    token = signed(HEADER, GOOD)
    last = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_".index(token[-1])
    stray = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"[last | 1]
    with pytest.raises(Unauthenticated):
        verify(token[:-1] + stray)


@pytest.mark.parametrize(
    "field", [None, "", "Bearer", "Basic dTpw", "Token x", "Bearer a.b.c, Bearer a.b.c"]
)
def test_another_authorization_is_refused(field: str | None) -> None:
    with pytest.raises(Unauthenticated):
        TokenVerifier([SECRET]).verify(field)


def test_audience_and_issuer_are_held_to_where_configured() -> None:
    token = signed(HEADER, {**GOOD, "aud": "stillroom", "iss": "us"})
    assert verify(token, audience="stillroom", issuer="us") == Grant.everything()
    for options in ({"audience": "else"}, {"issuer": "them"}):
        with pytest.raises(Unauthenticated):
            verify(token, **options)
    with pytest.raises(Unauthenticated):
        verify(signed(HEADER, GOOD), audience="stillroom")


def test_a_short_secret_is_refused_at_the_start() -> None:
    with pytest.raises(ConfigurationError, match="32 bytes"):
        TokenVerifier(["short"])
    with pytest.raises(ConfigurationError, match="32 bytes"):
        mint_token("x" * 31, expires_in=timedelta(hours=1))


def test_a_folder_covers_what_lies_in_it_and_nothing_beside_it() -> None:
    grant = Grant.confined_to(frozenset(SCOPES), "a")

    grant.require("storage:read", ImagePath.parse("a/b"))
    for path in ("a", "ab", "b", "b/a/c"):
        with pytest.raises(Forbidden):
            grant.require("storage:read", ImagePath.parse(path))


def test_a_scope_covers_itself_alone() -> None:
    grant = Grant(frozenset(["storage:read"]))
    grant.require("storage:read", ImagePath.parse("a"))
    with pytest.raises(Forbidden, match="storage:write"):
        grant.require("storage:write", ImagePath.parse("a"))


def test_a_listing_is_narrowed_to_the_folder() -> None:
    grant = Grant.confined_to(frozenset(SCOPES), "a/b")

    for asked, seen in (("", "a/b/"), ("a", "a/b/"), ("a/b/", "a/b/"), ("a/b/c", "a/b/c")):
        assert grant.narrow("storage:read", ImagePrefix(asked)).text == seen
    for asked in ("b", "a/c", "a/bc"):
        with pytest.raises(Forbidden):
            grant.narrow("storage:read", ImagePrefix(asked))


def test_a_folder_must_be_one() -> None:
    with pytest.raises(InvalidPath):
        mint_token(SECRET, expires_in=timedelta(hours=1), folder="../x")
