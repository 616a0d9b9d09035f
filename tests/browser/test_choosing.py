"""Many images are chosen: to delete them, to add them to the library, or to download them."""

import zipfile
from uuid import uuid4

import httpx
import pytest
from playwright.sync_api import Browser, expect

from browser.visiting import Visit, fragment, stored, visit
from running import IMAGES, Server

pytestmark = pytest.mark.slow


def test_many_are_chosen_by_mouse_and_deleted(
    visitor: Visit, server: Server, client: httpx.Client, folder_of_ten: str
) -> None:
    visitor.sign_in(server.token(), fragment(folder_of_ten))
    visitor.cell("1.jpg").click(modifiers=["Control"])
    visitor.cell("4.jpg").click(modifiers=["Shift"])
    visitor.cell("8.jpg").click()
    visitor.cell("2.jpg").locator(".mark").click()
    expect(visitor.text("4 selected")).to_be_visible()
    visitor.picture("chosen")
    visitor.expect_accessible()

    visitor.page.get_by_label("Selected images").get_by_role("button", name="Delete").click()
    visitor.page.locator(".question[open]").get_by_role("button", name="Delete", exact=True).click()
    expect(visitor.text("4 images deleted.")).to_be_visible()
    visitor.expect_names("0.jpg", "2.jpg", "5.jpg", "6.jpg", "7.jpg", "9.jpg")
    assert stored(client, folder_of_ten) == visitor.names()


def test_chosen_pictures_are_kept_and_the_library_shows_them(
    visitor: Visit, server: Server, folder_of_ten: str
) -> None:
    visitor.sign_in(server.token(), fragment(folder_of_ten))
    visitor.cell("1.jpg").click(modifiers=["Control"])
    visitor.cell("2.jpg").click()
    visitor.page.get_by_role("button", name="Add to library").click()
    visitor.page.locator(".question[open]").get_by_role("button", name="Add").click()
    expect(visitor.text("2 images added to the library.")).to_be_visible()

    visitor.page.get_by_role("link", name="Library").click()
    expect(visitor.page.locator(".cell.loaded")).to_have_count(2)
    for name in ("1.jpg", "2.jpg"):  # the name that it came with, and not an id
        expect(visitor.cell(name)).to_be_visible()
    visitor.picture("library")
    visitor.expect_accessible()
    visitor.cells.first.click()
    expect(visitor.page.locator(".picture.ready")).to_be_visible()
    visitor.page.keyboard.press("i")
    expect(visitor.page.locator("#facts")).to_contain_text("compute/")
    expect(visitor.page.locator("#facts dt", has_text="Dimensions")).to_have_count(1)
    visitor.page.reload()
    expect(visitor.page.locator(".picture.ready")).to_be_visible()
    visitor.page.keyboard.press("Escape")
    expect(visitor.page.locator(".cell.loaded")).to_have_count(2)


def test_more_pictures_than_a_browser_saves_come_as_a_zip(
    browser: Browser, server: Server, client: httpx.Client
) -> None:
    folder = f"{uuid4().hex}/"
    names = [f"{folder}{number:02}.bin" for number in range(21)]
    for name in names:
        client.post(f"{IMAGES}/{name}", files={"file": name.encode()}).raise_for_status()

    with visit(browser, server) as visitor:
        visitor.sign_in(server.token(), fragment(folder))
        expect(visitor.cells).to_have_count(len(names))
        visitor.cells.first.focus()
        visitor.page.keyboard.press("Control+a")
        with visitor.page.expect_download() as download:
            visitor.page.get_by_role("button", name="Download").click()

        assert download.value.suggested_filename == f"{folder.rstrip('/')}.zip"
        with zipfile.ZipFile(download.value.path()) as found:
            assert {name: found.read(name) for name in found.namelist()} == {
                name: name.encode() for name in names
            }
