"""Which server a command talks to, and with which token: options, profiles, variables, or none."""

import os
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread

import httpx
import pytest
from click.testing import CliRunner

from command_line import lines_of_json, ran
from running import Server, free_port
from stillroom.cli.main import commands
from stillroom.errors import ConfigurationError


def _profiles(folder: Path, text: str, mode: int = 0o600) -> dict[str, str]:
    file = folder / "stillroom.conf"
    file.write_text(text)
    file.chmod(mode)
    return {"STILLROOM_CONFIG": str(file)}


def test_options_win_over_profiles_and_profiles_over_variables(
    server: Server, folder: str, made: Path
) -> None:
    nowhere = f"http://127.0.0.1:{free_port()}"
    good = f"url = {server.url}\ntoken = {server.token()}\n"
    bad = {"STILLROOM_URL": nowhere, "STILLROOM_TOKEN": "x.y.z"}
    named = _profiles(made, f"[work]\n{good}[lost]\nurl = {nowhere}\n")
    options = ("--url", server.url, "--token", server.token())

    by_options = ran(made, ("put", "e.png", f"{folder}/a.png", *options), bad)
    by_profile = ran(made, ("ls", folder, "--profile", "work"), bad | named)
    by_variable = ran(made, ("ls", folder), {"STILLROOM_PROFILE": "work"} | named)
    over_profile = ran(made, ("ls", folder, "--profile", "lost", *options), named)
    unknown = ran(made, ("ls", "--profile", "none"), named)
    default = ran(made, ("ls", folder), _profiles(made, f"[default]\n{good}"))

    assert (by_options.code, by_options.out) == (0, f"uploaded {folder}/a.png\n")
    for answer in (by_profile, by_variable, over_profile, default):
        assert (answer.code, answer.out) == (0, f"{folder}/a.png\n")
    assert unknown.code == 2
    assert "existing profiles: lost, work" in unknown.err
    assert server.token() not in unknown.err


def test_a_file_of_profiles_that_others_can_read_or_that_is_broken_is_refused(
    server: Server, tmp_path: Path
) -> None:
    token = server.token()
    text = f"[default]\nurl = {server.url}\ntoken = {token}\n"

    readable = ran(tmp_path, ("ls",), _profiles(tmp_path, text, 0o640))
    broken = ran(tmp_path, ("ls",), _profiles(tmp_path, f"[default]\n{token}\n"))
    strange = ran(tmp_path, ("ls",), _profiles(tmp_path, f"[default]\npassword = {token}\n"))

    assert (readable.code, "chmod 600" in readable.err) == (2, True)
    assert (broken.code, "line 2" in broken.err) == (2, True)
    assert (strange.code, "only url and token" in strange.err) == (2, True)
    assert token not in readable.err + broken.err + strange.err


HANDMADE = """\
# ours
[default]
url = http://127.0.0.1:8000
; of the second
token = a.b.c

[work]
url = https://images.example
token = its.own.%token
# the end
"""


def test_a_profile_is_set_listed_and_removed_and_the_rest_of_the_file_stays(
    server: Server, folder: str, made: Path
) -> None:
    there = {"STILLROOM_CONFIG": str(made / "new" / "stillroom.conf")}
    file = Path(there["STILLROOM_CONFIG"])
    words = ("profiles", "set", "home", "--url", server.url, "--token", "-")

    first = ran(made, words, there, server.token().encode() + b"\n")

    assert (first.code, first.out) == (0, "")
    assert server.token() not in first.err
    assert [stat.S_IMODE(one.stat().st_mode) for one in (file, file.parent)] == [0o600, 0o700]
    assert ran(made, ("put", "e.png", f"{folder}/a.png", "--profile", "home"), there).code == 0
    assert ran(made, ("profiles", "ls"), there).out == f"home  {server.url}  token\n"
    assert ran(made, ("profiles", "rm", "home"), there).code == 0
    assert "there are no profiles" in ran(made, ("profiles", "ls"), there).err
    assert file.read_text() == ""

    by_hand = _profiles(made, HANDMADE)
    file = made / "stillroom.conf"
    (made / "link.conf").symlink_to(file)
    linked = {"STILLROOM_CONFIG": str(made / "link.conf")}
    assert ran(made, ("profiles", "set", "work", "--token", "x.y.z"), linked).code == 0
    assert file.read_text() == HANDMADE.replace("its.own.%token", "x.y.z")
    assert ran(made, ("profiles", "set", "new", "--url", "http://[::1]:9"), by_hand).code == 0
    assert ran(made, ("profiles", "rm", "default"), by_hand).code == 0
    listed = ran(made, ("profiles", "ls", "--json"), by_hand)
    assert [(one["name"], one["token"]) for one in lines_of_json(listed.out)] == [
        ("work", True),
        ("new", False),
    ]
    assert {"# ours", "; of the second", "# the end"} <= set(file.read_text().splitlines())
    assert (made / "link.conf").is_symlink()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [one.name for one in made.glob(".*")] == []


