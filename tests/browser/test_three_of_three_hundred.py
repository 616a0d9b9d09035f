"""The whole way by keyboard: 300 pictures become three, which are compared, traced and shared."""

import sys
import time
import zipfile
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import httpx
import pytest
from playwright.sync_api import Browser, expect

from browser.scenery import scenery
from browser.visiting import Visit, fragment, save, stored, visit, wait_for_index
from running import Server, running
from stillroom.generation.writing.embed import with_generation
from waiting import until

pytestmark = pytest.mark.slow

AMOUNT = 300
KEPT = ("017.jpg", "142.jpg", "260.jpg")
REJECTED = ("000.jpg", "001.jpg", "199.jpg", "299.jpg")
MOST_TABS = 80


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("three"), trash="7d") as started:
        yield started
    assert "Traceback" not in started.logged()


@pytest.fixture
def pictures(server: Server, client: httpx.Client, folder: str) -> dict[str, bytes]:
    """The pictures of a folder by their names. All were made from `base.jpg` in another folder."""
    first = uuid4().int % 10**6  # identical pictures are kept once
    save(client, f"bases/{folder}base.jpg", scenery(first, edge=360))
    made = {}
    for number in range(AMOUNT):
        facts = {
            "prompt": f"a fox in the {'snow' if number % 2 else 'rain'}",
            "seed": number,
            "derived_from": [f"bases/{folder}base.jpg"],
        }
        data = with_generation(scenery(first + 1 + number, edge=240), facts)
        made[f"{number:03}.jpg"] = data
        save(client, f"{folder}{number:03}.jpg", data)
    wait_for_index(server, f"bases/{folder}".rstrip("/"), 1)
    counted = {"derived_from": f"bases/{folder}base.jpg", "limit": "1000"}
    search = "/api/v1/storage/search"
    until(lambda: len(client.get(search, params=counted).json()["items"]) == AMOUNT)
    return made


def tab_to(visitor: Visit, target: Any, key: str = "Tab") -> None:
    """Press a key until an element has the focus, as somebody without a mouse does."""
    expect(target).to_be_visible()
    for _ in range(MOST_TABS):
        if target.evaluate("one => one === document.activeElement"):
            return
        visitor.page.keyboard.press(key)
    pytest.fail(f"{target} has no focus after {MOST_TABS} times {key}")


def choose_three(visitor: Visit) -> None:
    """Look at each picture, reject some, also the last of a page, and keep three."""
    press = visitor.page.keyboard.press
    press("Tab")
    press("Enter")  # to the pictures
    expect(visitor.cell("000.jpg")).to_be_focused()
    press("Enter")
    for number in range(AMOUNT):
        name = f"{number:03}.jpg"
        expect(visitor.page.locator("#viewer-name")).to_have_text(name)
        if name in REJECTED:
            press("x")
            continue
        if name in KEPT:
            press("k")
            keep = visitor.viewer.get_by_role("button", name="Keep", exact=True)
            expect(keep).to_have_attribute("aria-pressed", "true")
        press("ArrowRight")
    expect(visitor.page.locator("#viewer-name")).to_have_text("298.jpg")
    press("Escape")
    expect(visitor.viewer).to_be_hidden()


def delete_the_rest(visitor: Visit) -> None:
    press = visitor.page.keyboard.press
    menu = visitor.page.get_by_label("Show", exact=True)
    tab_to(visitor, menu, "Shift+Tab")
    press("n")  # Not kept
    delete = visitor.page.get_by_role("button", name="Delete what is not kept")
    tab_to(visitor, delete)
    press("Enter")
    amount = AMOUNT - len(KEPT) - len(REJECTED)
    question = visitor.page.get_by_role(
        "heading", name=f"Delete {amount} images that are not kept?"
    )
    expect(question).to_be_visible()
    press("Tab")
    press("Enter")
    visitor.expect_names()
    expect(visitor.text(f"{amount} images deleted.")).to_be_visible()
    tab_to(visitor, menu, "Shift+Tab")
    press("a")  # All images
    visitor.expect_names(*KEPT)


