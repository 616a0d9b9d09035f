"""The commands as users type them, against a running server."""

import json
import os
import pty
import re
import signal
import subprocess
from pathlib import Path

import httpx
import pytest
from PIL import Image

from command_line import PNG, Ran, Run
from generation import carriers as at
from running import IMAGES, STILLROOM, Server, free_port
from stillroom.client import ImageStore
from videos import recorded
from waiting import until


@pytest.mark.usefixtures("made")
def test_a_folder_goes_up_and_comes_back_whole(run: Run, folder: str, made: Path) -> None:
    names = ["a.png", "b b.png", "deep/c.png", "deep/er/d é.png"]

    up = run("put", "out", folder)
    again = run("put", "out", folder)
    down = run("get", f"{folder}/", "back")

    assert (up.code, sorted(up.out.splitlines())) == (0, [f"uploaded {folder}/{n}" for n in names])
    assert sorted(again.out.splitlines()) == [f"unchanged {folder}/{n}" for n in names]
    assert "0 uploaded, 4 unchanged, 0 B in" in again.err
    assert down.code == 0
    for name in names:
        assert (made / "back" / name).read_bytes() == (made / "out" / name).read_bytes()
    (made / "back/a.png").write_bytes(b"changed")
    last = run("get", folder, "back")
    assert "1 downloaded, 3 unchanged" in last.err
    assert (made / "back/a.png").read_bytes() == (made / "out/a.png").read_bytes()


@pytest.mark.usefixtures("made")
def test_one_file_several_and_patterns(run: Run, folder: str, made: Path) -> None:
    assert run("put", "e.png", f"{folder}/new.png").out == f"uploaded {folder}/new.png\n"
    assert run("put", "e.png", f"{folder}/in/").out == f"uploaded {folder}/in/e.png\n"
    several = run("put", "e.png", "out/a.png", f"{folder}/two")
    assert sorted(several.out.splitlines()) == [
        f"uploaded {folder}/two/a.png",
        f"uploaded {folder}/two/e.png",
    ]
    matched = run("put", "out/**/*.png", f"{folder}/m")
    assert len(matched.out.splitlines()) == 4
    assert f"uploaded {folder}/m/deep/er/d é.png" in matched.out

    assert run("get", f"{folder}/new.png", "x.png").code == 0
    assert (made / "x.png").read_bytes() == (made / "e.png").read_bytes()
    fetched = run("get", f"{folder}/*/a.png", "y")
    assert sorted(fetched.out.splitlines()) == [
        f"downloaded {folder}/m/a.png",
        f"downloaded {folder}/two/a.png",
    ]
    assert (made / "y/m/a.png").is_file()
    assert not (made / "y/m/b b.png").exists()
    assert (
        run("get", f"{folder}/new.png", "-").out.encode(errors="surrogateescape")
        == (made / "e.png").read_bytes()
    )


@pytest.mark.usefixtures("made")
def test_a_dry_run_changes_nothing(run: Run, folder: str, made: Path) -> None:
    run("put", "e.png", f"{folder}/a.png")

    put = run("put", "out", folder, "--dry-run")
    get = run("get", f"{folder}/", "back", "--dry-run")
    rm = run("rm", "-r", f"{folder}/", "--dry-run")

    assert f"would upload {folder}/deep/c.png" in put.out
    assert get.out == f"would download {folder}/a.png\n"
    assert rm.out == f"would delete {folder}/a.png\n"
    assert not (made / "back").exists()
    assert run("ls", folder).out == f"{folder}/a.png\n"
    assert run("put", "e.png", f"{folder}/a.png", "--dry-run").out == f"unchanged {folder}/a.png\n"


