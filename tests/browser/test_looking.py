"""Pictures are looked at: their tiles, one of them closely, its facts, its link and its file."""

import re
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, Response, expect

from browser.scenery import scenery
from browser.visiting import Visit, fragment, save, visit, wait_for_index
from pictures import picture
from running import IMAGES, Server

pytestmark = pytest.mark.slow

STORAGE = IMAGES.removesuffix("/images")


def test_a_thumbnail_has_a_pixel_for_each_that_is_shown(
    visitor: Visit, server: Server, client: httpx.Client, folder: str
) -> None:
    save(client, f"{folder}wide.png", picture(1, size=(1600, 400)))
    save(client, f"{folder}tall.png", picture(2, size=(400, 1600)))
    visitor.sign_in(server.token(), fragment(folder))
    expect(visitor.page.locator(".cell.loaded")).to_have_count(2)

    for least, shown in visitor.page.locator(".cell img").evaluate_all(
        "all => all.map(one => [Math.min(one.naturalWidth, one.naturalHeight), one.clientWidth])"
    ):
        assert least >= shown > 100


def test_the_facts_of_a_picture_are_those_of_the_api(
    visitor: Visit, server: Server, client: httpx.Client, folder: str
) -> None:
    save(client, f"{folder}a.png", picture(7, size=(300, 200)))
    (entry,) = client.get(f"{STORAGE}/entries", params={"prefix": folder}).json()
    visitor.sign_in(server.token(), fragment(f"{folder}a.png"))
    visitor.expect_picture("a.png")
    visitor.page.keyboard.press("i")

    facts = visitor.page.locator("#facts")
    for expected in (
        "300 × 200",
        "image/png",
        f"{entry['size']:,} bytes",
        entry["sha256"],
        entry["etag"],
    ):
        expect(facts).to_contain_text(expected)


def test_keys_and_wheel_look_closer_and_the_picture_stays_in_view(
    visitor: Visit, server: Server, client: httpx.Client, folder: str
) -> None:
    save(client, f"{folder}a.jpg", scenery(3, edge=1600))
    visitor.sign_in(server.token(), fragment(f"{folder}a.jpg"))
    visitor.expect_picture("a.jpg")
    shown = visitor.page.locator(".picture")

    def width() -> float:
        return float(shown.evaluate("one => one.getBoundingClientRect().width"))

    fits = width()
    assert fits <= 1280
    visitor.page.keyboard.press("+")
    assert width() == pytest.approx(fits * 1.4)
    visitor.page.keyboard.press("-")
    visitor.page.mouse.move(900, 400)
    under = (
        "one => { const box = one.getBoundingClientRect(); return (900 - box.left) / box.width; }"
    )
    at = shown.evaluate(under)
    visitor.page.mouse.wheel(0, -600)
    visitor.page.wait_for_function(
        "fits => document.querySelector('.picture').getBoundingClientRect().width > fits * 2",
        arg=fits,
    )
    assert shown.evaluate(under) == pytest.approx(at, abs=0.02), "what is under the pointer stays"
    visitor.page.mouse.down()
    visitor.page.mouse.move(5000, 400, steps=3)
    visitor.page.mouse.up()
    assert shown.evaluate("one => one.getBoundingClientRect().left") <= 1, (
        "its edge is not torn off the window's"
    )
    visitor.page.keyboard.press("0")
    assert width() == pytest.approx(fits)
    visitor.page.mouse.dblclick(600, 400)
    assert width() > fits


def test_the_place_is_kept_while_a_picture_loads(
    visitor: Visit, server: Server, client: httpx.Client, folder: str
) -> None:
    save(client, f"{folder}a.jpg", scenery(3, edge=1200))
    visitor.sign_in(server.token(), fragment(folder))
    expect(visitor.page.locator(".cell.loaded")).to_have_count(1)
    visitor.page.evaluate(
        """() => { window.boxes = new Set();
        const look = () => { const one = document.querySelector(".picture");
          if (one?.style.width) boxes.add(parseFloat(one.style.width));
          requestAnimationFrame(look); };
        look(); }"""
    )
    visitor.cell("a.jpg").click()
    visitor.expect_picture("a.jpg")
    visitor.page.wait_for_function("boxes.size > 0")  # a busy machine draws no frame for a while

    widths = visitor.page.evaluate("[...boxes]")
    assert max(widths) - min(widths) <= 0.01 * max(widths), "a small picture has a rounded shape"
    # A good page stays below 0.1: https://web.dev/articles/cls
    assert visitor.page.evaluate("shifted") < 0.02


