"""The way to a picture: Back and Forward, addresses, the start of a name, and scrolling far."""

import re
import time

import httpx
import pytest
from playwright.sync_api import Browser, expect

from browser.scenery import scenery
from browser.visiting import Visit, fragment, save, visit, wait_for_index
from pictures import picture
from running import Server

pytestmark = pytest.mark.slow


def test_back_goes_back_and_the_address_leads_to_folder_and_picture(
    visitor: Visit, server: Server, client: httpx.Client, folder_of_ten: str
) -> None:
    save(client, f"{folder_of_ten}below/a.jpg", scenery(1, edge=100))
    visitor.sign_in(server.token())
    visitor.cell(folder_of_ten[:-1]).click()
    expect(visitor.cells).to_have_count(11)
    visitor.cell("below").click()
    visitor.expect_names("a.jpg")
    visitor.page.get_by_role("navigation", name="Folders").get_by_text(folder_of_ten[:-1]).click()
    expect(visitor.cells).to_have_count(11)

    visitor.cell("3.jpg").click()
    visitor.expect_picture("3.jpg")
    visitor.page.keyboard.press("ArrowRight")
    visitor.expect_picture("4.jpg")
    assert visitor.page.url.endswith(fragment(f"{folder_of_ten}4.jpg"))
    visitor.page.go_back()
    expect(visitor.viewer).to_be_hidden()
    expect(visitor.cell("4.jpg")).to_be_focused()
    visitor.page.go_back()
    visitor.expect_names("a.jpg")
    visitor.page.go_forward()
    visitor.page.go_forward()
    visitor.expect_picture("4.jpg")

    visitor.page.reload()
    visitor.expect_picture("4.jpg")
    expect(visitor.page.locator("#viewer-place")).to_have_text("5 of 11")
    visitor.page.keyboard.press("Escape")
    expect(visitor.viewer).to_be_hidden()
    expect(visitor.cells).to_have_count(11)


def test_names_that_begin_with_a_text_are_found(
    visitor: Visit, server: Server, client: httpx.Client, folder: str
) -> None:
    for name in ("cat.png", "car.png", "dog.png"):
        save(client, folder + name, picture(1))
    visitor.sign_in(server.token(), fragment(folder))
    expect(visitor.cells).to_have_count(3)
    wait_for_index(server, folder.rstrip("/"), 3)
    visitor.page.keyboard.press("/")
    visitor.page.keyboard.type("CA")
    visitor.expect_names("car.png", "cat.png")
    visitor.page.keyboard.type("w")
    expect(visitor.text("Nothing found")).to_be_visible()
    visitor.picture("nothing-found")
    visitor.expect_accessible()
    visitor.page.get_by_role("link", name="Show all images").click()
    expect(visitor.cells).to_have_count(3)


def test_a_folder_of_a_hundred_thousand_scrolls_with_a_few_cells(
    browser: Browser, server: Server
) -> None:
    many = server.data / "compute" / "many"
    many.mkdir(parents=True)
    tile = server.data / "compute" / "tile.png"
    tile.write_bytes(picture(1))
    for number in range(100_000):
        if number % 50_000 == 0:  # no file has more than 65,000 names on ext4
            first = many / f"{number:06}.png"
            first.write_bytes(picture(number))
        else:
            (many / f"{number:06}.png").hardlink_to(first)
    with visit(browser, server) as visitor:
        visitor.sign_in(server.token(), fragment("many/"))
        expect(visitor.page.locator(".cell.loaded").first).to_be_visible()
        most, ends = 0, time.monotonic() + 240
        while visitor.page.locator("#told").text_content() != "100,000 entries":
            assert time.monotonic() < ends
            visitor.page.evaluate("scrollTo(0, document.documentElement.scrollHeight)")
            visitor.page.evaluate("() => new Promise(requestAnimationFrame)")
            most = max(most, visitor.cells.count())
        visitor.page.evaluate("scrollTo(0, document.documentElement.scrollHeight)")
        expect(visitor.cell("099999.png")).to_be_visible()
        expect(visitor.page.locator('.cell.loaded[title="099999.png"]')).to_be_visible()
        assert most < 150
        # Places are where arithmetic has them, however far down.
        edges = visitor.cells.evaluate_all(
            """all => all.map(one => { const box = one.getBoundingClientRect();
            return [box.width, box.height]; })"""
        )
        assert len({tuple(edge) for edge in edges}) == 1
        visitor.cell("099999.png").click()
        visitor.expect_picture("099999.png")
        visitor.page.keyboard.press("ArrowLeft")
        visitor.expect_picture("099998.png")
        visitor.page.keyboard.press("Escape")
        expect(visitor.cell("099998.png")).to_be_focused()
        assert re.search(r"\d", visitor.page.locator("#told").text_content() or "")