@pytest.mark.usefixtures("made")
def test_ls_shows_a_level_all_levels_a_tree_and_json(run: Run, folder: str) -> None:
    run("put", "out", folder)

    assert run("ls", folder).out.splitlines() == [
        f"{folder}/a.png",
        f"{folder}/b b.png",
        f"{folder}/deep/",
    ]
    assert len(run("ls", "-R", folder).out.splitlines()) == 4
    assert run("ls", "--tree", folder).out.splitlines() == [
        f"{folder}/",
        "  a.png",
        "  b b.png",
        "  deep/",
        "    c.png",
        "    er/",
        "      d é.png",
    ]
    long = run("ls", "-l", folder).out.splitlines()
    assert "117 B" in long[0]
    assert "image/png" in long[0]
    assert long[2].endswith(f"  {folder}/deep/")
    facts = [json.loads(line) for line in run("ls", "--json", "-R", folder).out.splitlines()]
    assert [fact["size"] for fact in facts] == [117, 119, 122, 128]
    assert {"path", "etag", "sha256", "modified", "content_type"} < facts[0].keys()
    assert run("ls", f"{folder}/a.png").out == f"{folder}/a.png\n"


@pytest.mark.usefixtures("made")
def test_ls_takes_a_slash_for_the_top_folder_as_put_does(run: Run, folder: str) -> None:
    run("put", "e.png", f"{folder}/e.png")

    listed = run("ls", "/")

    assert (listed.code, f"{folder}/" in listed.out.splitlines()) == (0, True)


@pytest.mark.usefixtures("made")
def test_a_token_for_a_folder_selects_this_folder(run: Run, server: Server, folder: str) -> None:
    run("put", "out", folder)
    limited = {"STILLROOM_TOKEN": server.token("--prefix", folder)}

    listed = run("ls", folder, **limited)
    zipped = run("get", folder, "images.zip", "--zip", **limited)
    elsewhere = run("ls", f"{folder}-else", **limited)
    deleted = run("rm", "-r", "--yes", folder, **limited)

    assert (listed.code, f"{folder}/a.png" in listed.out.splitlines()) == (0, True), listed.err
    assert (zipped.code, zipped.out) == (0, "downloaded images.zip\n"), zipped.err
    assert (elsewhere.code, "the token is limited to" in elsewhere.err) == (4, True), elsewhere
    assert (deleted.code, deleted.err) == (0, "4 deleted\n")


def test_ls_keeps_its_columns_with_any_type_and_in_a_tree(
    run: Run, folder: str, tmp_path: Path
) -> None:
    for name, data in (("a.png", PNG), ("notes.txt", b"notes"), ("deep/c.mp4", recorded("mp4"))):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(data)
    run("put", "a.png", "notes.txt", f"{folder}/")
    run("put", "deep/c.mp4", f"{folder}/deep/c.mp4")

    for shape, first in (([], f"{folder}/a.png"), (["-R"], f"{folder}/a.png"), (["--tree"], "  a")):
        lines = run("ls", "-l", *shape, folder).out.splitlines()
        column = next(line.index(first) for line in lines if "a.png" in line)
        assert all(line[column - 2 : column].isspace() for line in lines), lines
        assert {line[column - 2 :].split("/")[0].strip() for line in lines} <= {
            folder, "a.png", "deep", "c.mp4", "notes.txt"
        }  # fmt: skip


@pytest.mark.usefixtures("made")
def test_bytes_of_what_failed_do_not_count(run: Run, server: Server, folder: str) -> None:
    run("put", "e.png", f"{folder}/a.png")

    done = run("put", "e.png", "out/deep/c.png", f"{folder}/a.png/")
    none = run(
        "put", "e.png", f"{folder}/b.png", STILLROOM_TOKEN=server.token("--scope", "storage:read")
    )

    assert "0 uploaded, 0 unchanged, 2 failed, 0 B in" in done.err
    assert (none.code, "0 uploaded, 0 unchanged, 1 failed, 0 B in" in none.err) == (4, True)


@pytest.mark.parametrize(
    "words", ["show {}/a.png", "ls -R {}", "cat {}/a.png", "runs ls --state all"]
)
def test_a_command_that_prints_succeeds_where_its_output_is_read_no_further(
    run: Run, server: Server, folder: str, made: Path, words: str
) -> None:
    run("put", "e.png", f"{folder}/a.png")

    assert _unread(words.format(folder), server, made) == (0, b"")


