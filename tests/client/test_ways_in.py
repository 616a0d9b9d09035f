"""Which server a command talks to, and copies, moves and folders that are kept alike."""

import json
import os
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread

import click
import pytest
from click.testing import CliRunner

from at_the_prompt import PNG, Run, ran
from running import Server, free_port
from stillroom.cli.main import commands
from stillroom.cli.selection import Filter
from stillroom.errors import ConfigurationError

NEEDS_A_SERVER = (
    "put", "get", "sync", "ls", "show", "cat", "du", "cp", "mv", "rm", "url", "unmarked",
    "runs ls", "runs show", "runs publish", "runs rm", "media ls", "media show", "media tag",
    "media heal",
)  # fmt: skip


@pytest.mark.parametrize("command", NEEDS_A_SERVER)
def test_each_command_that_asks_a_server_has_its_options(command: str) -> None:
    found = commands
    for word in command.split():
        found = found.commands[word]  # type: ignore[assignment]  # groups, then a command

    options = {name for option in found.params for name in option.opts}

    assert {"--url", "--token", "--profile"} <= options


def _commands(group: click.Group, before: str = "") -> Iterator[tuple[str, click.Command]]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from _commands(command, f"{before}{name} ")
        else:
            yield f"{before}{name}", command


def test_each_command_that_answers_something_answers_in_json() -> None:
    flags = {
        name: {one for option in command.params for one in option.opts}
        for name, command in _commands(commands)
    }

    without = {name for name, options in flags.items() if "--json" not in options}
    assert without == {"serve", "token", "cat", "profiles set", "profiles rm"}


def test_the_help_of_a_group_says_what_each_command_does_without_dots() -> None:
    groups = [*_groups(commands)]
    assert len(groups) > 5
    for group in groups:
        helped = CliRunner().invoke(group, ["--help"]).output
        assert "..." not in helped.partition("Commands:")[2], helped
        for name in group.commands:
            assert f"  {name}  " in helped


