"""A server that lists what was not asked for decides nothing about files of the client's."""

import http.server
import json
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

import pytest

from client.conftest import Awaited, listed
from command_line import PNG, Ran, ran
from stillroom.client import AsyncImageStore, ImageStore, UnexpectedAnswer

ASKED = "generations/7/"
ELSEWHERE = ["generations/7a../up.png", "generations/70/a.png", "other/a.png"]
FACTS = {
    "size": len(PNG), "modified": "2026-11-01T00:00:00Z", "content_type": "image/png",
    "etag": '"a"', "sha256": None, "ai_mark": None,
}  # fmt: skip
RUN = {"state": "published", "published_at": "2026-11-01T00:00:00Z", "count": 1}


class Hostile(http.server.ThreadingHTTPServer):
    """Answers each listing with these names, and each image with the same bytes.

    Attributes:
        names: On the first page.
        more: On the second one.
    """

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.names: list[str] = []
        self.more: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def answer(self, target: str) -> object:
        """What it says, or None for an image."""
        asked = urlsplit(target)
        names = self.more if "second" in asked.query else self.names
        match asked.path.removeprefix("/api/v1/storage/"):
            case "images":
                return names
            case "entries":
                return [{"path": name, **FACTS} for name in names]
            case "search":
                items = [{"path": name, **FACTS, "generation": None} for name in names]
                return {"items": items, "next": "second" if "second" not in asked.query else None}
            case "runs":
                return [{"folder": name, **RUN} for name in names]
            case "runs/generations/7":
                images = [{"path": name, **FACTS, "sha256": "00"} for name in names]
                return {"folder": "generations/7", **RUN, "images": images}
        return None


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Hostile

    def do_GET(self) -> None:
        said = self.server.answer(self.path)
        body = PNG if said is None else json.dumps(said).encode()
        self.send_response(200)
        if self.server.more and "second" not in self.path:
            self.send_header("link", '</?second>; rel="next"')
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_HEAD(self) -> None:
        self.send_response(404)
        self.send_header("stillroom-error", "not_found")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  (the base class's)
        """No line for each request."""


@pytest.fixture
def hostile() -> Iterator[Hostile]:
    with Hostile() as served:
        serving = threading.Thread(target=served.serve_forever)
        serving.start()
        yield served
        served.shutdown()
        serving.join()


@pytest.fixture(params=["sync", "async"])
async def store(request: pytest.FixtureRequest, hostile: Hostile) -> AsyncIterator[AsyncImageStore]:
    if request.param == "async":
        async with AsyncImageStore(hostile.url, "token", deadline_s=30) as opened:
            yield opened
    else:
        with ImageStore(hostile.url, "token", deadline_s=30) as waiting:
            yield cast("AsyncImageStore", Awaited(waiting))


def run_command(folder: Path, hostile: Hostile, *words: str) -> Ran:
    return ran(folder, words, {"STILLROOM_URL": hostile.url, "STILLROOM_TOKEN": "token"})


def files(folder: Path) -> list[str]:
    """All files, and links as what they are."""
    found = (file for file in folder.rglob("*") if file.is_symlink() or file.is_file())
    return sorted(str(file.relative_to(folder)) for file in found)


Listing = Callable[[AsyncImageStore], AsyncIterator[Any]]
LISTINGS: dict[str, Listing] = {
    "names": lambda store: store.iter(ASKED),
    "a level": lambda store: store.level(ASKED),
    "entries": lambda store: store.entries(ASKED),
    "runs": lambda store: store.runs(ASKED),
    "a search": lambda store: store.search(prefix=ASKED),
}


@pytest.mark.parametrize("name", ELSEWHERE)
@pytest.mark.parametrize("listing", LISTINGS)
async def test_a_listing_of_what_was_not_asked_for_is_refused(
    store: AsyncImageStore, hostile: Hostile, listing: str, name: str
) -> None:
    hostile.names = [f"{ASKED}a.png", f"{ASKED}b/c.png"]
    assert len(await listed(LISTINGS[listing](store))) >= 2

    hostile.names = [f"{ASKED}a.png", name]
    with pytest.raises(UnexpectedAnswer, match="does not begin with 'generations/7/'"):
        await listed(LISTINGS[listing](store))

    hostile.names, hostile.more = [f"{ASKED}a.png"], [name]
    with pytest.raises(UnexpectedAnswer, match="does not begin with 'generations/7/'"):
        await listed(LISTINGS[listing](store))


@pytest.mark.parametrize(
    "command", [("ls", "-lR", "generations/"), ("runs", "ls"), ("runs", "show", "generations/7")]
)
def test_no_text_of_a_server_reaches_a_terminal_with_a_control_character(
    hostile: Hostile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    hostile.names = [f"{ASKED}a.png"]
    assert run_command(tmp_path, hostile, *command).code == 0

    escape = "\x1b]0;title\x07"
    monkeypatch.setitem(FACTS, "content_type", f"image/{escape}")
    monkeypatch.setitem(RUN, "state", escape)
    done = run_command(tmp_path, hostile, *command)

    assert done.code == 1
    assert "\x1b" not in done.out + done.err


@pytest.mark.parametrize("name", [*ELSEWHERE, "../up.png", 7])
def test_a_run_with_an_image_outside_of_its_folder_is_refused(hostile: Hostile, name: str) -> None:
    hostile.names = [f"{ASKED}a.png", name]

    with ImageStore(hostile.url, "token") as store, pytest.raises(UnexpectedAnswer):
        store.run("generations/7").read()


@pytest.mark.parametrize("name", ELSEWHERE)
@pytest.mark.parametrize(
    "command", [("get", ASKED, "out"), ("sync", f"store:{ASKED}", "out")], ids=["get", "sync"]
)
def test_nothing_is_written_of_a_listing_that_leads_elsewhere(
    hostile: Hostile, tmp_path: Path, command: tuple[str, ...], name: str
) -> None:
    hostile.names = [f"{ASKED}a.png", name]

    done = run_command(tmp_path, hostile, *command)

    assert done.code == 1
    assert "does not begin with" in done.err
    assert files(tmp_path) == []


@pytest.mark.parametrize("name", ["link/a.png", "link"])
@pytest.mark.parametrize(
    "command", [("get", ASKED, "out"), ("sync", f"store:{ASKED}", "out")], ids=["get", "sync"]
)
def test_a_link_in_the_target_leads_no_download_out_of_it(
    hostile: Hostile, tmp_path: Path, command: tuple[str, ...], name: str
) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "out/link").symlink_to(tmp_path / "elsewhere")
    hostile.names = [f"{ASKED}a.png", f"{ASKED}{name}"]

    done = run_command(tmp_path, hostile, *command)

    assert done.code == 1
    assert files(tmp_path) == ["out/a.png", "out/link"]


def test_a_target_that_is_a_link_itself_is_followed_as_the_user_named_it(
    hostile: Hostile, tmp_path: Path
) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "out").symlink_to(tmp_path / "disk")
    hostile.names = [f"{ASKED}b/a.png"]

    done = run_command(tmp_path, hostile, "get", ASKED, "out")

    assert (done.code, files(tmp_path / "disk")) == (0, ["b/a.png"])


@pytest.mark.parametrize("file", ["out/../up.png", "out/..", "up.png", "out/deep/../../up.png"])
async def test_a_download_within_a_folder_is_written_nowhere_else(
    store: AsyncImageStore, tmp_path: Path, file: str
) -> None:
    (tmp_path / "out").mkdir()
    within = tmp_path / "out"

    await store.download("a.png", within / "a.png", within=within)
    for download in (store.download, store.download_unless_same):
        with pytest.raises(PermissionError, match="leads out of"):
            await download("a.png", tmp_path / file, within=within)

    assert files(tmp_path) == ["out/a.png"]