def compare_two(visitor: Visit) -> None:
    press = visitor.page.keyboard.press
    tab_to(visitor, visitor.cell(KEPT[0]))
    press("Space")
    press("Shift+ArrowRight")
    expect(visitor.text("2 selected")).to_be_visible()
    press("c")
    comparison = visitor.page.get_by_role("dialog", name="Compare 2 images")
    expect(comparison.locator("ins", has_text="rain")).to_be_visible()
    expect(comparison.locator(".picture.ready")).to_have_count(2)
    press("+")
    visitor.expect_accessible()
    visitor.picture("three-compared")
    press("Escape")
    expect(comparison).to_have_count(0)
    press("Escape")
    expect(visitor.page.get_by_label("Selected images")).to_be_hidden()


def follow_to_base(visitor: Visit, base: str) -> None:
    press = visitor.page.keyboard.press
    press("Home")
    press("Enter")
    visitor.expect_picture(KEPT[0])
    press("i")
    tab_to(visitor, visitor.page.locator("#facts").get_by_role("link", name=base))
    press("Enter")
    visitor.expect_picture("base.jpg")
    expect(visitor.page.locator("#facts dt", has_text="Made into (3)")).to_be_visible()
    expect(visitor.page.locator("#facts .strip .loaded")).to_have_count(3)
    visitor.picture("three-base")
    press("Escape")
    visitor.expect_picture(KEPT[0])
    press("Escape")
    expect(visitor.viewer).to_be_hidden()


def share_all(visitor: Visit) -> str:
    press = visitor.page.keyboard.press
    press("Control+a")
    expect(visitor.text("3 selected")).to_be_visible()
    bar = visitor.page.get_by_label("Selected images")
    tab_to(visitor, bar.get_by_role("button", name="Share"))
    press("Enter")
    dialog = visitor.page.locator(".question[open]")
    expect(dialog.get_by_label("1 day")).to_be_focused()
    tab_to(visitor, dialog.get_by_role("button", name="Make link"))
    press("Enter")
    expect(dialog.get_by_role("button", name="Copy")).to_be_focused()
    press("Enter")
    expect(visitor.text("Link copied.")).to_be_visible()
    return str(visitor.page.evaluate("navigator.clipboard.readText()"))


def test_three_of_three_hundred_are_chosen_compared_traced_and_shared_by_keys(
    browser: Browser,
    server: Server,
    client: httpx.Client,
    folder: str,
    pictures: dict[str, bytes],
) -> None:
    permissions = ["clipboard-read", "clipboard-write"]
    with visit(browser, server, permissions=permissions) as visitor:
        visitor.sign_in(server.token(), fragment(folder))
        expect(visitor.page.locator(".cell.loaded").first).to_be_visible()
        began = time.monotonic()
        choose_three(visitor)
        chosen = time.monotonic()
        delete_the_rest(visitor)
        deleted = time.monotonic()
        assert stored(client, folder) == list(KEPT)
        compare_two(visitor)
        follow_to_base(visitor, f"bases/{folder}base.jpg")
        link = share_all(visitor)
        ended = time.monotonic()
    steps = {"choose": chosen - began, "delete": deleted - chosen, "the rest": ended - deleted}
    told = ", ".join(f"{step} {seconds:.0f}" for step, seconds in steps.items())
    sys.stdout.write(f"\nseconds: {told}; together {ended - began:.0f}\n")  # for pytest -s

    with browser.new_context(accept_downloads=True) as elsewhere:
        page = elsewhere.new_page()
        with page.expect_download() as download:
            page.evaluate("link => { location.href = link; }", link)
        with zipfile.ZipFile(download.value.path()) as archive:
            found = {name: archive.read(name) for name in archive.namelist()}
    assert found == {f"{folder}{name}": pictures[name] for name in KEPT}
