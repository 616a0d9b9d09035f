"""The gallery for all eyes and hands: by axe, by keyboard and focus, on a phone, light and dark."""

from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, expect

from browser.visiting import Visit, confirm, fragment, save, stored, visit
from pictures import picture
from running import Server

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [(1280, 800), (390, 844)], ids=["desk", "phone"])
def test_every_place_is_accessible(
    browser: Browser, server: Server, folder_of_ten: str, scheme: str, size: tuple[int, int]
) -> None:
    phone: dict[str, Any] = {"has_touch": True, "is_mobile": True} if size[0] < 400 else {}
    room: dict[str, Any] = {
        "viewport": {"width": size[0], "height": size[1]},
        "color_scheme": scheme,
        **phone,
    }
    with visit(browser, server, **room) as visitor:
        name = f"{scheme}-{size[0]}"
        visitor.go()
        visitor.expect_accessible()
        visitor.sign_in(server.token(), fragment(folder_of_ten))
        expect(visitor.page.locator(".cell.loaded")).to_have_count(10)
        visitor.picture(f"folder-{name}")
        visitor.expect_accessible()
        visitor.cell("3.jpg").click()
        visitor.expect_picture("3.jpg")
        visitor.page.locator("#show-facts").click()
        expect(visitor.page.locator("#facts")).to_contain_text("SHA-256")
        visitor.picture(f"viewer-{name}")
        visitor.expect_accessible()
        visitor.page.keyboard.press("?")
        visitor.expect_accessible()
        visitor.page.keyboard.press("Escape")
        visitor.page.keyboard.press("Escape")
        expect(visitor.viewer).to_be_hidden()
        visitor.go(fragment(f"{folder_of_ten}nothing/"))
        expect(visitor.text("Nothing here yet")).to_be_visible()
        visitor.expect_accessible()
        wide = "document.documentElement.scrollWidth > document.documentElement.clientWidth"
        assert not visitor.page.evaluate(wide), "nothing hangs over the edge"


def test_a_keyboard_alone_signs_in_looks_chooses_and_deletes(
    visitor: Visit, server: Server, client: httpx.Client, folder_of_ten: str
) -> None:
    press = visitor.page.keyboard.press
    visitor.go(fragment(folder_of_ten))
    expect(visitor.page.get_by_label("Token", exact=True)).to_be_focused()
    visitor.page.keyboard.insert_text(server.token())
    press("Enter")
    expect(visitor.cells).to_have_count(10)
    press("Tab")
    expect(visitor.page.get_by_role("button", name="Skip to images")).to_be_focused()
    press("Enter")
    expect(visitor.cell("0.jpg")).to_be_focused()
    press("ArrowRight")
    press("ArrowRight")
    press("Enter")
    visitor.expect_picture("2.jpg")
    press("End")
    visitor.expect_picture("9.jpg")
    press("?")
    expect(visitor.page.get_by_role("heading", name="Help", exact=True)).to_be_visible()
    press("Escape")
    expect(visitor.viewer).to_be_visible()
    press("Escape")
    expect(visitor.cell("9.jpg")).to_be_focused()
    press("Home")
    press("Space")
    press("Shift+ArrowRight")
    press("Delete")
    expect(visitor.page.get_by_role("button", name="Cancel")).to_be_focused()
    press("Tab")
    press("Enter")
    expect(visitor.cells).to_have_count(8)
    expect(visitor.cell("2.jpg")).to_be_focused()
    assert len(stored(client, folder_of_ten)) == 8

    press("Enter")
    visitor.expect_picture("2.jpg")
    press("Delete")
    expect(visitor.page.get_by_role("button", name="Cancel")).to_be_focused()
    press("Tab")
    press("Enter")
    visitor.expect_picture("3.jpg")
    assert "2.jpg" not in stored(client, folder_of_ten)


def test_the_keys_go_on_after_a_deletion_by_the_viewers_button(
    visitor: Visit, server: Server, folder_of_ten: str
) -> None:
    visitor.sign_in(server.token(), fragment(folder_of_ten))
    visitor.cell("2.jpg").click()
    visitor.expect_picture("2.jpg")
    visitor.viewer.get_by_role("button", name="Delete").click()
    confirm(visitor, "Delete 1 image?", "This can't be undone.")
    visitor.expect_picture("3.jpg")
    visitor.page.keyboard.press("ArrowRight")
    visitor.expect_picture("4.jpg")

    visitor.page.keyboard.press("End")
    visitor.page.keyboard.press("ArrowLeft")
    visitor.expect_picture("8.jpg")
    visitor.viewer.get_by_role("button", name="Next image").click()
    visitor.expect_picture("9.jpg")
    visitor.page.keyboard.press("ArrowLeft")
    visitor.expect_picture("8.jpg")

    visitor.page.keyboard.press("Escape")
    expect(visitor.cell("8.jpg")).to_be_focused()


