"""An open folder follows what is saved, deleted and moved elsewhere."""

import httpx
import pytest
from playwright.sync_api import Route, expect

from browser.scenery import scenery
from browser.visiting import Visit, fragment, save
from running import IMAGES, Server
from waiting import until

pytestmark = pytest.mark.slow

SEARCH = f"{IMAGES.removesuffix('images')}search"
EVENTS = f"{IMAGES.removesuffix('images')}events"
COPY = f"{IMAGES.removesuffix('images')}copy"


def indexed(client: httpx.Client, path: str) -> bool:
    found = client.get(SEARCH, params={"prefix": path}).json()["items"]
    return [item["path"] for item in found] == [path]


def test_what_is_saved_just_after_a_folder_was_listed_appears(
    visitor: Visit, server: Server, client: httpx.Client, folder_of_ten: str
) -> None:
    folder = folder_of_ten
    until(lambda: indexed(client, f"{folder}9.jpg"))

    def list_then_save(route: Route) -> None:
        listed = route.fetch()
        for name in ("late.jpg", "sub/late.jpg"):
            save(client, f"{folder}{name}", scenery(77, edge=240))
            until(lambda: indexed(client, f"{folder}{name}"))  # noqa: B023  (at once)
        route.fulfill(response=listed)

    visitor.page.route("**/storage/images?*limit=200*", list_then_save, times=1)
    visitor.sign_in(server.token(), fragment(folder))

    expect(visitor.cell("late.jpg")).to_be_visible()
    expect(visitor.cell("sub")).to_be_visible()
    for count in ("#told", "#live"):  # for eyes and for screen readers
        expect(visitor.page.locator(count)).to_have_text("12 entries")


def test_what_is_deleted_or_moved_elsewhere_disappears_and_the_focus_stays(
    visitor: Visit, server: Server, client: httpx.Client, folder_of_ten: str
) -> None:
    folder = folder_of_ten
    save(client, f"{folder}sub/a.jpg", scenery(1, edge=240))
    visitor.sign_in(server.token(), fragment(folder))
    expect(visitor.cells).to_have_count(11)
    visitor.cell("5.jpg").click(modifiers=["Control"])
    visitor.cell("6.jpg").click(modifiers=["Control"])
    expect(visitor.text("2 selected")).to_be_visible()

    moved = {"source": f"{folder}1.jpg", "target": f"{folder}moved.jpg"}
    client.post(COPY, json=moved).raise_for_status()
    for name in ("0.jpg", "1.jpg", "5.jpg", "9.jpg", "sub/a.jpg"):
        client.delete(f"{IMAGES}/{folder}{name}").raise_for_status()

    visitor.expect_names(*(f"{number}.jpg" for number in (2, 3, 4, 6, 7, 8)), "moved.jpg")
    expect(visitor.text("1 selected")).to_be_visible()
    expect(visitor.cell("6.jpg")).to_be_focused()
    expect(visitor.page.locator("#told")).to_have_text("7 entries")


def test_a_dialog_returns_the_focus_to_a_cell_that_was_drawn_anew_behind_it(
    visitor: Visit, server: Server, client: httpx.Client, folder_of_ten: str
) -> None:
    visitor.sign_in(server.token(), fragment(folder_of_ten))
    visitor.cell("5.jpg").click(modifiers=["Control"])
    visitor.page.keyboard.press("Delete")
    expect(visitor.page.get_by_role("heading", name="Delete 1 image?")).to_be_visible()

    save(client, f"{folder_of_ten}late.jpg", scenery(77, edge=240))
    expect(visitor.cell("late.jpg")).to_have_count(1)
    visitor.page.get_by_role("button", name="Cancel").click()

    expect(visitor.cell("5.jpg")).to_be_focused()
    visitor.page.keyboard.press("Delete")
    expect(visitor.page.get_by_role("heading", name="Delete 1 image?")).to_be_visible()


def test_what_is_deleted_elsewhere_disappears_from_the_middle_of_a_long_folder(
    visitor: Visit, server: Server, client: httpx.Client, folder: str
) -> None:
    for number in range(400):
        save(client, f"{folder}{number:03}.txt", b"x")
    until(lambda: indexed(client, f"{folder}399.txt"))
    visitor.sign_in(server.token(), fragment(folder))
    expect(visitor.page.locator("#told")).to_have_text("200+ entries")
    visitor.page.keyboard.press("Tab")
    visitor.page.keyboard.press("Enter")
    for _ in range(4):
        visitor.page.keyboard.press("PageDown")
    name = str(visitor.page.evaluate("document.activeElement.title"))
    assert name > "040.txt"
    client.delete(f"{IMAGES}/{folder}{name}").raise_for_status()

    expect(visitor.cell(name)).to_have_count(0)
    following = f"{int(name[:3]) + 1:03}.txt"
    expect(visitor.cell(following)).to_be_focused()


def test_a_click_during_which_the_folder_changes_opens_the_pressed_picture(
    visitor: Visit, server: Server, client: httpx.Client, folder_of_ten: str
) -> None:
    visitor.sign_in(server.token(), fragment(folder_of_ten))
    visitor.cell("3.jpg").hover()
    visitor.page.mouse.down()
    with visitor.page.expect_response(
        lambda answer: SEARCH in answer.url and "00.jpg" in answer.text()
    ):
        save(client, f"{folder_of_ten}00.jpg", scenery(78, edge=240))
        save(client, f"{folder_of_ten}3.jpg", scenery(79, edge=240))
    for _ in range(2):  # looks later, so that the grid would have followed
        with visitor.page.expect_response(f"**{EVENTS}?*"):
            pass
    visitor.page.mouse.up()

    visitor.expect_picture("3.jpg")
    visitor.page.keyboard.press("Escape")
    expect(visitor.cell("00.jpg")).to_be_visible()
    expect(visitor.cell("3.jpg")).to_be_focused()


def test_an_arrival_before_the_picture_that_is_looked_at_moves_its_neighbours(
    visitor: Visit, server: Server, client: httpx.Client, folder_of_ten: str
) -> None:
    visitor.sign_in(server.token(), fragment(folder_of_ten))
    visitor.cell("3.jpg").click()
    visitor.expect_picture("3.jpg")
    save(client, f"{folder_of_ten}00.jpg", scenery(78, edge=240))
    expect(visitor.page.locator("#told")).to_have_text("11 entries")

    visitor.page.keyboard.press("ArrowRight")
    visitor.expect_picture("4.jpg")
