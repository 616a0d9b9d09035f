"""Folders on the command line: copied, moved, kept alike, added up, and chosen by patterns."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from command_line import PNG, Run, lines_of_json
from running import Server
from stillroom.cli import copying
from stillroom.cli.selection import Filter
from stillroom.client import ImageStore


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

    assert (one.code, one.out) == (0, f"copied {folder}/in/a.png to {folder}/b.png\n")
    assert into.code == 0
    results = sorted(
        (found["path"], found["target"], found["result"], found["size"])
        for found in lines_of_json(tree.out)
    )
    assert results == [
        (f"{folder}/in/a.png", f"{folder}/all/a.png", "copied", 117),
        (f"{folder}/in/b b.png", f"{folder}/all/b b.png", "copied", 119),
        (f"{folder}/in/deep/c.png", f"{folder}/all/deep/c.png", "copied", 122),
    ]
    assert (itself.code, "the same" in itself.err) == (2, True)
    assert f"would move {folder}/in/a.png to {folder}/moved/a.png" in dry.out
    assert f"moved {folder}/in/deep/c.png to {folder}/moved/deep/c.png\n" in moved.out
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


def test_mv_moves_the_poster_of_a_video_with_it(
    run: Run, folder: str, made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(made)
    for name in ("a.mp4", "a.mp4.poster.webp", "b.MOV", "c", "c.poster.webp"):
        Path(name).write_bytes(name.encode())
        assert run("put", name, f"{folder}/in/{name}").code == 0

    dry = run("mv", f"{folder}/in/a.mp4", f"{folder}/x.mp4", "--dry-run")
    one = run("mv", f"{folder}/in/a.mp4", f"{folder}/x.mp4")
    kept = run("mv", f"{folder}/x.mp4", f"{folder}/y.mp4", "--exclude", "*.webp")
    others = run("mv", f"{folder}/in/[bc]*", f"{folder}/out/", "--exclude", "*.webp")

    poster = f"{folder}/in/a.mp4.poster.webp to {folder}/x.mp4.poster.webp\n"
    assert f"would move {poster}" in dry.out
    assert f"moved {poster}" in one.out
    assert [one.code, kept.code, others.code] == [0, 0, 0]
    assert run("ls", "-R", folder).out.splitlines() == [
        f"{folder}/in/c.poster.webp",
        f"{folder}/out/b.MOV",
        f"{folder}/out/c",
        f"{folder}/x.mp4.poster.webp",
        f"{folder}/y.mp4",
    ]
    assert run("cp", f"{folder}/y.mp4", f"{folder}/x.mp4").code == 0
    assert run("mv", f"{folder}/*.mp4", f"{folder}/all/").code == 0
    assert f"{folder}/all/x.mp4.poster.webp" in run("ls", "-R", folder).out.splitlines()


def test_mv_refuses_a_poster_whose_target_is_that_of_another_image(
    run: Run, folder: str, made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(made)
    paths = ("p/a.mp4", "p/a.mp4.poster.webp", "q/a.mp4.poster.webp")
    for path in paths:
        assert run("put", "e.png", f"{folder}/{path}").code == 0
    words = ("mv", f"{folder}/p/a.mp4", f"{folder}/q/a.mp4.poster.webp", f"{folder}/out/")

    refused = run(*words)
    assert (refused.code, "would have the same path" in refused.err) == (2, True)
    assert run("ls", "-R", folder).out.splitlines() == [f"{folder}/{path}" for path in paths]

    assert run("rm", f"{folder}/p/a.mp4.poster.webp").code == 0
    assert run(*words).code == 0


def test_mv_moves_a_video_whose_name_leaves_no_room_for_that_of_a_poster(
    run: Run, folder: str, made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(made)
    long = f"{'a' * 246}.mp4"
    for path in (long, "b.mp4", "b.mp4.poster.webp"):
        assert run("put", "e.png", f"{folder}/{path}").code == 0

    assert run("mv", f"{folder}/{long}", f"{folder}/in/").code == 0
    assert run("mv", f"{folder}/b.mp4", f"{folder}/{long}").code == 0
    expected = [f"{folder}/{long}", f"{folder}/b.mp4.poster.webp", f"{folder}/in/{long}"]
    assert run("ls", "-R", folder).out.splitlines() == expected


class Refusing(httpx.HTTPTransport):
    """Refuses the first request that a function picks."""

    def __init__(self, picks: Callable[[httpx.Request], bool]) -> None:
        super().__init__()
        self.picks = picks
        self.refused = False

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        if self.refused or not self.picks(request):
            return super().handle_request(request)
        self.refused = True
        return httpx.Response(403, json={"detail": "not this time", "code": "forbidden"})


@pytest.mark.parametrize("refused", ["look at the poster", "copy of the video"])
def test_mv_moves_a_poster_after_its_video_whatever_a_look_at_it_says(
    run: Run,
    server: Server,
    folder: str,
    made: Path,
    monkeypatch: pytest.MonkeyPatch,
    refused: str,
) -> None:
    def picks(request: httpx.Request) -> bool:
        if refused == "look at the poster":
            return request.method == "HEAD" and request.url.path.endswith(".poster.webp")
        return request.url.path.endswith("/copy") and b".poster" not in request.read()

    monkeypatch.chdir(made)
    for name in ("a.mp4", "a.mp4.poster.webp"):
        assert run("put", "e.png", f"{folder}/{name}").code == 0
    transport = Refusing(picks)
    store = ImageStore(server.url, server.token(), transport=transport)
    monkeypatch.setattr(copying, "open_store", lambda: store)

    moved = run("mv", f"{folder}/a.mp4", f"{folder}/in/a.mp4", "--concurrency", "1")

    assert transport.refused
    where, code = (f"{folder}/in", 0) if refused == "look at the poster" else (folder, 4)
    assert moved.code == code, moved.err
    left = run("ls", "-R", folder).out.splitlines()
    assert left == [f"{where}/a.mp4", f"{where}/a.mp4.poster.webp"]


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
    assert f"uploaded {folder}/a.png" in kept.out
    assert "1 uploaded, 2 unchanged" in kept.err
    assert f"would delete {folder}/deep/c.png" in dry.out.splitlines()
    assert {"path": f"{folder}/deep/c.png", "result": "deleted"} in lines_of_json(second.out)
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
    assert "4 downloaded" in down.err
    assert "0 downloaded, 4 unchanged" in again.err
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
    for mistyped in ("", "--delete"):
        down = run("sync", f"store:{folder}x", "out", *filter(None, [mistyped]))
        assert (down.code, f"store:{folder}x/: no such folder" in down.err) == (3, True)
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
    assert lines_of_json(deep.out) == [
        {"path": f"{folder}/deep/", "size": 250, "images": 2},
        {"path": f"{folder}/deep/er/", "size": 128, "images": 1},
        {"path": f"{folder}/", "size": 250, "images": 2},
    ]
    mistyped = run("du", f"{folder}x")
    assert (mistyped.code, f"{folder}x/: no such folder" in mistyped.err) == (3, True)
    nothing = run("du", folder, "--include", "none.png")
    assert nothing.out.split() == ["0", "B", "0", f"{folder}/"]
    assert shown.out.encode(errors="surrogateescape") == PNG + b"out/a.png" + PNG + b"out/b b.png"


@pytest.mark.usefixtures("made")
def test_put_get_and_rm_take_filters_and_answer_in_json(run: Run, folder: str, made: Path) -> None:
    put = run("put", "out", folder, "--include", "*.png", "--exclude", "/deep/**", "--json")
    none = run("put", "out", folder, "--include", "*.gif")
    get = run("get", f"{folder}/", "back", "--exclude", "b*", "--json")
    url = run("url", f"{folder}/a.png", "--json")
    rm = run("rm", "-r", "--yes", f"{folder}/", "--include", "a.png", "--json")

    assert sorted(found["path"] for found in lines_of_json(put.out)) == [  # type: ignore[type-var]  # texts
        f"{folder}/a.png",
        f"{folder}/b b.png",
    ]
    assert (none.code, "no file matches the filters" in none.err) == (2, True)
    assert lines_of_json(get.out) == [
        {"path": f"{folder}/a.png", "result": "downloaded", "size": 117}
    ]
    assert os.listdir(made / "back") == ["a.png"]
    assert json.loads(url.out)["url"].startswith("http")
    assert lines_of_json(rm.out) == [{"deleted": 1, "missing": 0}]
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
