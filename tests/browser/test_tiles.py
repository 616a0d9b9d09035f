"""Tiles are links, and say of their file what a picture alone does not, in a real Chromium."""

from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

import httpx
import pytest
from playwright.sync_api import Browser, FilePayload, Page, expect

from browser.scenery import scenery
from browser.visiting import LONGEST_MS, Visit, fragment, save, visit, wait_for_index
from running import Server

pytestmark = pytest.mark.slow

LIBRARY = "/api/v1/media-resources"


@pytest.fixture
def folder(server: Server, client: httpx.Client) -> str:
    """With a `#` in its name, three images, and one in a folder below."""
    folder = f"{uuid4().hex[:8]} #1/"
    for name in ("a.jpg", "b ?&.jpg", "c.jpg", "below/d.jpg"):
        save(client, f"{folder}{name}", scenery(uuid4().int % 10**6, edge=300))
    wait_for_index(server, folder.removesuffix("/"), 4)
    return folder


@pytest.fixture
def remembered(visitor: Visit, server: Server) -> Visit:
    """Signed in, in new tabs as well."""
    visitor.go()
    visitor.page.get_by_label("Remember this device").check()
    visitor.page.get_by_label("Token", exact=True).fill(server.token())
    visitor.page.keyboard.press("Enter")
    expect(visitor.page.locator("#app")).to_be_visible()
    return visitor


def opened_by_the_middle_button(visitor: Visit, name: str) -> Page:
    with visitor.page.context.expect_page(timeout=LONGEST_MS) as opened:
        visitor.cell(name).click(button="middle")
    return opened.value


# Links


def test_a_tile_opens_in_a_new_tab_and_this_one_stays_where_it_is(
    remembered: Visit, folder: str
) -> None:
    remembered.go(fragment(folder))
    remembered.expect_names("a.jpg", "b ?&.jpg", "below", "c.jpg")
    href = remembered.cell("b ?&.jpg").evaluate("cell => cell.href")
    assert href == remembered.url + fragment(f"{folder}b ?&.jpg")

    image = opened_by_the_middle_button(remembered, "b ?&.jpg")
    expect(image.locator("#viewer-name")).to_have_text("b ?&.jpg")
    expect(image.locator("#viewer-place")).to_have_text("2 of 4")
    below = opened_by_the_middle_button(remembered, "below")
    expect(below.locator('.cell[title="d.jpg"]')).to_be_visible()

    expect(remembered.viewer).to_be_hidden()
    assert remembered.page.url == remembered.url + fragment(folder)
    expect(remembered.page.locator('.cell[aria-selected="true"]')).to_have_count(0)


def test_a_tile_of_a_search_leads_back_to_it(remembered: Visit, folder: str) -> None:
    remembered.go(fragment(folder))
    remembered.page.get_by_label("Sort").select_option("Newest first")
    expect(remembered.cells).to_have_count(4)
    address = urlsplit(remembered.cell("c.jpg").evaluate("cell => cell.href")).fragment
    assert parse_qs(address.partition("?")[2], keep_blank_values=True)["in"] == [folder]

    image = opened_by_the_middle_button(remembered, "c.jpg")
    expect(image.locator("#viewer-name")).to_have_text("c.jpg")
    image.keyboard.press("Escape")
    expect(image.locator(".cell")).to_have_count(4)


def test_clicks_and_keys_do_in_this_tab_what_they_did(remembered: Visit, folder: str) -> None:
    page = remembered.page
    remembered.go(fragment(folder))
    remembered.cell("a.jpg").click(modifiers=["Control"])
    remembered.cell("c.jpg").click(modifiers=["Shift"])
    expect(remembered.text("4 selected")).to_be_visible()
    page.keyboard.press("Escape")
    remembered.cell("a.jpg").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Space")
    expect(remembered.text("1 selected")).to_be_visible()
    page.keyboard.press("Escape")
    page.keyboard.press("Enter")
    remembered.expect_picture("b ?&.jpg")
    page.go_back()
    expect(remembered.cell("b ?&.jpg")).to_be_focused()
    remembered.cell("below").click()
    remembered.expect_names("d.jpg")
    remembered.expect_accessible()
    assert len(page.context.pages) == 1


# Pictures


@pytest.mark.parametrize("scale", [1, 2])
def test_a_thumbnail_is_cut_to_the_next_size_up_of_a_short_list(
    browser: Browser, server: Server, folder: str, scale: int
) -> None:
    with visit(browser, server, device_scale_factor=scale) as visitor:
        visitor.sign_in(server.token(), fragment(folder))
        tile = visitor.page.locator('.cell[title="a.jpg"].loaded')
        expect(tile).to_be_visible()
        edge = tile.evaluate("cell => cell.clientWidth")
        source = tile.locator("img").get_attribute("src") or ""
        asked = parse_qs(urlsplit(source).query)
        wanted = str(next(size for size in (64, 128, 256, 512, 1024) if size >= edge * scale))
        assert (asked["fit"], asked["width"], asked["height"]) == (["cover"], [wanted], [wanted])


