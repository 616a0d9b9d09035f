"""Tokens that somebody else signs, as a server with their public key sees them."""

import concurrent.futures
import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from command_line import ran
from issuing import (
    ALGORITHMS,
    Issuer,
    KeyServer,
    issuer,
    key_server,
    public_key_file,
    signed_by_secret,
)
from running import Server, running
from waiting import until


def ask(server: Server, token: str, method: str = "GET", path: str = "") -> int:
    headers = {"Authorization": f"Bearer {token}"}
    return httpx.request(method, f"{server.images}{path}", headers=headers, timeout=60).status_code


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(("RS256", "file"), id="RS256-file"),
        pytest.param(("ES256", "set"), id="ES256-set", marks=pytest.mark.whole),
        pytest.param(("EdDSA", "file"), id="EdDSA-file", marks=pytest.mark.whole),
        pytest.param(("EdDSA", "set"), id="EdDSA-set"),
    ],
)
def keyed(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Issuer, Server]]:
    """A server that knows a public key, and who has the private one."""
    algorithm, source = request.param
    workers = "1" if source == "file" else "2"  # each worker fetches the set for itself
    mine = issuer(algorithm)
    folder: Path = tmp_path_factory.mktemp("keys")
    with contextlib.ExitStack() as stack:
        if source == "file":
            name, where = "jwt_public_key_file", str(public_key_file(folder, mine))
        else:
            others = [issuer(other, other) for other in ALGORITHMS]
            name, where = "jwt_jwks_url", stack.enter_context(key_server(mine, *others)).url
        settings: dict[str, Any] = {name: where, "jwt_algorithm": algorithm}
        server = stack.enter_context(
            running(folder, "--workers", workers, jwt_audience="stillroom", **settings)
        )
        yield mine, server
    assert "Traceback" not in server.logged()


def test_a_token_has_the_rights_that_it_names(keyed: tuple[Issuer, Server]) -> None:
    mine, server = keyed
    headers = {"Authorization": f"Bearer {mine.token(aud='stillroom')}"}
    saved = httpx.post(f"{server.images}/a/b.png", files={"file": b"x"}, headers=headers)
    assert saved.status_code == 200

    reader = mine.token(aud="stillroom", scope="storage:read", prefix="a")
    for _ in range(4):  # so that any worker may take it
        assert ask(server, reader, path="/a/b.png") == 200
    assert ask(server, reader, "DELETE", "/a/b.png") == 403
    assert ask(server, reader, path="/b.png") == 403


def test_other_tokens_are_refused(keyed: tuple[Issuer, Server]) -> None:
    mine, server = keyed
    payload = {"exp": 2**33, "aud": "stillroom", "scope": "storage:read"}
    for token in (
        Issuer(mine.algorithm, issuer(mine.algorithm, "stranger").key).token(aud="stillroom"),
        mine.token(aud="somebody else"),
        mine.token(),
        mine.token(aud="stillroom", exp=1),
        mine.token(payload, {"alg": "HS256", "kid": mine.kid}),
        signed_by_secret({"alg": "HS256"}, payload, mine.public_pem),
        signed_by_secret({"alg": mine.algorithm}, payload, mine.public_pem),
    ):
        assert ask(server, token) == 401
    assert ask(server, mine.token({"exp": 2**33, "aud": "stillroom"})) == 403, "it names no scope"


def test_no_token_is_minted_here(keyed: tuple[Issuer, Server]) -> None:
    mine, server = keyed
    assert f"tokens: {mine.algorithm} with the public key" in server.logged()
    refused = ran(server.data, ("token", "--data-dir", str(server.data)), server.environment)
    assert refused.code == 2
    assert "STILLROOM_JWT_ALGORITHM" in refused.err


ONE, TWO = issuer("ES256", "one"), issuer("ES256", "two")


@contextlib.contextmanager
def published(folder: Path, keys: KeyServer, workers: str = "1") -> Iterator[Server]:
    with running(
        folder,
        "--workers",
        workers,
        jwt_algorithm="ES256",
        jwt_audience="stillroom",
        jwt_jwks_url=keys.url,
    ) as server:
        yield server
        assert "Traceback" not in server.logged()