def test_after_the_last_picture_was_deleted_the_focus_is_on_what_says_so(
    visitor: Visit, server: Server, client: httpx.Client, folder: str
) -> None:
    token = server.token()
    for way in ("viewer", "grid"):
        save(client, f"{folder}{way}/a.png", picture(1))
        visitor.go(fragment(f"{folder}{way}/"))
        if way == "viewer":
            visitor.sign_in(token, fragment(f"{folder}{way}/"))
            visitor.cell("a.png").click()
            visitor.expect_picture("a.png")
            visitor.viewer.get_by_role("button", name="Delete").click()
        else:
            visitor.cell("a.png").click(modifiers=["Control"])
            visitor.page.get_by_label("Selected images").get_by_role(
                "button", name="Delete"
            ).click()
        confirm(visitor)
        expect(visitor.text("Nothing here yet")).to_be_visible()
        expect(visitor.page.locator("#content")).to_be_focused()


def test_a_phone_chooses_by_a_long_touch_and_turns_pictures_by_a_swipe(
    browser: Browser, server: Server, folder_of_ten: str
) -> None:
    room: dict[str, Any] = {
        "viewport": {"width": 390, "height": 844},
        "has_touch": True,
        "is_mobile": True,
    }
    with visit(browser, server, **room) as visitor:
        visitor.sign_in(server.token(), fragment(folder_of_ten))
        visitor.cell("0.jpg").tap()
        visitor.expect_picture("0.jpg")
        touch = visitor.page.context.new_cdp_session(visitor.page)

        def touched(kind: str, *points: tuple[int, int]) -> None:
            touch.send(
                "Input.dispatchTouchEvent",
                {
                    "type": kind,
                    "touchPoints": [{"x": x, "y": y, "id": n} for n, (x, y) in enumerate(points)],
                },
            )

        touched("touchStart", (300, 400))
        touched("touchMove", (200, 400))
        touched("touchMove", (80, 400))
        touched("touchEnd")
        visitor.expect_picture("1.jpg")
        touched("touchStart", (150, 400), (240, 400))
        touched("touchMove", (100, 400), (290, 400))
        touched("touchMove", (50, 400), (340, 400))
        touched("touchEnd")
        expect(visitor.page.locator("#stage.close")).to_have_count(1)  # two fingers look closer
        visitor.page.go_back()
        expect(visitor.viewer).to_be_hidden()

        box = visitor.cell("4.jpg").bounding_box()
        touched("touchStart", (int(box["x"]) + 20, int(box["y"]) + 20))
        expect(visitor.text("1 selected")).to_be_visible()
        touched("touchEnd")
        visitor.cell("5.jpg").tap()
        expect(visitor.text("2 selected")).to_be_visible()


def test_the_help_opens_at_its_top_on_a_small_screen(
    browser: Browser, server: Server, folder_of_ten: str
) -> None:
    with visit(browser, server, viewport={"width": 390, "height": 600}) as visitor:
        visitor.sign_in(server.token(), fragment(f"{folder_of_ten}3.jpg"))
        visitor.expect_picture("3.jpg")
        heading = visitor.page.get_by_role("heading", name="Help", exact=True)
        for _ in ("viewer", "grid"):
            visitor.page.keyboard.press("?")
            expect(heading).to_be_in_viewport(ratio=1)
            expect(visitor.page.locator("#help-close")).not_to_be_in_viewport()
            visitor.expect_accessible()
            visitor.page.keyboard.press("Escape")
            expect(heading).to_be_hidden()
            visitor.page.keyboard.press("Escape")  # the viewer
            expect(visitor.viewer).to_be_hidden()


def test_a_theme_that_was_chosen_stays(visitor: Visit, server: Server) -> None:
    visitor.sign_in(server.token())
    ground = "getComputedStyle(document.body).backgroundColor"
    light = visitor.page.evaluate(ground)
    visitor.page.get_by_role("button", name="Theme").click()
    dark = visitor.page.evaluate(ground)
    assert dark != light
    visitor.page.reload()
    assert visitor.page.evaluate(ground) == dark