def test_a_file_that_was_cut_off_says_so_on_its_tile(
    visitor: Visit, server: Server, client: httpx.Client, folder: str
) -> None:
    for name, form in (("x.jpg", "JPEG"), ("y.png", "PNG"), ("z.webp", "WEBP")):
        data = scenery(uuid4().int % 10**6, edge=500, form=form)
        save(client, f"{folder}{name}", data[: len(data) * 2 // 3])
    save(client, f"{folder}drawing.svg", b'<svg xmlns="http://www.w3.org/2000/svg"/>')
    visitor.sign_in(server.token(), fragment(folder))

    badges = visitor.page.locator(".badge.cut")
    expect(badges).to_have_count(3)
    for name in ("x.jpg", "y.png", "z.webp"):
        expect(visitor.cell(name).locator(".badge.cut")).to_have_text("Cut off")
    expect(visitor.cell("x.jpg")).to_have_attribute("aria-label", "x.jpg, cut off")
    visitor.picture("cut-off")
    visitor.expect_accessible()

    data = scenery(uuid4().int % 10**6, edge=300)
    file: FilePayload = {"name": "x.jpg", "mimeType": "image/jpeg", "buffer": data}
    visitor.page.locator("#files").set_input_files(file)
    visitor.page.get_by_role("button", name="Replace", exact=True).click()
    expect(badges).to_have_count(2)
    expect(visitor.cell("x.jpg").locator(".badge")).to_have_count(0)


# The library


def kept(visitor: Visit) -> list[str]:
    """The tiles that say that the library has them."""
    tiles = visitor.page.locator(".cell:has(.badge.keep)")
    return [str(name) for name in tiles.evaluate_all("all => all.map(one => one.title)")]


def test_what_was_added_to_the_library_is_marked_in_its_folder_and_keeps_its_name(
    visitor: Visit, server: Server, client: httpx.Client, folder: str
) -> None:
    visitor.sign_in(server.token(), fragment(folder))
    visitor.cell("b ?&.jpg").click(modifiers=["Control"])
    visitor.page.get_by_role("button", name="Add to library").click()
    visitor.page.locator(".question[open]").get_by_role("button", name="Add").click()
    expect(visitor.cell("b ?&.jpg").locator(".badge.keep")).to_be_visible()
    label = visitor.cell("b ?&.jpg").get_attribute("aria-label")
    assert label == "b ?&.jpg, in the library"
    visitor.picture("kept")

    visitor.page.get_by_role("link", name="Library").click()
    source = f"compute/{folder}b ?&.jpg"
    (resource,) = client.get(LIBRARY, params={"source_key": source}).json()
    client.patch(f"{LIBRARY}/{resource['id']}", json={"alt_text": "A hill"}).raise_for_status()
    visitor.page.reload()
    tile = visitor.page.get_by_label("b ?&.jpg, A hill", exact=True)
    expect(tile.locator(".caption")).to_have_text("b ?&.jpg")
    tile.click()
    with visitor.page.expect_download(timeout=LONGEST_MS) as download:
        visitor.viewer.get_by_role("button", name="Download").click()
    assert download.value.suggested_filename.endswith(".jpg")
    assert not download.value.suggested_filename.startswith(resource["id"])


def test_an_image_that_was_replaced_since_is_not_marked(
    visitor: Visit, server: Server, client: httpx.Client, folder: str
) -> None:
    items = [{"storage_key": f"compute/{folder}{name}"} for name in ("a.jpg", "c.jpg")]
    client.post(f"{LIBRARY}/ingest", json={"items": items}).raise_for_status()
    save(client, f"{folder}a.jpg", scenery(99, edge=300))
    visitor.sign_in(server.token(), fragment(folder))

    expect(visitor.cell("c.jpg").locator(".badge.keep")).to_be_visible()
    expect(visitor.cell("a.jpg").locator("img")).to_be_visible()
    assert kept(visitor) == ["c.jpg"]


def test_long_paths_are_asked_for_in_requests_that_are_short_enough(
    visitor: Visit, server: Server, client: httpx.Client, folder: str
) -> None:
    deep = folder + f"{'é' * 120}/" * 3
    paths = [f"{deep}{number}{'ü' * 100}.jpg" for number in range(3)]
    for number, path in enumerate(paths):
        save(client, path, scenery(uuid4().int % 10**6 + number, edge=300))
    items = [{"storage_key": f"compute/{path}", "relocate": False} for path in paths]
    client.post(f"{LIBRARY}/ingest", json={"items": items}).raise_for_status()
    visitor.sign_in(server.token(), fragment(deep))

    expect(visitor.page.locator(".badge.keep")).to_have_count(3)


def test_a_token_that_may_not_see_the_library_asks_nothing_of_it(
    visitor: Visit, server: Server, client: httpx.Client, folder: str
) -> None:
    item = {"storage_key": f"compute/{folder}a.jpg"}
    client.post(f"{LIBRARY}/ingest", json=item).raise_for_status()
    asked: list[str] = []
    visitor.page.on("request", lambda request: asked.append(request.url))
    visitor.sign_in(server.token("--prefix", folder), fragment(folder))

    expect(visitor.page.locator(".cell.loaded")).to_have_count(4)
    assert kept(visitor) == []
    assert [url for url in asked if LIBRARY in url] == []
