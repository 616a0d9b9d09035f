"""Tokens: what is minted is accepted, and nothing else is."""

import asyncio
import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from issuing import ALGORITHMS, issuer, public_key_file, signed_by_secret, unsigned
from stillroom.errors import (
    ConfigurationError,
    Forbidden,
    InvalidPath,
    TokenExpired,
    Unauthenticated,
)
from stillroom.paths import ImagePath, ImagePrefix
from stillroom.store.auth.grants import SCOPES, Grant
from stillroom.store.auth.keys import Algorithm, KeySource, PublicKeyFile, SharedSecrets
from stillroom.store.auth.tokens import TokenVerifier, mint_token

SECRET = "s" * 32
OTHER = "o" * 32
NOW = 1_700_000_000
HEADER = {"alg": "HS256", "typ": "JWT"}


def signed(header: Any, payload: Any, secret: str = SECRET) -> str:
    return signed_by_secret(header, payload, secret)


def authenticate(authorization: str | None, keys: KeySource | None = None, **options: Any) -> Grant:
    verifier = TokenVerifier(keys or SharedSecrets([SECRET]), **options)
    return asyncio.run(verifier.check(authorization))[0]


def verify(token: str, keys: KeySource | None = None, **options: Any) -> Grant:
    return authenticate(f"Bearer {token}", keys, now=lambda: NOW, **options)


def test_a_minted_token_may_do_everything_unless_told_otherwise() -> None:
    token = mint_token(SECRET, expires_in=timedelta(hours=1))
    assert authenticate(f"bearer {token}") == Grant.everything()


def test_a_minted_token_carries_its_scopes_and_folder() -> None:
    token = mint_token(
        SECRET, expires_in=timedelta(hours=1), scopes=["storage:read"], folder="cats/2026"
    )
    grant = authenticate(f"Bearer {token}")
    assert grant == Grant(frozenset(["storage:read"]), "cats/2026/")


def test_a_previous_secret_is_still_accepted() -> None:
    token = mint_token(OTHER, expires_in=timedelta(hours=1))
    assert authenticate(f"Bearer {token}", SharedSecrets([SECRET, OTHER])) == Grant.everything()
    with pytest.raises(Unauthenticated):
        authenticate(f"Bearer {token}")


def test_unknown_scopes_grant_nothing() -> None:
    assert verify(signed(HEADER, {"exp": NOW + 1, "scope": "admin storage:read x"})).scopes == {
        "storage:read"
    }
    assert verify(signed(HEADER, {"exp": NOW + 1, "scope": ""})).scopes == frozenset()


def test_the_subject_is_a_short_text_without_control_characters() -> None:
    def subject_of(sub: object) -> str | None:
        return verify(signed(HEADER, {"exp": NOW + 1, "sub": sub})).subject

    assert subject_of("user-7") == "user-7"
    assert subject_of("é" * 255) == "é" * 255
    assert [subject_of(text) for text in ("", "x" * 256, "a\nb", "\x85", "\ud800")] == [None] * 5
    token = mint_token(SECRET, expires_in=timedelta(hours=1), folder="a", subject="cli")
    assert authenticate(f"Bearer {token}") == Grant(Grant.everything().scopes, "a/", "cli")


