"""What is remembered of a token: not for long, and never past its end."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta

import pytest

from issuing import signed_by_secret
from stillroom.errors import TokenExpired, Unauthenticated
from stillroom.store.auth.grants import Grant
from stillroom.store.auth.keys import PublicKey, SharedSecrets
from stillroom.store.auth.tokens import TokenVerifier, mint_token
from stillroom.store.auth.verified import CACHE_S, VerifiedTokens

SECRET = "s" * 32
NOW = 1_700_000_000.0


class Clock:
    now = NOW

    def __call__(self) -> float:
        return self.now


class Counted(SharedSecrets):
    """Counts how often a token is checked with them."""

    checks = 0

    def candidates_now(self, kid: str | None) -> Sequence[str | PublicKey]:
        self.checks += 1
        return super().candidates_now(kid)


def memory(clock: Clock, keys: SharedSecrets | None = None) -> VerifiedTokens:
    verifier = TokenVerifier(keys or SharedSecrets([SECRET]), now=clock)
    return VerifiedTokens(verifier, now=clock)


def field(**claims: object) -> str:
    return "Bearer " + signed_by_secret({"alg": "HS256"}, {"exp": NOW + 3600, **claims}, SECRET)


def test_a_token_is_checked_once_in_half_a_minute() -> None:
    clock, keys = Clock(), Counted([SECRET])
    tokens = memory(clock, keys)

    for _ in range(3):
        assert asyncio.run(tokens.verify(field())) == Grant.everything()
        assert tokens.verify_now(field()) == (Grant.everything(), NOW + CACHE_S)
    assert keys.checks == 1

    clock.now = NOW + CACHE_S
    for _ in range(3):
        assert tokens.verify_now(field()) == (Grant.everything(), NOW + 2 * CACHE_S)
        assert asyncio.run(tokens.verify(field())) == Grant.everything()
    assert keys.checks == 2


def test_a_token_whose_key_must_be_fetched_is_not_known() -> None:
    class Elsewhere(SharedSecrets):
        def candidates_now(self, kid: str | None) -> Sequence[str | PublicKey]:
            del kid
            return ()

        async def candidates(self, kid: str | None) -> Sequence[str]:
            del kid
            return (SECRET,)

    tokens = memory(Clock(), Elsewhere([SECRET]))
    assert tokens.verify_now(field()) is None
    assert asyncio.run(tokens.verify(field())) == Grant.everything()
    assert tokens.verify_now(field()) is not None


def test_a_token_is_not_known_past_its_end() -> None:
    clock = Clock()
    tokens = memory(clock)
    ending = field(exp=NOW + 5)
    asyncio.run(tokens.verify(ending))

    clock.now = NOW + 5

    assert tokens.verify_now(ending) is None
    with pytest.raises(TokenExpired):
        asyncio.run(tokens.verify(ending))


def test_a_token_that_takes_much_room_is_checked_each_time() -> None:
    keys = Counted([SECRET])
    tokens = memory(Clock(), keys)
    for _ in range(2):
        assert asyncio.run(tokens.verify(field(note="x" * 2048))) == Grant.everything()
    assert keys.checks == 2


def test_a_clock_that_is_set_back_makes_no_token_live_longer() -> None:
    clock = Clock()
    tokens = memory(clock)
    asyncio.run(tokens.verify(field()))
    clock.now = NOW - 1000
    known = tokens.verify_now(field())
    assert known is not None
    assert known.until == clock.now + CACHE_S


def test_a_refused_token_and_a_missing_one_are_never_known() -> None:
    tokens = memory(Clock())
    forged = "Bearer " + mint_token("o" * 32, expires_in=timedelta(hours=1))
    with pytest.raises(Unauthenticated):
        asyncio.run(tokens.verify(forged))
    assert tokens.verify_now(forged) is None
    assert tokens.verify_now(None) is None


def test_a_longer_field_that_begins_alike_is_another_token() -> None:
    tokens = memory(Clock())
    asyncio.run(tokens.verify(field()))
    assert tokens.verify_now(field() + " ") is None
    assert tokens.verify_now(field()[:-1]) is None
