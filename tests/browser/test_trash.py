"""The trash in the gallery: Undo after a deletion, and the list of what was deleted."""

import re
from collections.abc import Iterator

import httpx
import pytest
from playwright.sync_api import Browser, expect

from browser.scenery import scenery
from browser.test_folders import answer, choose, press, publish
from browser.test_narrow import expect_fits
from browser.visiting import (
    Visit,
    fragment,
    on_small_screens,
    save,
    small_screen,
    visit,
    wait_for_index,
)
from running import IMAGES, Server, running
from waiting import until

pytestmark = pytest.mark.slow

STORAGE = IMAGES.removesuffix("/images")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("trash"), trash="7d") as started:
        yield started
    assert "Traceback" not in started.logged()


def stored(client: httpx.Client, folder: str) -> list[str]:
    paths: list[str] = client.get(IMAGES, params={"prefix": folder}).json()
    return [path.removeprefix(folder) for path in paths]


def test_a_deletion_is_undone_with_a_button_or_a_key(
    visitor: Visit, server: Server, client: httpx.Client, folder_of_ten: str
) -> None:
    visitor.sign_in(server.token(), fragment(folder_of_ten))
    names = [f"{number}.jpg" for number in range(10)]
    visitor.expect_names(*names)
    choose(visitor, "3.jpg", "4.jpg")
    press(visitor, "Delete")
    assert "They stay in the trash for 7 days." in answer(visitor, "Delete")
    visitor.expect_names(*names[:3], *names[5:])
    assert stored(client, folder_of_ten) == [*names[:3], *names[5:]]
    visitor.expect_accessible()

    visitor.page.get_by_role("button", name="Undo").click()
    visitor.expect_names(*names)
    expect(visitor.text("2 items restored.")).to_be_visible()
    assert stored(client, folder_of_ten) == names
    visitor.go("#/")
    expect(visitor.cell(folder_of_ten.rstrip("/"))).to_be_visible()
    assert visitor.page.locator(".toast").count() == 0
    visitor.go(fragment(folder_of_ten))

    choose(visitor, "5.jpg")
    press(visitor, "Delete")
    answer(visitor, "Delete")
    visitor.expect_names(*names[:5], *names[6:])
    expect(visitor.page.get_by_role("button", name="Undo")).to_be_visible()
    visitor.page.keyboard.press("Control+z")
    visitor.expect_names(*names)


def test_a_deleted_run_comes_back_as_a_published_run(
    visitor: Visit, server: Server, client: httpx.Client, folder: str
) -> None:
    for number in range(3):
        save(client, f"{folder}run/{number}.jpg", scenery(number, edge=240))
    save(client, f"{folder}other.jpg", scenery(4, edge=240))
    wait_for_index(server, folder.rstrip("/"), 4)
    publish(client, f"{folder}run")
    visitor.sign_in(server.token(), fragment(folder))
    visitor.expect_names("other.jpg", "run")
    choose(visitor, "run")
    press(visitor, "Delete")
    answer(visitor, "Delete")
    visitor.page.get_by_role("button", name="Undo").click()
    expect(visitor.text("1 item restored.")).to_be_visible()

    visitor.expect_names("other.jpg", "run")
    [run] = client.get(f"{STORAGE}/runs", params={"prefix": folder, "state": "published"}).json()
    assert (run["folder"], run["count"]) == (f"{folder}run", 3)


def test_the_trash_lists_what_was_deleted_and_restores_or_deletes_it_for_good(
    visitor: Visit, server: Server, client: httpx.Client, folder_of_ten: str
) -> None:
    for name in ("1.jpg", "2.jpg", "3.jpg"):
        client.delete(f"{IMAGES}/{folder_of_ten}{name}").raise_for_status()
    token = server.token("--prefix", folder_of_ten)
    visitor.sign_in(token, fragment(folder_of_ten))
    visitor.page.get_by_role("button", name="Trash").click()
    dialog = visitor.page.get_by_role("dialog", name="Trash")
    expect(dialog.get_by_role("status")).to_have_text("3 deleted, 0 selected.")
    expect(dialog.get_by_role("listitem").first).to_contain_text(f"{folder_of_ten}3.jpg")
    expect(dialog.get_by_role("listitem").first).to_contain_text(re.compile(r"\d kB · 7 days left"))
    visitor.picture("trash")
    visitor.expect_accessible()

    dialog.get_by_label(f"{folder_of_ten}1.jpg").check()
    dialog.get_by_role("button", name="Delete for good").click()
    answer(visitor, "Delete for good")
    expect(dialog.get_by_role("status")).to_have_text("2 deleted, 0 selected.")
    dialog.get_by_label("Select all").check()
    dialog.get_by_role("button", name="Restore").click()
    expect(dialog.get_by_role("status")).to_contain_text("The trash is empty.")
    dialog.get_by_role("button", name="Close").click()
    visitor.expect_names("0.jpg", *(f"{number}.jpg" for number in range(2, 10)))


