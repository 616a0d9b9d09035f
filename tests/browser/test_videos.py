"""A real Chromium plays and seeks stored videos, and the gallery shows them among pictures."""

import contextlib
import re
from collections.abc import Iterator
from uuid import uuid4

import httpx
import pytest
from playwright.sync_api import Browser, Page, Response, expect

from browser.scenery import scenery
from browser.site import Site
from browser.visiting import LONGEST_MS, confirm, fragment, stored, visit, wait_for_index
from running import IMAGES, Server, running
from services.seaweedfs import SeaweedFS, bucket_variables
from videos import QUARTER, RECORDINGS, Mp4, frames, recorded, webm

pytestmark = pytest.mark.slow

SIGNED_URLS = f"{IMAGES.removesuffix('images')}signed-urls"
LIBRARY = "/api/v1/media-resources"
LARGE = 2 * 1024**2

VIDEOS = {
    "recorded.webm": recorded("webm"),
    "recorded.mp4": recorded("mp4"),
    "finished.webm": webm(frames()),
    "front.mp4": Mp4(frames()).file(moov_first=True),
    "end.mp4": Mp4(frames()).file(before=LARGE),
    "turned.mp4": Mp4(frames(), matrix=QUARTER).file(),
    "fragments.mp4": Mp4(frames()).fragmented(mfra=True),
    "apple.mov": Mp4(frames()).file(brand=b"qt  "),
    "ffmpeg.mp4": (RECORDINGS / "ffmpeg.mp4").read_bytes(),
}

_PLAY = """
async (url) => {
  const video = document.createElement("video");
  video.muted = true;
  video.preload = "auto";
  const heard = (name) => new Promise((resolve, reject) => {
    video.addEventListener(name, resolve, { once: true });
    video.addEventListener("error", () => reject(new Error(video.error?.message)), { once: true });
  });
  const began = heard("loadedmetadata");
  video.src = url;
  document.body.append(video);
  await began;
  const { videoWidth, videoHeight, duration } = video;
  const sought = heard("seeked");
  video.currentTime = 1.2;
  await sought;
  const at = video.currentTime;
  const ended = heard("ended");
  video.playbackRate = 4;
  await video.play();
  await ended;
  return { size: [videoWidth, videoHeight], duration, at, end: video.currentTime };
}
"""


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("videos")) as started:
        yield started


@pytest.fixture(scope="module")
def bucket(tmp_path_factory: pytest.TempPathFactory, seaweed: SeaweedFS) -> Iterator[Server]:
    with contextlib.ExitStack() as stack:
        with pytest.MonkeyPatch.context() as patch:
            for name, value in bucket_variables(seaweed).items():
                patch.setenv(name, value)
            started = stack.enter_context(running(tmp_path_factory.mktemp("bucket")))
        yield started
    seaweed.empty()


@pytest.fixture(scope="module", params=["disk", "bucket"])
def server(request: pytest.FixtureRequest) -> Server:
    """On a disk, and in a SeaweedFS, whose presigned URLs a browser is redirected to."""
    server: Server = request.getfixturevalue(request.param)
    return server


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    with browser.new_context() as context:
        context.set_default_timeout(LONGEST_MS)
        yield context.new_page()


def save(server: Server, path: str, data: bytes) -> None:
    with server.client() as client:
        saved = client.post(f"{IMAGES}/{path}", files={"file": data})
        assert saved.status_code == 200, saved.text


def signed(server: Server, path: str) -> str:
    with server.client() as client:
        return str(client.post(SIGNED_URLS, json={"path": path}).json()["url"])


def ingested(server: Server, path: str) -> dict[str, object]:
    with server.client() as client:
        answer = client.post(f"{LIBRARY}/ingest", json={"storage_key": f"compute/{path}"})
        assert answer.status_code == 200, answer.text
        found: dict[str, object] = answer.json()
        return found


WITHOUT_DURATION = ("recorded.webm", "fragments.mp4")
"""Their headers do not contain it."""