GOOD = {"exp": NOW + 10}
TOKENS = {
    "no exp": signed(HEADER, {}),
    "exp as text": signed(HEADER, {"exp": str(NOW + 10)}),
    "exp null": signed(HEADER, {"exp": None}),
    "exp true": signed(HEADER, {"exp": True}),
    "exp infinite": signed(HEADER, '{"exp": Infinity}'),
    "exp NaN": signed(HEADER, '{"exp": NaN}'),
    "exp 1e400": signed(HEADER, '{"exp": 1e400}'),
    "exp of 400 digits": signed(HEADER, {"exp": 10**400}),
    "prefix null": signed(HEADER, {"exp": NOW + 10, "prefix": None}),
    "scope null": signed(HEADER, {"exp": NOW + 10, "scope": None}),
    "exp in a list": signed(HEADER, {"exp": [NOW + 10]}),
    "exp twice": signed(HEADER, f'{{"exp": {NOW - 9}, "exp": {NOW + 9}}}'),
    "exp in an object": signed(HEADER, {"exp": {"exp": NOW + 10}}),
    "exp false": signed(HEADER, {"exp": False}),
    "exp in another case": signed(HEADER, {"EXP": NOW + 10}),
    "scope twice": signed(HEADER, f'{{"exp": {NOW + 9}, "scope": "", "scope": "storage:read"}}'),
    "prefix twice": signed(HEADER, f'{{"exp": {NOW + 9}, "prefix": "a", "prefix": "b"}}'),
    "prefix twice, once escaped": signed(
        HEADER, f'{{"exp": {NOW + 9}, "prefix": "a", "\\u0070refix": "b"}}'
    ),
    "a name twice further in": signed(HEADER, f'{{"exp": {NOW + 9}, "x": {{"y": 1, "y": 2}}}}'),
    "nbf infinite": signed(HEADER, '{"exp": 1700000010, "nbf": 1e400}'),
    "nbf null": signed(HEADER, {**GOOD, "nbf": None}),
    "iat as text": signed(HEADER, {**GOOD, "iat": "now"}),
    "not yet valid": signed(HEADER, {**GOOD, "nbf": 2**40}),
    "scope as a list": signed(HEADER, {**GOOD, "scope": ["storage:read"]}),
    "prefix as a number": signed(HEADER, {**GOOD, "prefix": 1}),
    "prefix empty": signed(HEADER, {**GOOD, "prefix": ""}),
    "prefix leaves its folder": signed(HEADER, {**GOOD, "prefix": "a/../b"}),
    "claims are a list": signed(HEADER, "[]"),
    "claims are not JSON": signed(HEADER, "exp"),
    "claims are a number": signed(HEADER, "1"),
    "claims are null": signed(HEADER, "null"),
    "claims and more": signed(HEADER, json.dumps(GOOD) + "{}"),
    "claims are nothing": signed(HEADER, ""),
    "the header is a list": signed("[]", GOOD),
    "the header is not JSON": signed("alg", GOOD),
    "claims nest too deep": signed(HEADER, "[" * 3000),
    "alg none": signed({"alg": "none"}, GOOD),
    "alg none, unsigned": signed({"alg": "none"}, GOOD).rpartition(".")[0] + ".",
    "alg HS512": signed({"alg": "HS512"}, GOOD),
    "alg RS256": signed({"alg": "RS256"}, GOOD),
    "alg twice": signed('{"alg": "none", "alg": "HS256"}', GOOD),
    "alg None": signed({"alg": "None"}, GOOD),
    "alg in small letters": signed({"alg": "hs256"}, GOOD),
    "alg in a list": signed({"alg": ["HS256"]}, GOOD),
    "alg null": signed({"alg": None}, GOOD),
    "alg empty": signed({"alg": ""}, GOOD),
    "alg behind a blank": signed({"alg": " HS256"}, GOOD),
    "alg missing": signed({"typ": "JWT"}, GOOD),
    "critical extensions": signed({**HEADER, "crit": ["b64"], "b64": False}, GOOD),
    "critical nothing": signed({**HEADER, "crit": []}, GOOD),
    "kid as a number": signed({**HEADER, "kid": 1}, GOOD),
    "another secret": signed(HEADER, GOOD, OTHER),
    "padded": signed(HEADER, GOOD) + "=",
    "padded inside": signed(HEADER, GOOD).replace(".", "=.", 1),
    "a line end behind": signed(HEADER, GOOD) + "\n",
    "a NUL behind": signed(HEADER, GOOD) + "\0",
    "other digits": signed(HEADER, GOOD) + "\u0660",
    "the signature missing": signed(HEADER, GOOD).rpartition(".")[0] + ".",
    "the signature cut": signed(HEADER, GOOD)[:-4],
    "a mebibyte": "a" * 1024**2,
    "a mebibyte of dots": "." * 1024**2,
    "a part more": signed(HEADER, GOOD) + ".x",
    "a part less": signed(HEADER, GOOD).rpartition(".")[0],
    "a space inside": signed(HEADER, GOOD).replace(".", ". ", 1),
    "too long": signed(HEADER, {**GOOD, "x": "y" * 9000}),
    "empty": "",
}


