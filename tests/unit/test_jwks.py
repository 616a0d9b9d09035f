"""Published keys: what is taken from a set, and what a provider's trouble leaves in use."""

import asyncio
import json
import logging
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from issuing import ALGORITHMS, Issuer, KeyServer, issuer, key_server
from listening import certificate_file
from stillroom.errors import Unauthenticated
from stillroom.store.auth import jwks
from stillroom.store.auth.grants import Grant
from stillroom.store.auth.jwks import MAX_AGE_S, MAX_SET_BYTES, KeySet, PublishedKeys, fetch_key_set
from stillroom.store.auth.keys import Algorithm
from stillroom.store.auth.tokens import TokenVerifier
from waiting import eventually

NOTHING = Grant(frozenset())


def parse(*entries: Any, algorithm: Algorithm = "ES256") -> KeySet:
    return KeySet.parse(json.dumps({"keys": entries}).encode(), algorithm)


class TestSet:
    """Reading a set."""

    @pytest.mark.parametrize("algorithm", ALGORITHMS)
    def test_keys_for_something_else_are_passed_over(self, algorithm: Algorithm) -> None:
        others = [
            issuer(other, other).jwk | fields
            for other in ALGORITHMS
            if other != algorithm
            for fields in ({}, {"alg": algorithm, "kid": f"{other}-mislabelled"})
        ]
        mine = issuer(algorithm).jwk

        found = parse(*others, mine, algorithm=algorithm)

        assert list(found.by_kid) == ["k1"]
        assert found.find(None) == found.find("k1") != ()

    @pytest.mark.parametrize(
        "change",
        [
            {"use": "enc"},
            {"use": None},
            {"alg": "ES384"},
            {"alg": None},
            {"key_ops": ["sign"]},
            {"key_ops": "verify"},
            {"kty": "oct"},
            {"crv": "P-384"},
            {"crv": None},
            {"kid": 1},
            {"d": "AAAA"},
            {"x": None},
            {"x": 1},
            {"x": "AA=="},
            {"x": "A"},
            {"y": issuer("ES256").jwk["x"]},
        ],
        ids=lambda change: "y of another" if "y" in change else json.dumps(change),
    )
    def test_a_key_that_cannot_be_used_is_passed_over(self, change: dict[str, Any]) -> None:
        assert parse(issuer("ES256").jwk | change).count == 0

    @pytest.mark.parametrize("entry", [None, 1, "k", [], {}])
    def test_what_is_no_key_is_passed_over(self, entry: Any) -> None:
        assert parse(entry, issuer("ES256").jwk).count == 1

    def test_small_huge_and_odd_keys_are_passed_over(self) -> None:
        small = Issuer("RS256", rsa.generate_private_key(65537, 1024), "small").jwk
        good = issuer("RS256").jwk
        huge = good | {"kid": "huge", "n": "_" * 20_000}
        even = good | {"kid": "even", "e": "Ag"}
        wide = Issuer("ES256", ec.generate_private_key(ec.SECP384R1())).jwk
        assert list(parse(small, huge, even, wide, good, algorithm="RS256").by_kid) == ["k1"]
        assert parse(wide).count == 0

    def test_what_may_be_left_out_may_be_left_out(self) -> None:
        jwk = issuer("ES256").jwk
        bare = {name: jwk[name] for name in ("kty", "crv", "x", "y")}
        found = parse(bare)
        assert (found.count, len(found.find(None)), found.find("k1")) == (1, 1, ())
        assert parse(jwk | {"key_ops": ["sign", "verify"]}).count == 1

    @pytest.mark.parametrize(
        "data",
        [
            b"",
            b"<html>",
            b"[]",
            b"{}",
            b'{"keys": {}}',
            b'{"keys": [], "keys": []}',
            b'{"keys": NaN}',
            b"\xff",
            b"[" * 100_000,
        ],
    )
    def test_what_is_no_set_is_refused(self, data: bytes) -> None:
        with pytest.raises((ValueError, RecursionError)):
            KeySet.parse(data, "ES256")

    def test_two_usable_keys_of_one_name_are_refused(self) -> None:
        one, other = issuer("ES256").jwk, issuer("ES256", "other").jwk | {"kid": "k1"}
        with pytest.raises(ValueError, match="two keys"):
            parse(one, other)
        assert parse(one, other | {"use": "enc"}).count == 1