def test_a_command_that_changes_something_fails_where_its_output_is_not_read(
    server: Server, folder: str, made: Path
) -> None:
    status, _ = _unread(f"put out {folder}", server, made)

    assert status != 0


def _unread(words: str, server: Server, where: Path) -> tuple[int, bytes]:
    """Run a command whose output is closed at the other end; its status and its errors."""
    here, there = os.pipe()
    os.close(here)
    with os.fdopen(there, "wb") as closed:
        done = subprocess.run(
            [STILLROOM, *words.split()],
            env={**os.environ, "STILLROOM_URL": server.url, "STILLROOM_TOKEN": server.token()},
            cwd=where,
            stdout=closed,
            stderr=subprocess.PIPE,
            timeout=120,
            check=False,
        )
    return done.returncode, done.stderr


@pytest.mark.usefixtures("made")
def test_rm_asks_before_it_takes_a_folder(run: Run, folder: str) -> None:
    run("put", "out", folder)

    refused = run("rm", f"{folder}/deep")
    unasked = run("rm", "-r", f"{folder}/deep")
    assert (refused.code, "add --recursive" in refused.err) == (2, True)
    assert (unasked.code, "2 images would be deleted: add --yes" in unasked.err) == (2, True)
    assert run("rm", "-r", folder, "--include", "*.gif") == Ran(0, "", "nothing was deleted\n")
    assert run("rm", f"{folder}/a.png").err == "1 deleted\n"
    assert run("rm", "-r", "--yes", folder).err == "3 deleted\n"
    assert run("ls", folder).code == 3
    missing = run("rm", f"{folder}/none.png")
    assert (missing.code, "no such image or folder (" in missing.err) == (3, True)


@pytest.mark.usefixtures("made")
def test_a_declined_deletion_says_that_nothing_was_deleted(
    run: Run, server: Server, folder: str
) -> None:
    run("put", "out", folder)
    here, there = pty.openpty()
    os.write(here, b"n\n")

    declined = subprocess.run(
        [STILLROOM, "rm", "-r", f"{folder}/deep"],
        env={**os.environ, "STILLROOM_URL": server.url, "STILLROOM_TOKEN": server.token()},
        stdin=there,
        capture_output=True,
        text=True,
        check=False,
    )

    os.close(there)
    os.close(here)
    assert (declined.returncode, declined.stderr) == (1, "nothing was deleted\n")
    assert "Delete 2 images?" in declined.stdout
    assert len(run("ls", "-R", folder).out.splitlines()) == 4


def test_a_url_is_printed_alone_and_works(run: Run, folder: str, made: Path) -> None:
    run("put", "e.png", f"{folder}/e e.png")
    url = run("url", f"{folder}/e e.png", "--expires", "5m").out.strip()
    assert httpx.get(url).content == (made / "e.png").read_bytes()
    missing = run("url", f"{folder}/none.png")
    assert (missing.code, missing.out) == (3, "")
    assert f"{folder}/none.png: no such image (" in missing.err
    too_long = run("url", f"{folder}/e e.png", "--expires", "8d")
    assert (too_long.code, "--expires: at most 7d" in too_long.err) == (2, True)