def test_a_trash_that_cannot_be_loaded_is_not_called_empty_and_is_asked_again(
    visitor: Visit, server: Server, client: httpx.Client, folder_of_ten: str
) -> None:
    client.delete(f"{IMAGES}/{folder_of_ten}1.jpg").raise_for_status()
    visitor.sign_in(server.token("--prefix", folder_of_ten))
    visitor.page.route("**/storage/trash?*", lambda route: route.abort(), times=1)
    visitor.page.get_by_role("button", name="Trash").click()
    dialog = visitor.page.get_by_role("dialog", name="Trash")
    expect(dialog.get_by_role("status")).to_have_text("The trash could not be loaded.")
    dialog.get_by_role("button", name="Show more").click()
    expect(dialog.get_by_role("status")).to_have_text("1 deleted, 0 selected.")
    expect(dialog.get_by_role("button", name="Show more")).to_be_hidden()


def test_an_image_whose_name_is_taken_is_restored_under_another_one(
    visitor: Visit, server: Server, client: httpx.Client, folder_of_ten: str
) -> None:
    client.delete(f"{IMAGES}/{folder_of_ten}1.jpg").raise_for_status()
    save(client, f"{folder_of_ten}1.jpg", scenery(77, edge=240))
    visitor.sign_in(server.token("--prefix", folder_of_ten), fragment(folder_of_ten))
    visitor.page.get_by_role("button", name="Trash").click()
    dialog = visitor.page.get_by_role("dialog", name="Trash")
    dialog.get_by_label(f"{folder_of_ten}1.jpg").check()
    dialog.get_by_role("button", name="Restore").click()
    answer(visitor, "Restore", f"{folder_of_ten}1b.jpg")
    until(lambda: "1b.jpg" in stored(client, folder_of_ten))
    expect(dialog.get_by_role("status")).to_contain_text("The trash is empty.")


# The number of rows in which elements lie.
_ROWS = """all => {
  const boxes = all.map((one) => one.getBoundingClientRect()).sort((a, b) => a.top - b.top);
  let [rows, end] = [0, -1];
  for (const { top, bottom } of boxes) {
    if (top >= end) rows += 1;
    end = Math.max(end, bottom);
  }
  return rows;
}"""


@on_small_screens
def test_the_trash_shows_long_paths_in_full(
    browser: Browser, server: Server, client: httpx.Client, folder: str, width: int, scheme: str
) -> None:
    paths = [f"{folder}{'x' * 20}/{'long-name-' * 12}{number}.jpg" for number in range(2)]
    for path in paths:
        save(client, path, scenery(1, edge=240))
        assert client.delete(f"{IMAGES}/{path}").status_code == 200
    with visit(browser, server, **small_screen(width, scheme)) as visitor:
        visitor.sign_in(server.token())
        visitor.page.locator("#trash").click()
        for path in paths:
            row = visitor.page.locator(f'.trash label[title="{path}"]')
            expect(row).to_be_visible()
            assert row.locator(".trashed").evaluate(
                "one => one.scrollWidth <= one.clientWidth && one.scrollHeight <= one.clientHeight"
            )
        expect_fits(visitor, width)


@on_small_screens
def test_the_header_has_at_most_two_rows_with_the_button_of_the_trash(
    browser: Browser, server: Server, folder_of_ten: str, width: int, scheme: str
) -> None:
    with visit(browser, server, **small_screen(width, scheme)) as visitor:
        visitor.sign_in(server.token(), fragment(folder_of_ten))
        expect(visitor.page.locator(".cell.loaded")).to_have_count(10)
        for name in ("Upload", "Trash", "Sign out", "Help"):
            button = visitor.page.get_by_role("button", name=name)
            expect(button).to_be_in_viewport(ratio=1)
        for part in (".bar-row", ".heading"):
            shown = visitor.page.locator(f"{part} > :visible")
            assert shown.evaluate_all(_ROWS) <= 2, part
        expect_fits(visitor, width)
        visitor.expect_accessible()


def test_without_a_trash_there_is_no_button_for_it(
    browser: Browser, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with running(tmp_path_factory.mktemp("no trash")) as server, visit(browser, server) as visitor:
        visitor.sign_in(server.token())
        expect(visitor.page.get_by_role("button", name="Trash")).to_be_hidden()