@pytest.mark.parametrize("name", VIDEOS)
def test_a_video_plays_and_seeks_by_a_signed_url_and_is_what_the_library_says(
    server: Server, elsewhere: Site, page: Page, name: str
) -> None:
    save(server, name, VIDEOS[name])
    page.goto(elsewhere.url)

    played = page.evaluate(_PLAY, signed(server, name))
    found = ingested(server, name)

    assert played["at"] == 1.2
    assert played["size"] == [found["width"], found["height"]]
    if name in WITHOUT_DURATION:
        assert found["duration"] is None
    else:
        assert isinstance(found["duration"], float)
        assert abs(played["end"] - found["duration"]) < 0.06  # a frame


def test_a_video_that_is_opened_plays_and_runs_nothing(server: Server, page: Page) -> None:
    save(server, "opened.mp4", VIDEOS["front.mp4"])
    url = signed(server, "opened.mp4")

    page.goto(url)

    assert page.evaluate("document.contentType") == "video/mp4"
    page.wait_for_function("() => document.querySelector('video')?.readyState >= 2")


def test_a_part_of_a_video_is_answered_in_place(disk: Server) -> None:
    save(disk, "part.mp4", VIDEOS["end.mp4"])

    found = httpx.get(signed(disk, "part.mp4"), headers={"Range": "bytes=4-7"})

    assert (found.status_code, found.content) == (206, b"ftyp")
    assert found.headers["content-type"] == "video/mp4"
    assert "content-disposition" not in found.headers
    assert found.headers["x-content-type-options"] == "nosniff"
    assert "sandbox" in found.headers["content-security-policy"]


# The gallery


@pytest.fixture
def folder(server: Server) -> str:
    """Pictures and videos, some of them with names that mislead."""
    name = f"{uuid4().hex[:8]}/"
    contents = {
        "a.jpg": scenery(1, edge=240),
        "b.mp4": VIDEOS["end.mp4"],
        "c": VIDEOS["finished.webm"],
        "d.webm": VIDEOS["recorded.webm"],
        "e.mp4": scenery(2, edge=240),
        "f.mov": b"not a video at all" * 100,
        "g.jpg": scenery(3, edge=240),
    }
    for path, data in contents.items():
        save(server, f"{name}{path}", data)
    return name


def hosts(server: Server) -> tuple[str, ...]:
    endpoint = server.environment.get("R2_ENDPOINT_URL", "")
    return (endpoint.removeprefix("http://"),) if endpoint else ()


def test_the_gallery_shows_videos_among_pictures_and_plays_them(
    browser: Browser, server: Server, folder: str
) -> None:
    with visit(browser, server, hosts=hosts(server)) as visitor:
        visitor.sign_in(server.token(), fragment(folder))
        for name, length in (("b.mp4", "0:02"), ("c", "0:02"), ("d.webm", "")):
            cell = visitor.cell(name)
            expect(cell.locator("canvas")).to_be_visible()
            expect(cell.locator(".badge.play")).to_have_text(re.compile(f"{length}$"))
            expect(cell).to_have_attribute("aria-label", f"{name}, video")
        expect(visitor.cell("e.mp4").locator("img")).to_be_visible()
        expect(visitor.cell("e.mp4").locator(".badge.play")).to_have_count(0)
        expect(visitor.cell("f.mov").locator(".kind")).to_have_text("mov")
        expect(visitor.cell("f.mov").locator(".badge.play")).to_have_count(0)
        visitor.expect_accessible()
        visitor.picture(f"videos-{server.port}")

        visitor.cell("a.jpg").click()
        visitor.expect_picture("a.jpg")
        film = visitor.page.locator("video.film")
        for name in ("b.mp4", "c", "d.webm"):
            visitor.page.keyboard.press("ArrowRight")
            expect(visitor.page.locator("#viewer-name")).to_have_text(name)
            expect(film).to_be_visible()
            visitor.page.wait_for_function(
                "() => document.querySelector('video.film').readyState >= 2"
            )
        visitor.page.keyboard.press("Space")
        visitor.page.wait_for_function("() => document.querySelector('video.film').currentTime > 0")
        visitor.page.keyboard.press("Space")
        visitor.page.wait_for_function("() => document.querySelector('video.film').paused")
        visitor.page.keyboard.press("i")
        expect(visitor.page.locator("#facts")).to_contain_text("160 × 90")
        visitor.expect_accessible()
        visitor.page.keyboard.press("ArrowRight")
        visitor.expect_picture("e.mp4")
        visitor.page.keyboard.press("ArrowRight")
        expect(visitor.text("No preview")).to_be_visible()
        visitor.page.keyboard.press("ArrowRight")
        visitor.expect_picture("g.jpg")
        visitor.page.keyboard.press("Escape")
        expect(visitor.viewer).to_be_hidden()