@pytest.mark.usefixtures("made")
def test_exit_codes_and_errors_say_what_happened_and_what_to_do(
    run: Run, server: Server, folder: str
) -> None:
    run("put", "e.png", f"{folder}/file")
    reader = server.token("--scope", "storage:read")
    nowhere = f"http://127.0.0.1:{free_port()}"
    for words, variables, code, said in (
        (["get", f"{folder}/none", "x"], {}, 3, "`stillroom ls` shows what there is"),
        (["ls", f"{folder}/none"], {}, 3, "no such image or folder"),
        (["rm", f"{folder}/none"], {}, 3, "no such image or folder"),
        (["put", "none.png", folder], {}, 2, "no such file or folder: none.png"),
        (["put", "out/*.gif", folder], {}, 2, "no file matches the pattern"),
        (["put", "e.png", "../x"], {}, 1, "`.` or `..`"),
        (["put", "e.png", f"{folder}/file/below"], {}, 1, "or delete what is in the way"),
        (["ls"], {"STILLROOM_TOKEN": "x.y.z"}, 4, "set STILLROOM_TOKEN"),
        (["put", "e.png", "a"], {"STILLROOM_TOKEN": reader}, 4, "storage:write"),
        (["put", "e.png", "a"], {"STILLROOM_TOKEN": "x.y.z"}, 4, "a: a valid bearer token"),
        (["mv", f"{folder}/file", "a"], {"STILLROOM_TOKEN": reader}, 4, "storage:write"),
        (["rm", f"{folder}/file"], {"STILLROOM_TOKEN": reader}, 4, "use a token whose scope"),
        (["ls"], {"STILLROOM_URL": "nonsense"}, 2, "set STILLROOM_URL"),
        (["ls"], {"STILLROOM_URL": nowhere}, 5, f"is the server running at {nowhere}?"),
    ):
        ran = run(*words, **variables)
        assert (ran.code, said in ran.err) == (code, True), (words, ran)
        assert reader not in ran.err


@pytest.mark.usefixtures("made")
def test_a_terminal_shows_a_bar_with_rate_and_time_left(
    server: Server, folder: str, made: Path
) -> None:
    (made / "large").mkdir()
    for number in range(5):  # together they take longer than the bar takes to be drawn anew
        with (made / f"large/{number}.png").open("wb") as large:
            large.truncate(50_000_000)
    here, there = pty.openpty()
    process = subprocess.Popen(
        [STILLROOM, "put", "large", "out", folder],
        env={**os.environ, "STILLROOM_URL": server.url, "STILLROOM_TOKEN": server.token()},
        cwd=made,
        stdout=subprocess.PIPE,
        stderr=there,
    )
    os.close(there)
    shown = b""
    try:
        while piece := os.read(here, 65_536):
            shown += piece
    except OSError:
        pass  # the terminal is closed
    os.close(here)
    assert process.wait(60) == 0
    assert process.stdout is not None
    assert process.stdout.read() == b""
    process.stdout.close()
    text = shown.decode()
    assert "MB/s" in text
    assert "s left" in text
    assert "9 uploaded, 0 unchanged, 250.0 MB in" in text


def test_the_shell_completes_stored_paths(run: Run, server: Server, folder: str) -> None:
    with server.client() as client:
        for name in ("alpha.png", "alps/b.png", "beta.png"):
            client.post(f"{IMAGES}/{folder}/{name}", files={"file": PNG})
    words = f"stillroom get {folder}/al"
    completed = until(  # it offers nothing if the server takes two seconds
        lambda: run(_STILLROOM_COMPLETE="bash_complete", COMP_WORDS=words, COMP_CWORD="2").out
    )
    assert completed.splitlines() == [f"plain,{folder}/alpha.png", f"plain,{folder}/alps/"]
    offline = run(
        _STILLROOM_COMPLETE="bash_complete",
        COMP_WORDS=words,
        COMP_CWORD="2",
        STILLROOM_URL=f"http://127.0.0.1:{free_port()}",
    )
    assert (offline.out, offline.err) == ("\n", "")


@pytest.mark.parametrize("command", ["put", "get", "ls", "rm", "url"])
def test_the_help_names_the_variables_of_the_server(run: Run, command: str) -> None:
    said = run(command, "--help").out

    assert "STILLROOM_URL" in said
    assert "STILLROOM_TOKEN" in said


@pytest.mark.usefixtures("made")
def test_a_path_that_is_none_is_named(run: Run) -> None:
    refused = run("put", "e.png", "/abs.png")

    assert refused.code != 0
    assert "'/abs.png': the path must not begin with a slash" in refused.err


