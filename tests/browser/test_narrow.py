"""Every scene fits a phone and a tablet, however long the names are."""

import httpx
import pytest
from playwright.sync_api import Browser, expect

from browser.scenery import scenery
from browser.visiting import Visit, fragment, on_small_screens, save, small_screen, visit
from running import Server
from videos import Mp4, frames

pytestmark = pytest.mark.slow

LIBRARY = "/api/v1/media-resources"

# What hangs over the window's sides.
_OUTSIDE = """
() => {
  const modal = [...document.querySelectorAll("dialog[open]")].at(-1) ?? document.body;
  const all = [...modal.querySelectorAll("button, a, input, h1, h2, p, dd, li, dialog, .picture")];
  const { scrollWidth, clientWidth } = document.scrollingElement;
  const outside = all.filter((one) => {
    const box = one.getBoundingClientRect();
    if (!one.checkVisibility() || box.width <= 1) return false;
    return box.left < -0.5 || box.right > innerWidth + 0.5;
  }).map((one) => `${one.tagName} ${one.id || one.textContent || one.ariaLabel}`.slice(0, 80));
  if (scrollWidth > clientWidth) outside.push("the page is wider than the window");
  return outside;
}
"""


def expect_fits(visitor: Visit, width: int) -> None:
    """Nothing hangs over the window's sides, and the window is as wide as the device."""
    assert visitor.page.evaluate(_OUTSIDE) == []
    assert visitor.page.evaluate("innerWidth") == width


@pytest.mark.parametrize("length", [20, 140])
@on_small_screens
def test_every_scene_fits_its_window_with_names_of_any_length(
    browser: Browser,
    server: Server,
    client: httpx.Client,
    folder: str,
    width: int,
    length: int,
    scheme: str,
) -> None:
    name = f"{'ComfyUI_' * 20}"[: length - 5] + ".webp"
    other = f"b{name[1:]}"
    deep = f"{folder}{'sub_' * 40}"[: len(folder) + length]
    for number, path in enumerate((f"{folder}{name}", f"{folder}{other}", f"{deep}/{name}")):
        save(client, path, scenery(width + length + number, edge=400, form="WEBP"))
    with visit(browser, server, **small_screen(width, scheme)) as visitor:
        visitor.sign_in(server.token(), fragment(f"{deep}/"))
        expect(visitor.page.locator(".cell.loaded")).to_have_count(1)
        expect_fits(visitor, width)
        visitor.expect_accessible()

        visitor.go(fragment(folder))
        expect(visitor.page.locator(".cell.loaded")).to_have_count(3)
        expect_fits(visitor, width)
        visitor.expect_accessible()
        expect_help_fits(visitor, width)

        visitor.cell(name).tap()
        visitor.expect_picture(name)
        for button in ("Back to all images", "Copy link", "Download", "Delete", "Details"):
            expect(visitor.viewer.get_by_role("button", name=button)).to_be_in_viewport(ratio=1)
        expect(visitor.page.locator(".picture")).to_be_in_viewport(ratio=0.99)
        expect_fits(visitor, width)
        visitor.viewer.get_by_role("button", name="Details").tap()
        expect(visitor.page.locator("#facts")).to_contain_text("SHA-256")
        expect(visitor.page.locator(".picture")).to_be_in_viewport(ratio=0.99)
        expect_fits(visitor, width)
        visitor.expect_accessible()
        visitor.picture(f"narrow-viewer-{width}-{length}-{scheme}")
        visitor.viewer.get_by_role("button", name="Delete").tap()
        expect(visitor.page.get_by_role("heading", name="Delete 1 image?")).to_be_visible()
        expect_fits(visitor, width)
        visitor.page.get_by_role("button", name="Cancel").tap()
        visitor.page.go_back()
        expect(visitor.viewer).to_be_hidden()

        choose_by_keys(visitor, name)
        expect_fits(visitor, width)
        bar = visitor.page.get_by_label("Selected images")
        for shown in bar.get_by_role("button").all():
            expect(shown).to_be_in_viewport(ratio=1)
        for button in ("Rename", "Move"):
            bar.get_by_role("button", name=button).tap()
            expect(visitor.page.locator(".question[open] .field")).to_be_visible()
            expect_fits(visitor, width)
            visitor.expect_accessible()
            visitor.page.get_by_role("button", name="Cancel").tap()

        made = client.post(
            f"{LIBRARY}/ingest",
            json={"storage_key": f"compute/{folder}{name}", "relocate": False},
        ).json()
        visitor.go(f"#library/{made['id']}")
        visitor.expect_picture(name)
        expect_fits(visitor, width)
        visitor.viewer.get_by_role("button", name="Edit").tap()
        expect(visitor.page.get_by_role("heading", name="Edit", exact=True)).to_be_visible()
        expect_fits(visitor, width)


def test_badges_do_not_lie_below_the_circle_that_selects_a_tile(
    browser: Browser, server: Server, client: httpx.Client, folder: str
) -> None:
    save(client, f"{folder}a.mp4", Mp4(frames()).file(moov_first=True))
    save(client, f"{folder}b.jpg", scenery(7, edge=240))
    key = {"storage_key": f"compute/{folder}a.mp4", "relocate": False}
    client.post(f"{LIBRARY}/ingest", json=key).raise_for_status()
    with visit(browser, server, viewport={"width": 390, "height": 800}) as visitor:
        visitor.sign_in(server.token(), fragment(folder))
        expect(visitor.cell("a.mp4").locator(".badge")).to_have_count(2)
        choose_by_keys(visitor, "b.jpg")
        for density in ("small", "medium, with names", "large", "medium"):
            visitor.page.get_by_role("button", name="Thumbnail size").click()
            expect(visitor.page.locator("#live")).to_have_text(f"Thumbnail size: {density}")
            mark = visitor.cell("a.mp4").locator(".mark").bounding_box()
            visitor.picture(f"badges-{density}")
            for badge in visitor.cell("a.mp4").locator(".badge").all():
                box = badge.bounding_box()
                expect(badge).to_be_in_viewport(ratio=1)
                assert (
                    box["x"] >= mark["x"] + mark["width"] or box["y"] >= mark["y"] + mark["height"]
                )


def expect_help_fits(visitor: Visit, width: int) -> None:
    visitor.page.get_by_role("button", name="Help").tap()
    expect(visitor.page.get_by_text("ai_mark:none")).to_be_in_viewport()
    expect_fits(visitor, width)
    visitor.expect_accessible()
    visitor.picture(f"narrow-help-{width}")
    visitor.page.get_by_role("button", name="Close", exact=True).tap()


def choose_by_keys(visitor: Visit, name: str) -> None:
    visitor.cell(name).focus()
    visitor.page.keyboard.press("Space")
    expect(visitor.text("1 selected")).to_be_visible()