def test_keys_belong_to_the_controls_of_a_video_while_they_have_the_focus(
    browser: Browser, disk: Server
) -> None:
    save(disk, "keys/a.mp4", VIDEOS["front.mp4"])
    save(disk, "keys/b.jpg", scenery(1, edge=240))
    with visit(browser, disk) as visitor:
        visitor.sign_in(disk.token(), fragment("keys/"))
        visitor.cell("a.mp4").click()
        film = visitor.page.locator("video.film")
        visitor.page.wait_for_function("() => document.querySelector('video.film').readyState >= 2")

        film.focus()
        visitor.page.keyboard.press("ArrowRight")
        expect(visitor.page.locator("#viewer-name")).to_have_text("a.mp4")

        visitor.page.locator("#stage").focus()
        visitor.page.keyboard.press("ArrowRight")
        visitor.expect_picture("b.jpg")


def test_a_poster_is_part_of_its_video(browser: Browser, disk: Server) -> None:
    save(disk, "posters/in/a.mp4", VIDEOS["front.mp4"])
    save(disk, "posters/in/a.mp4.poster.webp", scenery(7, edge=240, form="WEBP"))
    save(disk, "posters/in/b.mp4.poster.webp", scenery(8, edge=240, form="WEBP"))
    with visit(browser, disk) as visitor:
        visitor.sign_in(disk.token(), fragment("posters/"))
        expect(visitor.cell("in").locator(".amount")).to_have_text("2 images")
        visitor.go(fragment("posters/in/"))
        visitor.expect_names("a.mp4", "b.mp4.poster.webp")
        cell = visitor.cell("a.mp4")
        expect(cell.locator(".badge.play")).to_have_text("0:02")
        visitor.page.wait_for_function(
            "() => document.querySelector('.cell[title=\"a.mp4\"] img').naturalWidth > 0"
        )
        cell.click()
        visitor.page.wait_for_function("() => document.querySelector('video.film').poster")
        visitor.page.keyboard.press("Escape")

        chosen = visitor.page.get_by_label("Selected images")
        cell.click(modifiers=["Control"])
        chosen.get_by_role("button", name="Rename").click()
        visitor.page.get_by_label("New name").fill("b.mp4")
        visitor.page.get_by_role("button", name="Rename", exact=True).last.click()
        expect(visitor.text("exists already")).to_be_visible()  # that would replace a poster
        visitor.page.get_by_label("New name").fill("c.mp4")
        visitor.page.get_by_role("button", name="Rename", exact=True).last.click()
        expect(visitor.text("1 image renamed.")).to_be_visible()
        visitor.expect_names("b.mp4.poster.webp", "c.mp4")
        with disk.client() as client:
            names = ["b.mp4.poster.webp", "c.mp4", "c.mp4.poster.webp"]
            assert stored(client, "posters/in/") == names

        visitor.cell("c.mp4").click(modifiers=["Control"])
        visitor.page.keyboard.press("Delete")
        confirm(visitor, "Delete 1 image?")
        visitor.expect_names("b.mp4.poster.webp")
        with disk.client() as client:
            assert stored(client, "posters/in/") == ["b.mp4.poster.webp"]