class Provider:
    """A provider and a clock that do as the test says."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.asked = 0
        self.answer: bytes | Exception = b"{}"
        self.gate = asyncio.Event()
        self.gate.set()
        self.keys = PublishedKeys("https://id/", "ES256", fetch=self.fetch, now=lambda: self.now)
        self.verifier = TokenVerifier(self.keys, audience="us")

    def publish(self, *issuers: Issuer) -> None:
        self.answer = json.dumps({"keys": [found.jwk for found in issuers]}).encode()

    async def fetch(self, url: str) -> bytes:
        assert url == "https://id/"
        self.asked += 1
        await self.gate.wait()
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    async def accepts(self, token: str) -> bool:
        try:
            return (await self.verifier.check(f"Bearer {token}"))[0] == Grant.everything()
        except Unauthenticated:
            return False


def token(made_by: Issuer, **header: Any) -> str:
    named = {"alg": "ES256", "kid": made_by.kid} | header
    return made_by.token(
        None, {name: value for name, value in named.items() if value is not None}, aud="us"
    )


ONE, TWO = issuer("ES256", "one"), issuer("ES256", "two")


async def test_a_token_is_checked_with_the_key_that_it_names() -> None:
    provider = Provider()
    provider.publish(ONE, TWO)

    assert await provider.accepts(token(ONE))
    assert await provider.accepts(token(TWO))
    assert not await provider.accepts(token(ONE, kid="two"))
    assert not await provider.accepts(token(ONE, kid=None)), "two keys could be meant"
    assert not await provider.accepts(token(ONE, jwk=ONE.jwk, kid="three"))
    provider.now += 31
    provider.publish(ONE)
    await provider.accepts(token(ONE, kid="three"))
    assert await provider.accepts(token(ONE, kid=None))


async def test_a_token_without_a_scope_may_do_nothing() -> None:
    provider = Provider()
    provider.publish(ONE)
    bare = ONE.token({"exp": time.time() + 60, "aud": "us"})
    assert (await provider.verifier.check(f"Bearer {bare}"))[0] == NOTHING


async def test_unknown_keys_cause_one_fetch_in_thirty_seconds() -> None:
    provider = Provider()
    provider.publish(ONE)
    stranger = issuer("ES256", "stranger")

    for number in range(5):
        assert not await provider.accepts(token(stranger, kid=f"unknown-{number}"))
    assert provider.asked == 1

    provider.publish(ONE, TWO)
    provider.now += 29
    assert not await provider.accepts(token(TWO))
    provider.now += 2
    assert await provider.accepts(token(TWO))
    assert provider.asked == 2


async def test_many_unknown_keys_at_once_cause_one_fetch_and_known_ones_do_not_wait() -> None:
    provider = Provider()
    provider.publish(ONE)
    assert await provider.accepts(token(ONE))
    provider.now += 31
    provider.publish(ONE, TWO)
    provider.gate.clear()

    waiting = [asyncio.create_task(provider.accepts(token(TWO))) for _ in range(100)]
    await eventually(lambda: provider.asked == 2)
    assert await provider.accepts(token(ONE)), "while the fetch hangs"
    waiting[0].cancel()
    provider.gate.set()

    answers = await asyncio.gather(*waiting, return_exceptions=True)
    assert isinstance(answers[0], asyncio.CancelledError)
    assert answers[1:] == [True] * 99, "one that gave up does not take the fetch with it"
    assert provider.asked == 2


async def test_the_end_does_not_wait_for_a_provider_that_hangs(
    caplog: pytest.LogCaptureFixture,
) -> None:
    provider = Provider()
    provider.gate.clear()

    async with provider.keys.keep_fresh():
        await eventually(lambda: provider.asked == 1)

    assert "cannot fetch" not in caplog.text, "it has waited for the end of the fetch"


async def test_nothing_is_fetched_for_a_token_that_is_refused_anyway() -> None:
    provider = Provider()
    for refused in (
        token(ONE, alg="HS256"),
        token(ONE, alg="none"),
        token(ONE, crit=["x"]),
        token(ONE, kid=1),
        ONE.token({}),
        "a.b.c",
    ):
        assert not await provider.accepts(refused)
    assert provider.asked == 0


@pytest.mark.parametrize(
    "answer", [OSError("gone"), TimeoutError(), b"<html>", b"[" * 100_000, b'{"keys": 1}']
)
async def test_a_bad_answer_leaves_the_last_good_keys_in_use_for_a_day(
    answer: bytes | Exception, caplog: pytest.LogCaptureFixture
) -> None:
    provider = Provider()
    provider.publish(ONE)
    assert await provider.accepts(token(ONE))
    provider.answer = answer

    provider.now += MAX_AGE_S
    assert not await provider.accepts(token(TWO))
    assert await provider.accepts(token(ONE))
    assert "cannot fetch the token keys" in caplog.text
    assert "no token is accepted" not in caplog.text

    provider.now += 1
    assert not await provider.accepts(token(ONE))
    assert caplog.text.count("no token is accepted") == 1

    provider.publish(ONE)
    provider.now += 31
    assert await provider.accepts(token(ONE))


async def test_withdrawn_keys_are_gone_with_the_next_set() -> None:
    provider = Provider()
    provider.publish(ONE)
    assert await provider.accepts(token(ONE))

    provider.publish()
    provider.now += 31
    await provider.accepts(token(TWO))

    assert not await provider.accepts(token(ONE))


async def test_keys_are_fetched_in_the_background(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(jwks, "REFRESH_S", 0.01)
    monkeypatch.setattr(jwks, "_FIRST_RETRY_S", 0.01)
    provider = Provider()
    provider.answer = OSError("not there yet")

    async with provider.keys.keep_fresh():
        await eventually(lambda: provider.asked > 2)
        provider.publish(ONE)
        await eventually(lambda: "1 can be used" in caplog.text)
        assert await provider.accepts(token(ONE))
        provider.publish(TWO)
        asked = provider.asked
        await eventually(lambda: provider.asked > asked + 1)
        assert not await provider.accepts(token(ONE))
        assert await provider.accepts(token(TWO))
        provider.gate.clear()
        asked = provider.asked
        await eventually(lambda: provider.asked > asked)
    asked = provider.asked
    provider.gate.set()
    await asyncio.sleep(0.05)  # time to ask once more, if it did
    assert provider.asked == asked, "it ends with the application, also in the middle of a fetch"


class TestFetching:
    """One fetch from a real server."""

    @pytest.fixture
    def served(self) -> Iterator[KeyServer]:
        with key_server(ONE) as served:
            yield served

    async def test_a_set_is_fetched(self, served: KeyServer) -> None:
        assert KeySet.parse(await fetch_key_set(served.url), "ES256").count == 1

    @pytest.mark.parametrize("status", [204, 301, 302, 307, 404, 500])
    async def test_another_status_is_refused_and_no_redirect_followed(
        self, served: KeyServer, status: int
    ) -> None:
        served.status, served.headers = status, {"Location": served.url}
        with pytest.raises(ValueError, match=f"status {status}"):
            await fetch_key_set(served.url)
        assert served.fetched == 1

    async def test_more_than_the_cap_is_refused(self, served: KeyServer) -> None:
        served.body = bytes(MAX_SET_BYTES)
        assert len(await fetch_key_set(served.url)) == MAX_SET_BYTES
        served.body = bytes(MAX_SET_BYTES + 1)
        with pytest.raises(ValueError, match="more than"):
            await fetch_key_set(served.url)

    async def test_a_compressed_answer_is_not_unfolded(self, served: KeyServer) -> None:
        import gzip

        served.body = gzip.compress(bytes(MAX_SET_BYTES * 100))
        served.headers = {"Content-Encoding": "gzip"}
        assert await fetch_key_set(served.url) == served.body

    @pytest.mark.parametrize("drips", [False, True])
    async def test_the_deadline_holds_for_the_whole_fetch(
        self, served: KeyServer, drips: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(jwks, "FETCH_TIMEOUT_S", 1.0)
        served.drips = drips
        served.hang()
        began = time.monotonic()
        with pytest.raises(TimeoutError):
            await fetch_key_set(served.url)
        assert time.monotonic() - began < 60

    async def test_a_certificate_must_be_trusted_and_for_the_host(
        self, served: KeyServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with key_server(ONE, certificate=certificate_file(tmp_path)) as secure:
            with pytest.raises(httpx.ConnectError, match="certificate"):
                await fetch_key_set(secure.url)

            monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "tls.pem"))
            assert await fetch_key_set(secure.url) == served.body
            with pytest.raises(httpx.ConnectError, match="certificate"):
                await fetch_key_set(secure.url.replace("127.0.0.1", "localhost"))

    async def test_a_server_that_is_not_there_is_an_error(self) -> None:
        with pytest.raises(httpx.ConnectError):
            await fetch_key_set("http://127.0.0.1:1/jwks.json")