def _groups(group: click.Group) -> Iterator[click.Group]:
    yield group
    for command in group.commands.values():
        if isinstance(command, click.Group):
            yield from _groups(command)


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

    assert (by_options.code, by_options.out) == (0, f"saved {folder}/a.png\n")
    for answer in (by_profile, by_variable, over_profile, default):
        assert (answer.code, answer.out) == (0, f"{folder}/a.png\n")
    assert unknown.code == 2
    assert "it has lost, work" in unknown.err
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
    assert [(one["name"], one["token"]) for one in _lines(listed.out)] == [
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


def test_where_the_server_runs_no_token_is_needed(server: Server, folder: str, made: Path) -> None:
    here = {"STILLROOM_URL": server.url, "STILLROOM_DATA_DIR": str(server.data)}

    with _listening() as (proxy, heard):
        put = ran(made, ("put", "e.png", f"{folder}/a.png"), here)
        elsewhere = ran(made, ("ls", folder), {"STILLROOM_URL": server.url})
        ran(made, ("ls", folder), {**here, "HTTP_PROXY": proxy, "NO_PROXY": ""})

    assert (put.code, put.out) == (0, f"saved {folder}/a.png\n")
    assert elsewhere.code == 4
    assert heard
    assert b"authorization" not in b"".join(heard).lower()


@pytest.mark.usefixtures("made")
def test_cp_and_mv_take_images_folders_and_patterns(run: Run, folder: str) -> None:
    run("put", "out", f"{folder}/in")

    one = run("cp", f"{folder}/in/a.png", f"{folder}/b.png")
    into = run("cp", f"{folder}/in/a.png", f"{folder}/deep/")
    tree = run("cp", f"{folder}/in/", f"{folder}/all", "--exclude", "er/", "--json")
    itself = run("mv", f"{folder}/in/", f"{folder}/in")
    dry = run("mv", f"{folder}/in/", f"{folder}/moved", "--dry-run")
    moved = run("mv", f"{folder}/in/", f"{folder}/moved")
    missing = run("cp", f"{folder}/none", f"{folder}/x")

    assert (one.code, one.out) == (0, f"copied {folder}/in/a.png\n")
    assert into.code == 0
    results = sorted((found["path"], found["result"], found["size"]) for found in _lines(tree.out))
    assert results == [
        (f"{folder}/in/a.png", "copied", 117),
        (f"{folder}/in/b b.png", "copied", 119),
        (f"{folder}/in/deep/c.png", "copied", 122),
    ]
    assert (itself.code, "the same" in itself.err) == (2, True)
    assert f"would move {folder}/in/a.png to {folder}/moved/a.png" in dry.out
    assert (moved.code, missing.code) == (0, 3)
    assert run("ls", "-R", folder).out.splitlines() == [
        f"{folder}/all/a.png",
        f"{folder}/all/b b.png",
        f"{folder}/all/deep/c.png",
        f"{folder}/b.png",
        f"{folder}/deep/a.png",
        f"{folder}/moved/a.png",
        f"{folder}/moved/b b.png",
        f"{folder}/moved/deep/c.png",
        f"{folder}/moved/deep/er/d é.png",
    ]


def _lines(out: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in out.splitlines()]


def test_sync_makes_the_store_like_a_folder(run: Run, folder: str, made: Path) -> None:
    there = f"store:{folder}"
    first = run("sync", "out", there)
    (made / "out/a.png").write_bytes(PNG + b"OUT/A.PNG")  # of the same size
    (made / "out/deep/c.png").unlink()
    run("put", "e.png", f"{folder}/kept.webp")

    kept = run("sync", "out", there)
    dry = run("sync", "out", there, "--delete", "--dry-run", "--exclude", "*.webp")
    second = run("sync", "out", there, "--delete", "--exclude", "*.webp", "--json")

    assert (first.code, len(first.out.splitlines())) == (0, 4)
    assert f"saved {folder}/a.png" in kept.out
    assert "1 saved, 2 there already" in kept.err
    assert f"would delete {folder}/deep/c.png" in dry.out.splitlines()
    assert {"path": f"{folder}/deep/c.png", "result": "deleted"} in _lines(second.out)
    assert run("ls", "-R", folder).out.splitlines() == [
        f"{folder}/a.png",
        f"{folder}/b b.png",
        f"{folder}/deep/er/d é.png",
        f"{folder}/kept.webp",
    ]


def test_sync_makes_a_folder_like_the_store(run: Run, folder: str, made: Path) -> None:
    run("put", "out", folder)
    (made / "back/old").mkdir(parents=True)
    (made / "back/old/x.png").write_bytes(b"x")
    (made / "elsewhere").mkdir()
    (made / "elsewhere/y.png").write_bytes(b"y")
    (made / "back/link").symlink_to(made / "elsewhere")

    down = run("sync", f"store:{folder}/", "back", "--delete")
    again = run("sync", f"store:{folder}/", "back", "--delete")

    assert (down.code, again.code) == (0, 0)
    assert "4 fetched" in down.err
    assert "0 fetched, 4 there already" in again.err
    names = sorted(str(file.relative_to(made)) for file in (made / "back").rglob("*.png"))
    assert names == ["back/a.png", "back/b b.png", "back/deep/c.png", "back/deep/er/d é.png"]
    assert not (made / "back/old").exists()
    assert (made / "elsewhere/y.png").exists()


@pytest.mark.usefixtures("made")
def test_sync_deletes_nothing_for_an_empty_or_missing_source_or_after_a_failure(
    run: Run, folder: str, made: Path
) -> None:
    run("put", "out", folder)
    (made / "empty").mkdir()
    (made / "bad/a.png").mkdir(parents=True)
    (made / "bad/a.png/below.png").write_bytes(PNG)  # an image is there, where a folder would be

    empty = run("sync", "empty", f"store:{folder}", "--delete")
    missing = run("sync", "none", f"store:{folder}", "--delete")
    failed = run("sync", "bad", f"store:{folder}", "--delete")
    both = run("sync", f"store:{folder}", "store:x")

    assert (empty.code, "SOURCE is empty" in empty.err) == (2, True)
    assert (missing.code, both.code) == (2, 2)
    assert failed.code == 1
    assert len(run("ls", "-R", folder).out.splitlines()) == 4


@pytest.mark.usefixtures("made")
def test_du_adds_up_folders_and_cat_writes_images(run: Run, folder: str) -> None:
    run("put", "out", folder)

    level = run("du", folder)
    deep = run("du", folder, "--depth", "2", "--json", "--include", "deep/")
    shown = run("cat", f"{folder}/a.png", f"{folder}/b b.png")

    assert [line.split(None, 3) for line in level.out.splitlines()] == [
        ["250", "B", "2", f"{folder}/deep/"],
        ["486", "B", "4", f"{folder}/"],
    ]
    assert _lines(deep.out) == [
        {"path": f"{folder}/deep/", "size": 250, "images": 2},
        {"path": f"{folder}/deep/er/", "size": 128, "images": 1},
        {"path": f"{folder}/", "size": 250, "images": 2},
    ]
    assert shown.out.encode(errors="surrogateescape") == PNG + b"out/a.png" + PNG + b"out/b b.png"


@pytest.mark.usefixtures("made")
def test_put_get_and_rm_take_filters_and_answer_in_json(run: Run, folder: str, made: Path) -> None:
    put = run("put", "out", folder, "--include", "*.png", "--exclude", "/deep/**", "--json")
    none = run("put", "out", folder, "--include", "*.gif")
    get = run("get", f"{folder}/", "back", "--exclude", "b*", "--json")
    url = run("url", f"{folder}/a.png", "--json")
    rm = run("rm", "-r", "--yes", f"{folder}/", "--include", "a.png", "--json")

    assert sorted(found["path"] for found in _lines(put.out)) == [  # type: ignore[type-var]  # texts
        f"{folder}/a.png",
        f"{folder}/b b.png",
    ]
    assert (none.code, "no file is left" in none.err) == (2, True)
    assert _lines(get.out) == [{"path": f"{folder}/a.png", "result": "fetched", "size": 117}]
    assert os.listdir(made / "back") == ["a.png"]
    assert json.loads(url.out)["url"].startswith("http")
    assert _lines(rm.out) == [{"deleted": 1, "missing": 0}]
    assert run("ls", folder).out == f"{folder}/b b.png\n"


@pytest.mark.parametrize(
    ("pattern", "taken", "left"),
    [
        ("*.png", ["a.png", "x/y/a.png"], ["a.jpg", "a.png/b"]),
        ("cats/", ["cats/a", "x/cats/y/a"], ["cats", "dogs/a"]),
        ("/cats/*", ["cats/a"], ["cats/a/b", "x/cats/a"]),
        ("/**/a?.png", ["a1.png", "x/a2.png"], ["a.png"]),
        ("x/*.png", ["x/a.png", "y/x/a.png"], ["x/y/a.png"]),
    ],
)
def test_a_pattern_takes_names_like_it(pattern: str, taken: list[str], left: list[str]) -> None:
    only, but = Filter(include=(pattern,)), Filter(exclude=(pattern,))

    assert [name for name in [*taken, *left] if only.takes(name)] == taken
    assert [name for name in [*taken, *left] if but.takes(name)] == left