def test_a_video_without_a_poster_shows_its_frame_alone_and_is_asked_once(
    browser: Browser, disk: Server
) -> None:
    save(disk, "bare/a.mp4", VIDEOS["front.mp4"])
    save(disk, "bare/notes.txt", b"words")
    with visit(browser, disk) as visitor:
        refused: list[str] = []

        def note(answer: Response) -> None:
            if answer.status == 415:
                refused.append(answer.url)

        visitor.page.on("response", note)
        visitor.sign_in(disk.token(), fragment("bare/"))
        for _ in range(2):
            expect(visitor.cell("a.mp4").locator("canvas")).to_be_visible()
            expect(visitor.cell("a.mp4").locator("img")).to_be_hidden()
            expect(visitor.cell("notes.txt").locator(".kind")).to_have_text("txt")
            visitor.page.get_by_role("link", name="All images").click()
            expect(visitor.cell("bare").locator(".amount")).to_be_visible()
            visitor.cell("bare").click()
        expect(visitor.cell("notes.txt").locator(".kind")).to_have_text("txt")

    assert len(refused) == len(set(refused))


def test_a_folder_takes_the_newest_file_that_has_a_picture_as_its_cover(
    browser: Browser, disk: Server
) -> None:
    save(disk, "covers/in/a.jpg", scenery(5, edge=240))
    save(disk, "covers/in/b.mp4", VIDEOS["front.mp4"])
    save(disk, "covers/in/notes.txt", b"words")
    wait_for_index(disk, "covers/in", 3)
    with visit(browser, disk) as visitor:
        visitor.sign_in(disk.token(), fragment("covers/"))
        expect(visitor.page.locator(".folder.loaded")).to_be_visible()
        expect(visitor.cell("in").locator("img")).to_have_attribute("src", re.compile("a.jpg"))


def test_a_video_of_the_library_has_the_poster_that_was_beside_it(
    browser: Browser, disk: Server
) -> None:
    # Bytes of its own: the library has each content once, under its first name.
    save(disk, "kept/posed.mp4", VIDEOS["front.mp4"] + b"\0\0\0\x08free")
    save(disk, "kept/posed.mp4.poster.webp", scenery(9, edge=240, form="WEBP"))
    ingested(disk, "kept/posed.mp4")
    with visit(browser, disk) as visitor:
        visitor.sign_in(disk.token(), "#library")
        visitor.page.wait_for_function(
            "() => document.querySelector('.cell[title=\"posed.mp4\"] img')?.naturalWidth > 0"
        )


def test_the_library_plays_videos_too(browser: Browser, server: Server) -> None:
    save(server, "kept.mp4", VIDEOS["turned.mp4"])
    found = ingested(server, "kept.mp4")
    with visit(browser, server, hosts=hosts(server)) as visitor:
        visitor.sign_in(server.token(), "#library")
        cell = visitor.page.locator(f'.cell:has([data-key="{found["id"]}"])')
        expect(cell.locator("canvas")).to_be_visible()
        expect(cell.locator(".badge.play")).to_have_text("0:02")
        cell.click()
        visitor.page.wait_for_function(
            "() => document.querySelector('video.film').videoHeight === 160"
        )
        visitor.page.keyboard.press("Space")
        visitor.page.wait_for_function("() => document.querySelector('video.film').currentTime > 0")


def test_the_library_shows_pictures_wherever_they_are(browser: Browser, server: Server) -> None:
    """In a bucket without a public URL, too: there is its signed URL in place of a redirect."""
    data = scenery(server.port, edge=240)
    save(server, "kept.jpg", data)
    found = ingested(server, "kept.jpg")
    with visit(browser, server, hosts=hosts(server)) as visitor:
        visitor.sign_in(server.token(), "#library")
        expect(visitor.cell("kept.jpg").and_(visitor.page.locator(".loaded"))).to_be_visible()
        visitor.cell("kept.jpg").click()
        visitor.expect_picture("kept.jpg")

    with server.client() as client:
        file = f"{LIBRARY}/{found['id']}/file"
        answer = client.get(file, headers={"Accept": "application/json"})
        assert (httpx.get(answer.json()["url"]) if hosts(server) else answer).content == data
        assert client.get(file, follow_redirects=True).content == data