@pytest.mark.parametrize(
    "words",
    [
        ("set", "new"),
        ("set", "a]b", "--url", "http://a"),
        ("set", "", "--url", "http://a"),
        ("set", "new", "--url", "http://a\n[work]"),
        ("set", "new", "--url", "ftp://a"),
        ("set", "new", "--url", "http://user:secret@a"),
        ("set", "new", "--url", "http://a", "--token", "a b"),
        ("set", "new", "--url", "http://a", "--token", "a\nurl = http://b"),
        ("set", "new", "--url", "http://a", "--token", "x" * 2_000_000),
        ("set", "new", "--url", "http://a", "--token", "-"),
        ("rm", "none"),
    ],
)
def test_a_profile_that_cannot_be_is_refused_and_the_file_stays(
    tmp_path: Path, words: tuple[str, ...]
) -> None:
    variables = _profiles(tmp_path, HANDMADE)

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STILLROOM_CONFIG", variables["STILLROOM_CONFIG"])
        refused = CliRunner().invoke(commands, ["profiles", *words])

    assert refused.exit_code != 0
    assert isinstance(refused.exception, SystemExit | ConfigurationError), refused.exception
    assert (tmp_path / "stillroom.conf").read_text() == HANDMADE
    assert os.listdir(tmp_path) == ["stillroom.conf"]


@contextmanager
def _listening() -> Iterator[tuple[str, list[bytes]]]:
    """A server that is not ours: it keeps what it is sent, and answers 404."""
    heard: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def listen() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    heard.append(connection.recv(65_536))
                    connection.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")

        thread = Thread(target=listen)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}", heard
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def test_the_token_of_a_profile_goes_to_its_own_server_alone(tmp_path: Path) -> None:
    named = _profiles(tmp_path, "[work]\nurl = https://images.example\ntoken = its.own.token\n")

    with _listening() as (url, heard):
        ran(tmp_path, ("ls", "--profile", "work", "--url", url), named)

    assert heard
    assert b"its.own.token" not in b"".join(heard)


def test_without_a_url_a_command_asks_the_port_of_the_server_on_this_machine(
    server: Server, tmp_path: Path
) -> None:
    settings = {"STILLROOM_PORT": str(httpx.URL(server.url).port), "HOME": str(tmp_path)}

    listed = ran(tmp_path, ("ls",), {**settings, "STILLROOM_TOKEN": server.token()})
    url_wins = ran(tmp_path, ("ls",), {**settings, "STILLROOM_URL": "nonsense"})

    assert listed.code == 0, listed.err
    assert (url_wins.code, "'nonsense'" in url_wins.err) == (2, True)


def test_where_the_server_runs_no_token_is_needed(server: Server, folder: str, made: Path) -> None:
    here = {"STILLROOM_URL": server.url, "STILLROOM_DATA_DIR": str(server.data)}

    with _listening() as (proxy, heard):
        put = ran(made, ("put", "e.png", f"{folder}/a.png"), here)
        elsewhere = ran(made, ("ls", folder), {"STILLROOM_URL": server.url})
        proxied = {"HTTP_PROXY": proxy, "http_proxy": proxy, "NO_PROXY": "", "no_proxy": ""}
        ran(made, ("ls", folder), {**here, **proxied})

    assert (put.code, put.out) == (0, f"uploaded {folder}/a.png\n")
    assert elsewhere.code == 4
    assert heard
    assert b"authorization" not in b"".join(heard).lower()


def test_where_the_server_runs_all_threads_of_a_command_get_the_token(
    server: Server, folder: str, made: Path
) -> None:
    here = {"STILLROOM_URL": server.url, "STILLROOM_DATA_DIR": str(server.data)}
    several = made / "several"
    several.mkdir()
    for number in range(16):
        (several / f"{number}.png").write_bytes((made / "e.png").read_bytes())

    put = ran(made, ("put", "several", folder), here)

    assert (put.code, put.out.count("uploaded ")) == (0, 16), put.err