@pytest.mark.usefixtures("made")
def test_one_image_is_not_called_images(run: Run, folder: str) -> None:
    run("put", "e.png", f"{folder}/one/a.png")

    refused = run("rm", f"{folder}/one/")

    assert f"{folder}/one/ is a folder with 1 image: add --recursive to delete it" in refused.err


@pytest.mark.usefixtures("made")
def test_ctrl_c_is_130_and_says_that_the_same_command_goes_on(server: Server) -> None:
    with subprocess.Popen(
        [STILLROOM, "put", "-", "waits.png"],
        env={**os.environ, "STILLROOM_URL": server.url, "STILLROOM_TOKEN": server.token()},
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as running:
        assert running.stdin is not None
        running.stdin.write(bytes(64 * 1024 + 1))  # more than a pipe holds, so it is being read
        running.send_signal(signal.SIGINT)
        _, said = running.communicate(timeout=60)

    assert running.returncode == 130
    assert said.lstrip() == b"stillroom: interrupted; run the same command again to resume\n"


def test_what_ctrl_c_has_interrupted_goes_on_with_the_same_command(
    server: Server, folder: str, tmp_path: Path
) -> None:
    images = tmp_path / "images"
    images.mkdir()
    for number in range(300):
        (images / f"{number:03}.png").write_bytes(PNG + number.to_bytes(4, "big") * 16_384)
    environment = {**os.environ, "STILLROOM_URL": server.url, "STILLROOM_TOKEN": server.token()}
    command = [STILLROOM, "sync", str(images), f"store:{folder}", "-j", "1"]
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as running:
        assert running.stdout is not None
        assert running.stdout.readline().startswith(b"uploaded "), "it is in the middle of it"
        running.send_signal(signal.SIGINT)
        _, said = running.communicate(timeout=60)

    again = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)

    assert running.returncode == 130
    assert b"interrupted; run the same command again to resume" in said
    counts = re.search(r"(\d+) uploaded, (\d+) unchanged", again.stderr)
    assert counts is not None, again.stderr
    assert int(counts[1]) + int(counts[2]) == 300
    assert int(counts[1]) > 0
    assert int(counts[2]) > 0
    with ImageStore(server.url, server.token()) as store:
        for file in images.iterdir():
            assert store.read(f"{folder}/{file.name}") == file.read_bytes()


def test_a_token_needs_a_secret_and_makes_none(run: Run, tmp_path: Path) -> None:
    refused = run("token")

    assert (refused.code, refused.out) == (1, "")
    assert "'stillroom-data/.stillroom/secret' does not exist" in refused.err
    assert "--data-dir" in refused.err
    assert list(tmp_path.iterdir()) == []


def test_an_ingest_takes_paths_with_and_without_compute(run: Run, server: Server) -> None:
    picture = Image.new("RGB", (3, 2))
    with ImageStore(server.url, server.token()) as store:
        store.save("kept/1.png", picture)

    for name in ("kept/1.png", "compute/kept/1.png"):
        done = run("media", "ingest", "--keep", name, "--data-dir", str(server.data))
        assert (done.code, done.out.split()[1:]) == (0, ["compute/kept/1.png", name])
    again = run("media", "ingest", "--keep", name, "--data-dir", str(server.data), "--json")
    found = json.loads(again.out)
    assert (found["storage_key"], found["key"]) == ("compute/kept/1.png", name)


def test_a_command_shows_the_facts_and_another_saves_them(
    run: Run,
    folder: str,
    tmp_path: Path,
) -> None:
    (tmp_path / "a.png").write_bytes(at.PLAIN["PNG"])
    facts = {
        "prompt": "two\nlines \x1b[31m\x9b",
        "seed": 2**64 - 1,
        "loras": [{"name": "ink", "weight": 1}],
    }
    (tmp_path / "facts.json").write_text(json.dumps(facts))
    path = f"{folder}/a.png"

    first = run("put", "a.png", path, "--generation", "facts.json")
    again = run("put", "a.png", path, "--generation", "facts.json")
    shown = run("show", path)
    as_json = run("show", path, "--json")

    assert (first.code, first.out) == (0, f"uploaded {path}\n")
    assert (again.code, again.out) == (0, f"unchanged {path}\n")
    assert shown.code == 0
    lines = shown.out.splitlines()
    assert "prompt          two" in lines
    assert "                lines \ufffd[31m\ufffd" in lines
    assert "seed            18446744073709551615" in lines
    assert "loras           ink (1)" in lines
    found = json.loads(as_json.out)
    assert found["path"] == path
    assert found["generation"]["prompt"] == "two\nlines \x1b[31m\x9b"
    assert not {"\x1b", "\x9b"} & set(as_json.out)


