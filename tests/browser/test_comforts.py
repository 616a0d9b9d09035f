"""Small things that a visitor to the gallery expects."""

import re

import httpx
import pytest
from playwright.sync_api import expect

from browser.scenery import scenery
from browser.visiting import Visit, fragment, save, stored
from running import Server

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    "around", ["Bearer {}", "Authorization: Bearer {}\n", ' "{}" ', "'Bearer {}'"]
)
def test_a_token_is_accepted_with_what_is_often_copied_with_it(
    visitor: Visit, server: Server, around: str
) -> None:
    visitor.sign_in(around.format(server.token()))
    expect(visitor.page.locator("#sign-in")).to_be_hidden()


def test_keys_work_in_a_folder_that_was_opened_and_after_a_button(
    visitor: Visit, server: Server, client: httpx.Client, folder: str
) -> None:
    for number in range(3):
        save(client, f"{folder}in/{number}.jpg", scenery(number, edge=240))
    visitor.sign_in(server.token(), fragment(folder))
    visitor.cell("in").click()
    expect(visitor.cell("0.jpg")).to_be_focused()
    visitor.page.keyboard.press("ArrowRight")
    visitor.page.keyboard.press("Enter")
    visitor.expect_picture("1.jpg")
    visitor.page.keyboard.press("Escape")

    visitor.page.get_by_role("button", name="Thumbnail size").click()
    visitor.page.keyboard.press("Control+a")
    expect(visitor.text("3 selected")).to_be_visible()
    visitor.page.locator("#search").focus()
    visitor.page.keyboard.press("Control+a")  # there it is the field's own
    visitor.page.get_by_role("link", name=folder.rstrip("/")).click()
    expect(visitor.cell("in")).to_be_focused()


def test_an_arrow_moves_into_the_grid_after_the_page_was_loaded(
    visitor: Visit, server: Server, folder_of_ten: str
) -> None:
    press = visitor.page.keyboard.press
    visitor.sign_in(server.token(), fragment(folder_of_ten))
    visitor.page.reload()
    expect(visitor.cells).to_have_count(10)
    expect(visitor.page.locator("body")).to_be_focused()
    press("ArrowDown")
    expect(visitor.cell("0.jpg")).to_be_focused()
    press("ArrowRight")
    press("Enter")
    visitor.expect_picture("1.jpg")

    visitor.go(fragment(folder_of_ten))
    visitor.page.locator("#search").focus()
    press("ArrowLeft")  # there it is the field's own
    expect(visitor.page.locator("#search")).to_be_focused()


def test_tiles_have_their_names_below_them_if_that_was_chosen(
    visitor: Visit, server: Server, folder_of_ten: str
) -> None:
    visitor.sign_in(server.token(), fragment(folder_of_ten))
    caption = visitor.cell("3.jpg").locator(".caption")
    expect(caption).to_have_css("opacity", "0")
    for _ in range(2):
        visitor.page.get_by_role("button", name="Thumbnail size").click()
    expect(caption).to_have_css("opacity", "1")
    expect(visitor.page.locator(".cell.loaded")).to_have_count(10)
    frame, name = (
        visitor.cell("3.jpg").locator(one).bounding_box() for one in (".frame", ".caption")
    )
    assert name["y"] >= frame["y"] + frame["height"]
    visitor.expect_accessible()
    visitor.page.reload()
    expect(caption).to_have_css("opacity", "1")


def test_a_link_to_what_never_was_does_not_say_that_it_was_deleted(
    visitor: Visit, server: Server, folder_of_ten: str
) -> None:
    visitor.sign_in(server.token(), fragment(f"{folder_of_ten}never.jpg"))
    expect(visitor.page.get_by_role("heading", name="Not found")).to_be_visible()
    expect(visitor.viewer).to_contain_text("There is no image here.")
    expect(visitor.viewer).not_to_contain_text(re.compile("has been deleted"))


def test_a_target_to_move_to_is_chosen_in_a_tree_of_folders(
    visitor: Visit, server: Server, client: httpx.Client, folder: str
) -> None:
    for path in ("a.jpg", "in/b.jpg", "other/deep/c.jpg"):
        save(client, f"{folder}{path}", scenery(1, edge=240))
    visitor.sign_in(server.token(), fragment(folder))
    visitor.cell("a.jpg").click(modifiers=["Control"])
    visitor.page.get_by_label("Selected images").get_by_role("button", name="Move").click()
    tree = visitor.page.locator(".tree")
    expect(tree.locator("summary", has_text="in")).to_be_visible()  # open to where one is
    tree.locator("summary", has_text="other").click()
    expect(visitor.page.get_by_label("To the folder")).to_have_value(f"{folder}other/")
    visitor.expect_accessible()
    visitor.picture("move-tree")
    tree.locator("summary", has_text="deep").click()
    visitor.page.get_by_role("button", name="Move", exact=True).last.click()

    expect(visitor.text("1 image moved.")).to_be_visible()
    assert stored(client, folder) == ["in/b.jpg", "other/deep/a.jpg", "other/deep/c.jpg"]