@pytest.mark.parametrize("token", TOKENS.values(), ids=TOKENS.keys())
def test_a_token_is_refused_for(token: str) -> None:
    with pytest.raises(Unauthenticated) as raised:
        verify(token)
    assert type(raised.value) is Unauthenticated, "why is not said"


@pytest.mark.parametrize("exp", [NOW, NOW - 0.5, NOW - 1, 0, -NOW])
def test_a_token_that_was_good_until_its_end_is_told_so(exp: float) -> None:
    with pytest.raises(TokenExpired, match="the token has expired"):
        verify(signed(HEADER, {"exp": exp, "nbf": NOW - 100, "scope": "media", "prefix": "a"}))


def test_an_expired_token_with_another_fault_is_told_nothing() -> None:
    past = {"exp": NOW - 1}
    for token in (
        signed(HEADER, past, OTHER),
        signed({"alg": "none"}, past),
        signed(HEADER, past)[:-4],
        signed(HEADER, {**past, "nbf": 2**40}),
        signed(HEADER, {**past, "prefix": ""}),
    ):
        with pytest.raises(Unauthenticated) as raised:
            verify(token)
        assert type(raised.value) is Unauthenticated
    with pytest.raises(Unauthenticated) as raised:
        verify(signed(HEADER, {**past, "aud": "else"}), audience="stillroom")
    assert type(raised.value) is Unauthenticated


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
        authenticate(field)


def test_audience_and_issuer_are_held_to_where_configured() -> None:
    token = signed(HEADER, {**GOOD, "aud": "stillroom", "iss": "us"})
    assert verify(token, audience="stillroom", issuer="us") == Grant.everything()
    wrong: list[dict[str, Any]] = [{"audience": "else"}, {"issuer": "them"}]
    for options in wrong:
        with pytest.raises(Unauthenticated):
            verify(token, **options)
    with pytest.raises(Unauthenticated):
        verify(signed(HEADER, GOOD), audience="stillroom")


def test_a_short_secret_is_refused_at_the_start() -> None:
    with pytest.raises(ConfigurationError, match="32 bytes"):
        SharedSecrets(["short"])
    with pytest.raises(ConfigurationError, match="32 bytes"):
        mint_token("x" * 31, expires_in=timedelta(hours=1))


def test_a_folder_covers_what_lies_in_it_and_nothing_beside_it() -> None:
    grant = Grant.confined_to(frozenset(SCOPES), "a")

    grant.require("storage:read", ImagePath.parse("a/b"))
    for path in ("a", "ab", "b", "b/a/c"):
        with pytest.raises(Forbidden):
            grant.require("storage:read", ImagePath.parse(path))

    for folder in ("a", "a/b"):
        grant.require_folder("storage:read", ImagePath.parse(folder))
    for folder in ("ab", "b", "b/a"):
        with pytest.raises(Forbidden):
            grant.require_folder("storage:read", ImagePath.parse(folder))


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