def test_facts_on_the_command_line_are_of_one_image_and_in_json(
    run: Run,
    folder: str,
    tmp_path: Path,
) -> None:
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(at.PLAIN["PNG"])
    dry = run("put", "a.png", f"{folder}/a.png", "--generation", '{"seed": 1}', "--dry-run")
    two = run("put", "a.png", "b.png", folder, "--generation", '{"seed": 1}')
    wrong = run("put", "a.png", folder, "--generation", "[1]")
    missing = run("put", "a.png", folder, "--generation", "none.json")
    unknown = run("put", "a.png", f"{folder}/a.png", "--generation", '{"sead": 1}')
    none = run("show", f"{folder}/a.png")

    assert (dry.code, dry.out) == (0, f"would upload {folder}/a.png\n")
    assert (two.code, wrong.code, missing.code, unknown.code, none.code) == (2, 2, 2, 2, 3)
    assert "one by one" in two.err
    assert "'sead'" in unknown.err


def test_an_empty_file_to_which_metadata_is_added_is_called_empty(
    run: Run, folder: str, tmp_path: Path
) -> None:
    (tmp_path / "a.png").touch()
    path = f"{folder}/a.png"

    for option in (["--generation", '{"seed": 1}'], ["--ai-generated"]):
        assert "the file is empty" in run("put", "a.png", path, *option).err


def test_a_failure_names_the_image_even_if_its_error_does_not(
    run: Run, folder: str, tmp_path: Path
) -> None:
    (tmp_path / "notes.txt").write_text("a prompt")

    failed = run("put", "notes.txt", f"{folder}/notes.txt", "--ai-generated")

    assert failed.code == 1
    assert f"failed {folder}/notes.txt: only PNG, JPEG, WebP and AVIF can be marked" in failed.err


def test_unmarked_lists_what_does_not_say_that_ai_made_it(
    run: Run, folder: str, tmp_path: Path
) -> None:
    given = {
        "in/a.png": at.PLAIN["PNG"],
        "in/b.jpg": at.with_c2pa("JPEG", at.jumbf()),
        "in/broken.png": at.with_xmp("PNG", "<broken"),
        "in/c.txt": b"a prompt",
        "made/d.webp": at.PLAIN["WEBP"],
    }
    for name, data in given.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(data)
    run("put", "in", f"{folder}/in")
    put = ("put", "made/d.webp", f"{folder}/made/", "--ai-generated")
    assert run(*put).code == 0

    found = run("unmarked", folder)
    as_json = run("unmarked", folder, "--json")
    marked = run("unmarked", f"{folder}/made")

    assert (found.code, found.out) == (1, f"{folder}/in/a.png\n")
    assert f"unknown: {folder}/in/broken.png\n" in found.err
    said = "5 images, 1 without a mark, 1 unknown, 1 of other types\n"
    assert found.err.endswith(said)
    assert as_json.code == 1
    assert json.loads(as_json.out) == {
        "images": 5,
        "unmarked": [f"{folder}/in/a.png"],
        "unknown": [f"{folder}/in/broken.png"],
        "other_types": 1,
    }
    assert (marked.code, marked.out) == (0, "")
    assert run(*put, "--dry-run").out == f"unchanged {folder}/made/d.webp\n"
    again = run(*put)
    assert again.out == f"unchanged {folder}/made/d.webp\n"
    assert "AI mark         iptc" in run("show", f"{folder}/made/d.webp").out
