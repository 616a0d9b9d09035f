"""Tokens that somebody else signs, as a server with their public key sees them."""

import itertools
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from issuing import ALGORITHMS, Issuer, issuer, public_key_file, signed_by_secret
from running import Server, running


def ask(server: Server, token: str, method: str = "GET", path: str = "") -> int:
    headers = {"Authorization": f"Bearer {token}"}
    return httpx.request(method, f"{server.images}{path}", headers=headers).status_code


@pytest.fixture(
    scope="module",
    params=itertools.product(ALGORITHMS, ["1", "2"]),
    ids="-".join,
)
def keyed(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Issuer, Server]]:
    """A server that knows a public key, and who has the private one."""
    algorithm, workers = request.param
    mine = issuer(algorithm)
    folder: Path = tmp_path_factory.mktemp("keys")
    with running(
        folder,
        "--workers",
        workers,
        jwt_algorithm=algorithm,
        jwt_public_key_file=str(public_key_file(folder, mine)),
        jwt_audience="stillroom",
    ) as server:
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
    with pytest.raises(subprocess.CalledProcessError) as refused:
        server.token()
    assert refused.value.returncode == 2
    assert "STILLROOM_JWT_ALGORITHM" in refused.value.stderr


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
    for number, (before, after) in enumerate(itertools.pairwise(steps)):
        folder = tmp_path / str(number)
        (folder / "after").mkdir(parents=True)
        with (
            running(folder, data=data, **before) as one,
            running(folder / "after", data=data, **after) as other,
        ):
            for server in (one, other):
                assert ask(server, other.token()) == 200
                if number < 2:  # the last step drops what the old secret has signed
                    assert ask(server, one.token()) == 200