@pytest.mark.parametrize("algorithm", ALGORITHMS)
class TestPublicKey:
    """The same for each algorithm; `keys` has the public half alone."""

    @pytest.fixture
    def keys(self, algorithm: Algorithm, tmp_path: Path) -> PublicKeyFile:
        return PublicKeyFile(public_key_file(tmp_path, issuer(algorithm)), algorithm)

    def test_a_token_has_the_rights_that_it_names(
        self, algorithm: str, keys: PublicKeyFile
    ) -> None:
        token = issuer(algorithm).token({**GOOD, "scope": "openid storage:read", "prefix": "a"})
        assert verify(token, keys) == Grant(frozenset(["storage:read"]), "a/")

    def test_a_token_without_a_scope_may_do_nothing(
        self, algorithm: str, keys: PublicKeyFile
    ) -> None:
        assert verify(issuer(algorithm).token(GOOD), keys) == Grant(frozenset())

    def test_a_kid_says_nothing_about_a_single_key(
        self, algorithm: str, keys: PublicKeyFile
    ) -> None:
        for header in ({"alg": algorithm}, {"alg": algorithm, "kid": "other"}):
            assert verify(issuer(algorithm).token(GOOD, header), keys) == Grant(frozenset())

    @pytest.mark.parametrize(
        "payload",
        [
            {},
            {"exp": NOW},
            {"exp": str(NOW + 10)},
            {"exp": True},
            '{"exp": 1e400}',
            f'{{"exp": {NOW - 9}, "exp": {NOW + 9}}}',
            {**GOOD, "nbf": 2**40},
            {**GOOD, "nbf": None},
            {**GOOD, "scope": ["storage:read"]},
            {**GOOD, "prefix": "a/../b"},
            {**GOOD, "x": "y" * 9000},
            "[]",
        ],
    )
    def test_odd_claims_are_refused(
        self, algorithm: str, keys: PublicKeyFile, payload: Any
    ) -> None:
        with pytest.raises(Unauthenticated):
            verify(issuer(algorithm).token(payload), keys)

    def test_another_spelling_of_a_token_is_refused(
        self, algorithm: str, keys: PublicKeyFile
    ) -> None:
        token = issuer(algorithm).token(GOOD)
        body, _, signature = token.rpartition(".")
        for spelling in (token + "=", f"{body}.", f"{body}.{signature[:-4]}", token + ".x", body):
            with pytest.raises(Unauthenticated):
                verify(spelling, keys)
        if len(signature) % 4:  # the last character has bits to spare
            with pytest.raises(Unauthenticated):
                verify(token[:-1] + chr(ord(token[-1]) + 1), keys)

    def test_every_bit_of_the_signature_counts(self, algorithm: str, keys: PublicKeyFile) -> None:
        from issuing import encode

        body = unsigned({"alg": algorithm}, GOOD)
        signature = issuer(algorithm).sign(body.encode())
        for bit in range(0, len(signature) * 8, 7):
            altered = bytearray(signature)
            altered[bit // 8] ^= 1 << bit % 8
            with pytest.raises(Unauthenticated):
                verify(f"{body}.{encode(bytes(altered))}", keys)

    def test_the_public_key_is_no_shared_secret(self, algorithm: str, keys: PublicKeyFile) -> None:
        pem = issuer(algorithm).public_pem
        for secret in (pem, pem.strip()):
            for alg in ("HS256", algorithm):
                with pytest.raises(Unauthenticated):
                    verify(signed_by_secret({"alg": alg}, GOOD, secret), keys)

    @pytest.mark.parametrize("alg", ["none", "None", "HS256", "RS512", "PS256", "ES384", "", None])
    def test_a_token_does_not_choose_its_algorithm(
        self, algorithm: str, keys: PublicKeyFile, alg: str | None
    ) -> None:
        with pytest.raises(Unauthenticated):
            verify(issuer(algorithm).token(GOOD, {"alg": alg, "typ": "JWT"}), keys)
        with pytest.raises(Unauthenticated):
            verify(unsigned({"alg": alg}, GOOD) + ".", keys)

    def test_a_token_does_not_bring_its_key(self, algorithm: str, keys: PublicKeyFile) -> None:
        stranger = issuer(algorithm, "stranger")
        for field in (
            {"jwk": stranger.jwk},
            {"jku": "http://127.0.0.1:1/jwks"},
            {"x5u": "http://127.0.0.1:1/x"},
            {},
        ):
            with pytest.raises(Unauthenticated):
                verify(stranger.token(GOOD, {"alg": algorithm, **field}), keys)
            known = issuer(algorithm).token(GOOD, {"alg": algorithm, **field})
            assert verify(known, keys) == Grant(frozenset()), "the field is passed over"

    def test_critical_extensions_are_refused(self, algorithm: str, keys: PublicKeyFile) -> None:
        for crit in (["exp"], ["b64"], [], None):
            with pytest.raises(Unauthenticated):
                verify(issuer(algorithm).token(GOOD, {"alg": algorithm, "crit": crit}), keys)

    def test_audience_and_issuer_hold_here_too(self, algorithm: str, keys: PublicKeyFile) -> None:
        token = issuer(algorithm).token({**GOOD, "aud": ["x", "stillroom"], "iss": "us"})
        assert verify(token, keys, audience="stillroom", issuer="us") == Grant(frozenset())
        for options in ({"audience": "else"}, {"issuer": "them"}):
            with pytest.raises(Unauthenticated):
                verify(token, keys, **options)