def test_what_no_browser_can_show_has_its_type_and_can_be_downloaded(
    visitor: Visit, server: Server, client: httpx.Client, folder: str
) -> None:
    save(client, f"{folder}notes.txt", b"words")
    save(client, f"{folder}torn.png", picture(1)[:20])
    visitor.sign_in(server.token(), fragment(folder))
    expect(visitor.page.locator(".cell.plain")).to_have_count(2)
    expect(visitor.cell("notes.txt").locator(".kind")).to_have_text("txt")
    visitor.cell("notes.txt").click()

    expect(visitor.page.get_by_role("heading", name="No preview")).to_be_visible()
    with visitor.page.expect_download() as download:
        visitor.page.get_by_role("button", name="Download").click()
    assert download.value.path().read_bytes() == b"words"


def test_a_file_without_a_picture_is_asked_for_once_while_its_folder_is_open(
    visitor: Visit, server: Server, client: httpx.Client, folder: str
) -> None:
    save(client, f"{folder}notes.txt", b"words")
    wait_for_index(server, folder.strip("/"), 1)
    asked: list[str] = []
    visitor.page.on("request", lambda request: asked.append(request.url))
    visitor.sign_in(server.token(), fragment(folder))
    kind = visitor.cell("notes.txt").locator(".kind")
    expect(kind).to_have_text("txt")

    for name in ("a.jpg", "b.jpg"):
        save(client, f"{folder}{name}", scenery(3, edge=240))
        expect(visitor.cell(name)).to_be_visible()  # all are drawn anew
        expect(kind).to_have_text("txt")
    assert len([url for url in asked if "storage/entries" in url and "notes.txt" in url]) == 1


@pytest.mark.parametrize("extra", [0, 4_000_000])
def test_a_damaged_image_is_tried_once_in_each_version(
    visitor: Visit, server: Server, client: httpx.Client, folder: str, extra: int
) -> None:
    good = picture(1)
    bad = good[: good.index(b"IDAT") - 4] + bytes(64)
    save(client, f"{folder}in/bad.png", bad + bytes(extra))
    save(client, f"{folder}in/good.png", picture(2))
    refused: list[str] = []

    def note(answer: Response) -> None:
        if answer.status == 415:
            refused.append(answer.url)

    def look_again() -> None:
        visitor.page.get_by_role("link", name=folder.strip("/")).click()
        visitor.cell("in").click()

    visitor.page.on("response", note)
    visitor.sign_in(server.token(), fragment(f"{folder}in/"))
    expect(visitor.cell("bad.png").locator(".kind")).to_have_text("png")
    before = len(refused)
    assert before > 0
    for _ in range(2):
        look_again()
        expect(visitor.cell("bad.png").locator(".kind")).to_have_text("png")
        expect(visitor.page.locator(".cell.loaded")).to_have_count(1)
    assert len(refused) == before

    visitor.page.get_by_role("link", name=folder.strip("/")).click()
    expect(visitor.cell("in").locator(".amount")).to_be_visible()
    save(client, f"{folder}in/bad.png", good)
    visitor.cell("in").click()
    expect(visitor.page.locator(".cell.loaded")).to_have_count(2)


def test_a_link_is_copied_that_works_without_a_token_and_a_picture_is_saved(
    browser: Browser, server: Server, folder_of_ten: str
) -> None:
    with visit(browser, server, permissions=["clipboard-read", "clipboard-write"]) as visitor:
        visitor.sign_in(server.token(), fragment(f"{folder_of_ten}1.jpg"))
        expect(visitor.page.locator("#viewer-place")).to_have_text("2 of 10")  # said last
        visitor.page.get_by_role("button", name="Copy link").click()
        expect(visitor.viewer.locator("#live")).to_contain_text("It works for 24 hours.")
        visitor.page.get_by_role("button", name="Dismiss").click()
        expect(visitor.text("It works for 24 hours.")).to_have_count(0)
        link = visitor.page.evaluate("navigator.clipboard.readText()")
        assert httpx.get(link).content == scenery(1, edge=240)
        with visitor.page.expect_download() as download:
            visitor.page.get_by_role("button", name="Download").click()
        assert download.value.suggested_filename == "1.jpg"
        assert download.value.path().read_bytes() == scenery(1, edge=240)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_picture_stands_on_grey_and_what_is_transparent_on_a_checkerboard(
    browser: Browser, server: Server, client: httpx.Client, folder: str, scheme: Any
) -> None:
    save(client, f"{folder}a.png", picture(1))
    with visit(browser, server, color_scheme=scheme) as visitor:
        visitor.sign_in(server.token(), fragment(f"{folder}a.png"))
        visitor.expect_picture("a.png")
        visitor.page.keyboard.press("+")

        ground = visitor.viewer.evaluate("one => getComputedStyle(one).backgroundColor")
        assert len(set(re.findall(r"\d+", ground))) == 1, ground
        expect(visitor.page.locator(".picture")).to_have_css(
            "background-image", re.compile("conic-gradient")
        )
        expect(visitor.page.locator("#stage")).to_have_css("outline-style", "none")
        visitor.expect_accessible()
