"""The link that signs in to the gallery once: who prints it, and what its code is worth."""

import concurrent.futures
import os
import pty
import re
import select
import subprocess
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest

from running import STILLROOM, free_port, running
from surroundings import inherited
from waiting import until

LINK = re.compile(r"\bSign in \(this link works once, for 10 minutes\): (\S+)/#sign-in=(\S+)\r?\n")
JSON = {"Content-Type": "application/json"}
SIGN_IN = "/api/v1/sign-in"


def sign_in(url: str, code: str, **more: object) -> httpx.Response:
    return httpx.post(f"{url}{SIGN_IN}", json={"code": code, **more}, timeout=60)


def claims_of(answer: httpx.Response) -> dict[str, Any]:
    token = answer.json()["token"]
    claims: dict[str, Any] = jwt.decode(token, options={"verify_signature": False})
    return claims


def test_a_link_gives_one_token_however_many_workers_are_asked_at_once(tmp_path: Path) -> None:
    with running(tmp_path, "--workers", "2", "--sign-in-link", access_log="true") as server:
        ((url, code),) = LINK.findall(server.logged())
        assert url == server.url
        with concurrent.futures.ThreadPoolExecutor(16) as pool:
            answers = list(pool.map(lambda _: sign_in(url, code), range(48)))

        (good,) = [answer for answer in answers if answer.status_code == 200]
        token = good.json()["token"]
        assert good.headers["cache-control"] == "no-store"
        refused = [answer for answer in answers if answer is not good]
        assert {(one.status_code, one.json()["code"]) for one in refused} == {
            (401, "sign_in_code_spent")
        }
        listed = httpx.get(server.images, headers={"Authorization": f"Bearer {token}"})
        assert listed.status_code == 200
        until(lambda: server.logged().count(f"POST {SIGN_IN}") >= 48)
        assert server.logged().count(f"POST {SIGN_IN}") == 48
        assert server.logged().count(code) == 1, "printed, and logged nowhere"
        assert token not in server.logged()


def test_its_token_lasts_a_day_at_most_or_as_any_other_where_the_device_is_remembered(
    tmp_path: Path,
) -> None:
    with running(tmp_path, "--sign-in-link") as server:
        ((_, first),) = LINK.findall(server.logged())
        claims = claims_of(sign_in(server.url, first))
        assert claims["exp"] - claims["iat"] == 12 * 3600
    with running(tmp_path, "--sign-in-link") as server:
        *_, (_, second) = LINK.findall(server.logged())
        claims = claims_of(sign_in(server.url, second, remember=True))
        assert claims["exp"] - claims["iat"] == 30 * 86_400


def test_nothing_but_the_exchange_uses_it_up(tmp_path: Path) -> None:
    with running(tmp_path, "--sign-in-link") as server:
        ((url, code),) = LINK.findall(server.logged())
        assert httpx.get(f"{url}/#sign-in={code}").status_code == 200
        assert httpx.get(f"{url}{SIGN_IN}", params={"code": code}).status_code == 405
        for body, status in (
            ({"json": {"code": code[:-1]}}, 401),
            ({"json": {"code": code, "scope": "media"}}, 422),
            ({"json": {"code": code * 100}}, 413),
            ({"json": {"code": "é"}}, 401),
            ({"content": b'{"code": "\\ud800"}', "headers": JSON}, 422),
            ({"json": {"code": 1}}, 422),
            ({"json": {}}, 422),
            ({"data": {"code": code}}, 415),
        ):
            assert httpx.post(f"{url}{SIGN_IN}", **body).status_code == status, body
        assert sign_in(url, code).status_code == 200


@pytest.mark.parametrize(
    "flags", [(), pytest.param(("--no-sign-in-link",), marks=pytest.mark.whole)]
)
def test_none_is_printed_into_a_file_unless_it_is_asked_for(
    tmp_path: Path, flags: tuple[str, ...]
) -> None:
    with running(tmp_path, *flags) as server:
        assert "sign-in" not in server.logged()
        assert not (server.data / ".stillroom/sign-in").exists()


def is_ready(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/readyz").status_code == 200
    except httpx.TransportError:
        return False


def test_one_is_printed_on_a_terminal_with_the_address_that_is_set(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    port = free_port()
    environment = {
        **inherited(),
        "STILLROOM_DATA_DIR": str(tmp_path / "data"),
        "STILLROOM_PORT": str(port),
        "STILLROOM_PUBLIC_BASE_URL": "https://images.example.com",
    }
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen([STILLROOM, "serve"], env=environment, stdout=theirs, stderr=log)
    os.close(theirs)
    try:
        printed = b""

        def has_printed() -> bool:
            nonlocal printed
            if select.select([ours], [], [], 0)[0]:
                printed += os.read(ours, 4096)
            return b"\n" in printed and is_ready(port)

        until(has_printed, by=process, said=lambda: printed)
        ((url, _),) = LINK.findall(printed.decode())
        assert url == "https://images.example.com"
    finally:
        process.terminate()
        process.wait(60)
        os.close(ours)


@pytest.mark.whole  # two servers
def test_without_the_gallery_or_a_secret_of_ours_there_is_neither_link_nor_exchange(
    tmp_path: Path,
) -> None:
    key = tmp_path / "key.pem"
    subprocess.run(
        ["openssl", "genpkey", "-algorithm", "ed25519", "-out", str(tmp_path / "private.pem")],
        check=True,
    )
    subprocess.run(
        ["openssl", "pkey", "-in", str(tmp_path / "private.pem"), "-pubout", "-out", str(key)],
        check=True,
    )
    flag = "--sign-in-link"
    for started in (
        running(tmp_path, flag, gallery="false"),
        running(tmp_path, flag, jwt_algorithm="EdDSA", jwt_public_key_file=str(key)),
    ):
        with started as server:
            assert "sign-in" not in server.logged()
            assert sign_in(server.url, "anything").status_code == 404


def test_a_folder_that_cannot_be_written_to_stops_no_start(tmp_path: Path) -> None:
    (tmp_path / "data/.stillroom").mkdir(parents=True)
    (tmp_path / "data/.stillroom/sign-in").touch()
    with running(tmp_path, "--sign-in-link") as server:
        assert "cannot create a sign-in link in" in server.logged()
        assert sign_in(server.url, "anything").status_code == 401
