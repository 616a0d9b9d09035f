"""Images whose names and contents were made to attack the gallery: nothing of them runs."""

import httpx
import pytest
from playwright.sync_api import Browser, expect

from browser.site import Site
from browser.visiting import Visit, confirm, fragment, save, stored, visit
from pictures import picture
from running import Server

pytestmark = pytest.mark.slow


HOSTILE = (
    '<img src=x onerror="owned=1">.png',
    "\"'><script>owned=1<-script>.png",
    "#top?x=%41&y=%zz;+ .png",
    "javascript:owned=1.png",
    "&lt;b&gt;&amp;.png",
    "{{constructor.constructor('owned=1')()}}.png",
    "...png",
    "👩‍👩‍👧‍👦 emoji.png",
    "עברית ثم عربي.png",
    "a" * 200 + ".png",
)


def test_a_hostile_name_is_text_and_works_like_any_other(
    visitor: Visit, server: Server, client: httpx.Client, folder: str
) -> None:
    for number, name in enumerate(HOSTILE):
        save(client, folder + name, picture(number))
        save(client, f"{folder}{name} folder/a.png", picture(number))
    visitor.sign_in(server.token(), fragment(folder))
    expect(visitor.cells).to_have_count(2 * len(HOSTILE))
    captions = visitor.page.locator(".caption").all_text_contents()
    assert set(captions) == {*HOSTILE, *(f"{name} folder" for name in HOSTILE)}
    expect(visitor.page.locator(".cell:not(.folder).loaded")).to_have_count(len(HOSTILE))

    first = visitor.page.locator(".cell:not(.folder)").first
    first.click()
    for _ in HOSTILE:
        expect(visitor.page.locator(".picture.ready")).to_be_visible()
        shown = visitor.page.locator("#viewer-name").text_content()
        assert shown in HOSTILE
        assert visitor.page.title() == f"{shown} – Stillroom"
        address = visitor.page.url
        visitor.page.keyboard.press("ArrowRight")
        visitor.page.wait_for_function(
            "before => location.href !== before || document.getElementById('next').disabled",
            arg=address,
        )
    visitor.page.reload()
    expect(visitor.page.locator(".picture.ready")).to_be_visible()
    visitor.page.keyboard.press("Escape")
    visitor.page.locator(f".cell:nth-child({1 + captions.index(HOSTILE[0] + ' folder')})").click()
    visitor.expect_names("a.png")
    visitor.page.go_back()
    visitor.page.keyboard.press("Control+a")
    visitor.page.keyboard.press("Delete")
    confirm(visitor, f"Delete {2 * len(HOSTILE)} images?", f"{HOSTILE[1]} folder (folder, 1 image)")
    expect(visitor.text("Nothing here yet")).to_be_visible()

    assert visitor.page.evaluate("typeof owned") == "undefined"
    assert visitor.page.locator("img[src=x]").count() == 0
    assert stored(client, folder) == []


def test_a_link_to_a_name_with_quotation_marks_works(
    browser: Browser, server: Server, client: httpx.Client, folder: str
) -> None:
    name = HOSTILE[1]
    save(client, folder + name, picture(1))
    with visit(browser, server, permissions=["clipboard-read", "clipboard-write"]) as visitor:
        visitor.sign_in(server.token(), fragment(folder))
        visitor.cells.first.click()
        visitor.viewer.get_by_role("button", name="Copy link").click()
        expect(visitor.text("It works for 24 hours.")).to_be_visible()
        link = visitor.page.evaluate("navigator.clipboard.readText()")
        assert httpx.get(link).content == picture(1)
        assert '"' not in link


def test_a_drawing_with_a_script_shows_and_runs_nothing(
    visitor: Visit, server: Server, client: httpx.Client, folder: str, elsewhere: Site
) -> None:
    beacon = f"{elsewhere.url}/beacon"
    drawing = (
        '<svg xmlns="http://www.w3.org/2000/svg" width="90" height="90" '
        f"onload=\"fetch('{beacon}/1')\">"
        f"<script>fetch('{beacon}/2');top.owned=1</script><image href=\"{beacon}/3\"/>"
        '<rect width="90" height="90" fill="#2f5d50"/></svg>'
    ).encode()
    save(client, f"{folder}a.svg", drawing)
    visitor.sign_in(server.token(), fragment(folder))
    expect(visitor.page.locator(".cell.loaded")).to_have_count(1)
    visitor.cell("a.svg").click()
    visitor.expect_picture("a.svg")

    visitor.page.evaluate("() => new Promise(requestAnimationFrame)")
    assert visitor.page.evaluate("typeof owned") == "undefined"
    assert elsewhere.beacons == set()