@pytest.mark.parametrize("workers", ["1", pytest.param("2", marks=pytest.mark.whole)])
def test_a_new_key_is_taken_at_once_and_unknown_ones_ask_rarely(
    tmp_path: Path, workers: str
) -> None:
    new, bogus = TWO.token(aud="stillroom"), Issuer("ES256", TWO.key, "bogus")
    with key_server(ONE) as keys, published(tmp_path, keys, workers) as server:
        until(lambda: keys.fetched >= int(workers))
        for _ in range(20):
            assert ask(server, ONE.token(aud="stillroom")) == 200
        assert keys.fetched == int(workers), "each worker has fetched the set once"

        keys.publish(ONE, TWO)
        with concurrent.futures.ThreadPoolExecutor(16) as pool:
            statuses = list(pool.map(lambda _: ask(server, new), range(64)))
            assert statuses == [200] * 64
            statuses = list(pool.map(lambda _: ask(server, bogus.token()), range(64)))
            assert statuses == [401] * 64

        assert keys.fetched <= 2 * int(workers), "and once more for what it did not know"


def test_known_keys_answer_while_the_provider_hangs(tmp_path: Path) -> None:
    known, unknown = ONE.token(aud="stillroom"), TWO.token(aud="stillroom")
    bearer = {"Authorization": f"Bearer {known}"}
    with (
        key_server(ONE) as keys,
        published(tmp_path, keys) as server,
        # Opened before: they have the five seconds of one fetch.
        httpx.Client(headers=bearer, timeout=60) as client,
    ):
        assert client.get(server.images).status_code == 200
        keys.hang()
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            began = time.monotonic()
            waiting = [pool.submit(ask, server, unknown) for _ in range(8)]
            assert keys.asked.wait(60)
            for _ in range(5):
                assert client.get(server.images).status_code == 200
            assert client.get(f"{server.url}/healthz").status_code == 200
            assert not any(answer.done() for answer in waiting)

            assert [answer.result() for answer in waiting] == [401] * 8
            assert time.monotonic() - began > 4, "five seconds, then it gives up"


@pytest.mark.parametrize(
    "trouble",
    [
        "status",
        *(
            pytest.param(trouble, marks=pytest.mark.whole)  # tests/unit/test_jwks.py has them
            for trouble in ("redirect", "huge", "malformed")
        ),
    ],
)
def test_a_bad_answer_changes_nothing(tmp_path: Path, trouble: str) -> None:
    with key_server(ONE) as keys, published(tmp_path, keys) as server:
        assert ask(server, ONE.token(aud="stillroom")) == 200
        if trouble == "status":
            keys.status = 500
        elif trouble == "redirect":
            keys.status, keys.headers = 302, {"Location": keys.url + "?again"}
        else:
            keys.body = b" " * 300_000 if trouble == "huge" else b"<html>"

        assert ask(server, TWO.token(aud="stillroom")) == 401
        assert ask(server, ONE.token(aud="stillroom")) == 200
        assert keys.fetched == 2
        assert "cannot fetch the token keys" in server.logged()


def test_a_provider_that_is_down_at_the_start_is_tried_again(tmp_path: Path) -> None:
    with key_server(ONE) as keys:
        keys.status = 503
        with published(tmp_path, keys) as server:
            assert ask(server, ONE.token(aud="stillroom")) == 401
            assert "no token is accepted until then" in server.logged()

            keys.status = 200
            until(lambda: ask(server, ONE.token(aud="stillroom")) == 200)


def test_a_server_stops_while_a_provider_hangs(tmp_path: Path) -> None:
    with key_server(ONE) as keys:
        keys.hang()
        with published(tmp_path, keys) as server:
            assert server.stop() == 0


@pytest.mark.whole  # five servers
def test_a_secret_is_changed_without_a_gap(tmp_path: Path) -> None:
    """The steps of docs/running.md, each while a server of the step before still runs."""
    old, new = "o" * 32, "n" * 32
    steps = [
        {"jwt_secret": old},
        {"jwt_secret": old, "jwt_previous_secrets": new},
        {"jwt_secret": new, "jwt_previous_secrets": old},
        {"jwt_secret": new},
    ]
    data = tmp_path / "data"
    with contextlib.ExitStack() as stack:
        one = stack.enter_context(running(tmp_path, data=data, **steps[0]))
        for number, after in enumerate(steps[1:]):
            folder = tmp_path / str(number)
            folder.mkdir()
            other = stack.enter_context(running(folder, data=data, **after))
            for server in (one, other):
                assert ask(server, other.token()) == 200
                if number < 2:  # the last step drops what the old secret has signed
                    assert ask(server, one.token()) == 200
            one.stop()
            one = other
