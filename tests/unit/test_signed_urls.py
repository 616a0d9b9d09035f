"""Signed URLs: what was signed is accepted until it expires, and nothing beside it."""

import base64
import hashlib
import hmac
from urllib.parse import quote

import pytest
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from hypothesis import assume, given
from hypothesis import strategies as st

from stillroom.errors import ConfigurationError, InvalidPath, Unauthenticated
from stillroom.paths import ImagePath
from stillroom.store.auth.grants import Grant
from stillroom.store.auth.signed_urls import MAX_LIFE_S, UrlSigner, is_signed

SECRET, OTHER = "s" * 32, "o" * 32
NOW = 1_700_000_000
READ = Grant(frozenset(["storage:read"]))
PATH = ImagePath.parse("cats/tom & jérôme.png")


def signer(*secrets: str, now: float = NOW) -> UrlSigner:
    return UrlSigner(secrets or [SECRET], now=lambda: now)


def signed(path: ImagePath = PATH, valid_for_s: int = 60) -> tuple[bytes, bytes]:
    target = signer().sign(path, valid_for_s=valid_for_s).target.encode()
    raw_path, _, query = target.partition(b"?")
    return raw_path, query


def accepted(raw_path: bytes, query: bytes, by: UrlSigner | None = None) -> bool:
    try:
        return (by or signer()).check(raw_path, query) == READ
    except Unauthenticated:
        return False


def derived(label: bytes) -> bytes:
    info = b"stillroom signed url v1 " + label
    return HKDF(SHA256(), 32, salt=None, info=info).derive(SECRET.encode())


def test_the_url_is_what_the_decision_record_says() -> None:
    found = signer().sign(PATH, valid_for_s=60)

    path, expires, kid = quote(PATH.text), NOW + 60, derived(b"key id")[:8].hex()
    text = f"stillroom signed url v1\nGET\n{path}\n\n{expires}\n{kid}"
    digest = hmac.digest(derived(b"key"), text.encode(), hashlib.sha256)
    signature = base64.urlsafe_b64encode(digest).decode().rstrip("=")
    assert found.target == f"{path}?expires={expires}&kid={kid}&signature={signature}"
    assert found.expires_at == expires


def test_a_signed_url_is_good_for_reading_until_it_expires() -> None:
    raw_path, query = signed(valid_for_s=60)

    assert accepted(raw_path, query)
    assert accepted(raw_path, query, signer(now=NOW + 59.9))
    for late in (60, 61, 2**40):
        assert not accepted(raw_path, query, signer(now=NOW + late))


def test_previous_secrets_are_accepted_and_others_not() -> None:
    raw_path, query = signed()

    assert accepted(raw_path, query, signer(OTHER, SECRET))
    assert not accepted(raw_path, query, signer(OTHER))
    assert b"kid=" in query
    renamed = signer(OTHER).sign(PATH, valid_for_s=60).target.encode().partition(b"&kid=")[2]
    kid = renamed.partition(b"&")[0]
    altered = query.replace(query.partition(b"&kid=")[2].partition(b"&")[0], kid)
    assert not accepted(raw_path, altered, signer(OTHER, SECRET))


@given(st.integers(min_value=0))
def test_every_altered_bit_is_refused(bit: int) -> None:
    raw_path, query = signed()
    target = bytearray(raw_path + b"?" + query)
    bit %= len(target) * 8
    target[bit // 8] ^= 1 << bit % 8

    altered_path, _, altered_query = bytes(target).partition(b"?")

    assert not accepted(altered_path, altered_query)


@given(st.binary(max_size=30), st.binary(max_size=30))
def test_nothing_can_be_put_before_or_behind(before: bytes, behind: bytes) -> None:
    assume(before or behind)
    raw_path, query = signed()

    assert not accepted(before + raw_path + behind, query)
    assert not accepted(raw_path, before + query + behind)


@given(st.text(min_size=1, max_size=40), st.integers(1, MAX_LIFE_S))
def test_every_path_can_be_signed(text: str, valid_for_s: int) -> None:
    try:
        path = ImagePath.parse(text)
    except InvalidPath:
        assume(False)
    raw_path, query = signed(path, valid_for_s)

    assert accepted(raw_path, query)
    assert is_signed(query)
    assert ImagePath.from_target(raw_path) == path
    assert not accepted(raw_path + b"x", query)
    assert not accepted(raw_path[:-1], query)


def test_doubled_missing_and_moved_parameters_are_refused() -> None:
    raw_path, query = signed()
    expires, kid, signature = query.split(b"&")
    for altered in (
        b"",
        expires + b"&" + kid,
        signature,
        kid + b"&" + signature,
        expires + b"&" + signature,
        b"&".join((kid, expires, signature)),
        b"&".join((signature, expires, kid)),
        b"&".join((expires, expires, kid, signature)),
        b"&".join((expires, kid, kid, signature)),
        b"&".join((expires, kid, signature, signature)),
        b"&".join((expires, kid, signature, b"signature=")),
        b"&".join((b"expires=99999999999", expires, kid, signature)),
        b"&".join((expires, kid, signature, b"width=64")),
        b"&".join((b"width=64", expires, kid, signature)),
        query.replace(b"&", b"&&"),
        query.replace(b"&", b";"),
        query + b"=",
        query.replace(b"expires=", b"expires=0"),
        query.replace(b"expires=", b"expires=+"),
        query.replace(b"expires=", b"expires=%31"),
        query.replace(b"kid=", b"kid=0"),
        query.upper(),
        b"?" + query,
    ):
        assert not accepted(raw_path, altered), altered


def test_other_parameters_are_signed_as_they_stand() -> None:
    path, kid, expires = b"a.png", derived(b"key id")[:8].hex().encode(), b"%d" % (NOW + 60)
    others = b"width=64&fit=cover&width=%36"
    text = b"\n".join((b"stillroom signed url v1", b"GET", path, others, expires, kid))
    digest = hmac.digest(derived(b"key"), text, hashlib.sha256)
    ours = b"expires=%b&kid=%b&signature=%b" % (
        expires,
        kid,
        base64.urlsafe_b64encode(digest).rstrip(b"="),
    )

    assert accepted(path, others + b"&" + ours)
    for altered in (
        ours,
        b"width=65&fit=cover&width=%36&" + ours,
        b"fit=cover&width=64&width=%36&" + ours,
        b"width=64&fit=cover&width=6&" + ours,
        others + b"&&" + ours,
        b"&" + others + b"&" + ours,
        ours + b"&" + others,
    ):
        assert not accepted(path, altered)


def test_the_signature_has_one_spelling() -> None:
    raw_path, query = signed()
    alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    assert sum(accepted(raw_path, query[:-1] + alphabet[n : n + 1]) for n in range(64)) == 1


@pytest.mark.parametrize("valid_for_s", [0, -1, MAX_LIFE_S + 1])
def test_no_url_lives_longer_than_seven_days(valid_for_s: int) -> None:
    with pytest.raises(ValueError, match="valid for"):
        signer().sign(PATH, valid_for_s=valid_for_s)


def test_a_short_secret_signs_nothing() -> None:
    with pytest.raises(ConfigurationError):
        UrlSigner(["short"])


def test_a_request_means_to_be_judged_by_its_signature_if_it_has_one() -> None:
    for query in (b"signature=", b"signature=x", b"a=b&signature=x", b"signature=x&signature=y"):
        assert is_signed(query)
    for query in (b"", b"signatur=x", b"xsignature=x", b"a=signature=", b"signature"):
        assert not is_signed(query)
