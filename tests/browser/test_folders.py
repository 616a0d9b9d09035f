"""Folders and runs in the gallery: what their tiles show; they are renamed, moved and deleted."""

import re
import time
from collections import Counter
from typing import TYPE_CHECKING, Any
from urllib.parse import quote
from uuid import uuid4

import httpx
import pytest
from playwright.sync_api import Route, expect

from browser.scenery import scenery
from browser.visiting import Visit, fragment, stored
from running import IMAGES, Server
from videos import Mp4, frames
from waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.slow

STORAGE = IMAGES.removesuffix("/images")


@pytest.fixture
def top() -> str:
    """A new folder, with its slash."""
    return f"{uuid4().hex[:8]}/"


def save(client: httpx.Client, *paths: str) -> None:
    for number, path in enumerate(paths):
        data = scenery(number, edge=240)
        client.post(f"{IMAGES}/{quote(path)}", files={"file": data}).raise_for_status()
    for folder, some in Counter(path.rpartition("/")[0] for path in paths).items():
        until(lambda: len(found(client, f"{folder}/")) >= min(some, 100))  # noqa: B023  (at once)


def found(client: httpx.Client, prefix: str) -> list[str]:
    answer = client.get(f"{STORAGE}/search", params={"prefix": prefix})
    return [item["path"] for item in answer.json()["items"]]


def publish(client: httpx.Client, folder: str) -> None:
    client.post(f"{STORAGE}/runs/{folder}/publish", json={}).raise_for_status()


def choose(visitor: Visit, *names: str) -> None:
    for name in names:
        visitor.cell(name).hover()
        visitor.cell(name).locator(".mark").click()


def press(visitor: Visit, name: str) -> None:
    visitor.page.get_by_label("Selected images").get_by_role("button", name=name).click()


def answer(visitor: Visit, button: str, text: str | None = None) -> Any:
    """Answer the question that is asked; returns what it said."""
    # Before it there may be one that counts, whose only button is Stop.
    chosen = visitor.page.get_by_role("button", name=button, exact=True)
    question = visitor.page.locator(".question[open]").filter(has=chosen)
    said = question.inner_text()
    if text is not None:
        question.get_by_role("combobox").or_(question.get_by_role("textbox")).fill(text)
    question.locator(chosen).click()
    return said


# Tiles


def test_a_folder_shows_its_newest_picture_and_how_many_there_are(
    visitor: Visit, server: Server, client: httpx.Client, top: str
) -> None:
    save(client, f"{top}few/a.jpg", f"{top}few/deep/b.jpg", f"{top}top.jpg")
    save(client, *(f"{top}many/{number:03}.jpg" for number in range(101)))
    save(client, f"{top}words/notes.jpg")
    for name in "ab":
        text = {"file": b"# Notes\n" + name.encode()}
        client.post(f"{IMAGES}/{top}texts/{name}.md", files=text).raise_for_status()
    until(lambda: len(found(client, f"{top}texts/")) == 2)
    (server.data / "compute" / top / "words" / "notes.jpg").write_bytes(b"words")
    visitor.sign_in(server.token(), fragment(top))

    visitor.expect_names("few", "many", "texts", "top.jpg", "words")
    for name, amount in (
        ("few", "2 images"),
        ("many", "100+ images"),
        ("texts", "2 files"),
        ("words", "1 image"),
    ):
        expect(visitor.cell(name).locator(".amount")).to_have_text(amount)
        expect(visitor.cell(name)).to_have_attribute("aria-label", f"{name}, folder, {amount}")
    expect(visitor.page.locator(".folder.loaded")).to_have_count(2)
    cover = visitor.cell("few").locator("img")
    assert f"{top}few/deep/b.jpg" in str(cover.get_attribute("src"))
    visitor.picture("folders")
    visitor.expect_accessible()

    # In the folder below which something is saved, that is seen without loading the page again.
    with visitor.page.expect_response(lambda response: "storage/events?" in response.url):
        pass
    save(client, f"{top}few/new.jpg")
    expect(visitor.cell("few").locator(".amount")).to_have_text("3 images")
    expect(cover).to_have_attribute("src", re.compile(f"{top}few/new.jpg"))


def test_only_folders_on_the_screen_are_looked_at(visitor: Visit, server: Server, top: str) -> None:
    compute = server.data / "compute" / top
    for number in range(400):
        (compute / f"{number:03}").mkdir(parents=True)
        (compute / f"{number:03}" / "a.jpg").write_bytes(b"x")
    asked: list[str] = []
    visitor.page.on("request", lambda request: asked.append(request.post_data or ""))
    visitor.sign_in(server.token(), fragment(top))
    expect(visitor.page.locator(".amount").first).to_be_visible()
    visitor.page.wait_for_load_state("networkidle")

    looks = set(re.findall(r"storage/runs\?prefix=([^&\"]+)", "".join(asked)))
    assert 0 < len(looks) < 100


# Renaming and moving


def test_a_folder_is_renamed_with_all_that_is_in_it(
    visitor: Visit, server: Server, client: httpx.Client, top: str
) -> None:
    save(client, f"{top}old/1.jpg", f"{top}old/deep/2.jpg", f"{top}taken/3.jpg")
    was = client.get(f"{IMAGES}/{top}old/deep/2.jpg").content
    visitor.sign_in(server.token(), fragment(top))
    choose(visitor, "old")
    expect(visitor.text("1 selected")).to_be_visible()
    visitor.picture("folder-chosen")

    press(visitor, "Rename")
    assert "Rename the folder with 2 images" in answer(visitor, "Rename", "taken")
    expect(visitor.text(f"“{top}taken” exists already.")).to_be_visible()
    assert len(stored(client, top)) == 3
    name = visitor.page.get_by_label("New name")
    expect(name).to_be_focused()
    expect(name).to_have_value("taken")
    visitor.expect_accessible()
    visitor.picture("rename")
    visitor.page.get_by_role("button", name="Cancel").click()

    press(visitor, "Rename")
    expect(name).to_be_focused()
    visitor.page.keyboard.type("new <b>")
    visitor.page.keyboard.press("Enter")
    expect(visitor.text("2 images renamed.")).to_be_visible()
    visitor.expect_names("new <b>", "taken")
    expect(visitor.cell("new <b>")).to_be_focused()
    assert stored(client, top) == ["new <b>/1.jpg", "new <b>/deep/2.jpg", "taken/3.jpg"]
    assert client.get(f"{IMAGES}/{top}new <b>/deep/2.jpg").content == was


def test_images_and_folders_are_moved_together(
    visitor: Visit, server: Server, client: httpx.Client, top: str
) -> None:
    save(client, f"{top}a.jpg", f"{top}b.jpg", f"{top}in/c.jpg", f"{top}kept/b.jpg")
    visitor.sign_in(server.token(), fragment(top))
    choose(visitor, "b.jpg", "in")
    press(visitor, "Move")
    assert "Move 2 images" in answer(visitor, "Move", f"{top}in/deeper")
    expect(visitor.text("cannot be moved into itself")).to_be_visible()
    answer(visitor, "Move", f"{top}kept")
    expect(visitor.text("exists already")).to_be_visible()
    assert len(stored(client, top)) == 4
    visitor.page.get_by_role("button", name="Cancel").click()

    choose(visitor, "a.jpg", "b.jpg")  # and not the second one any more
    press(visitor, "Move")
    answer(visitor, "Move", f"/{top}kept/")
    expect(visitor.text("2 images moved.")).to_be_visible()
    visitor.expect_names("b.jpg", "kept")
    assert stored(client, top) == ["b.jpg", "kept/a.jpg", "kept/b.jpg", "kept/in/c.jpg"]


def test_what_breaks_off_a_move_leaves_all_where_it_was_and_says_so(
    visitor: Visit, server: Server, client: httpx.Client, top: str
) -> None:
    save(client, *(f"{top}old/{number:02}.jpg" for number in range(30)))
    before = stored(client, top)
    visitor.sign_in(server.token(), fragment(top))
    choose(visitor, "old")
    copies = 0

    def refuse(route: Route) -> None:
        nonlocal copies
        copies += 1
        if 10 < copies < 20:
            body = '{"detail": "the storage is full", "code": "storage_full"}'
            route.fulfill(status=507, body=body, content_type="application/json")
        else:
            route.continue_()

    visitor.page.route("**/storage/copy", refuse)
    press(visitor, "Rename")
    answer(visitor, "Rename", "new")
    expect(visitor.text("the storage is full")).to_be_visible()
    visitor.picture("move-broke-off")
    visitor.expect_accessible()
    assert "All of them are still in their old place." in answer(visitor, "Undo")
    expect(visitor.text("Nothing was renamed.")).to_be_visible()
    assert stored(client, top) == before
    visitor.expect_names("old")  # the tile of the copies is gone, so that nothing shifts

    choose(visitor, "old")
    press(visitor, "Rename")
    copies = 5
    answer(visitor, "Rename", "new")
    expect(visitor.text("the storage is full")).to_be_visible()
    copies = 100
    answer(visitor, "Go on")
    expect(visitor.text("30 images renamed.")).to_be_visible()
    assert stored(client, top) == [name.replace("old", "new") for name in before]


def test_a_move_is_stopped_and_undone(
    visitor: Visit, server: Server, client: httpx.Client, top: str
) -> None:
    save(client, *(f"{top}old/{number}.jpg" for number in range(8)))
    before = stored(client, top)
    visitor.sign_in(server.token(), fragment(top))
    choose(visitor, "old")
    held: list[Callable[[], None]] = []
    visitor.page.route("**/storage/copy", lambda route: held.append(route.continue_))
    press(visitor, "Rename")
    answer(visitor, "Rename", "new")
    stop = visitor.page.get_by_role("button", name="Stop", exact=True)
    expect(stop).to_be_visible()
    visitor.picture("moving")
    visitor.expect_accessible()
    ends = time.monotonic() + 60
    while len(held) < 4:  # so many at once; a later one would be held for good
        assert time.monotonic() < ends, held
        visitor.page.evaluate("() => new Promise(requestAnimationFrame)")
    stop.click()
    for go_on in held:
        go_on()

    expect(visitor.page.get_by_role("heading", name="Stopped after 4 of 8 images")).to_be_visible()
    answer(visitor, "Undo")
    expect(visitor.text("Nothing was renamed.")).to_be_visible()
    assert stored(client, top) == before


def save_video(client: httpx.Client, top: str) -> dict[str, Any]:
    """Save a video with its poster; returns what a search finds then."""
    film = Mp4(frames()).file(moov_first=True)
    client.post(f"{IMAGES}/{top}old.mp4", files={"file": film}).raise_for_status()
    save(client, f"{top}old.mp4.poster.webp")
    until(lambda: len(found(client, top)) == 2)
    known: dict[str, Any] = client.get(f"{STORAGE}/search", params={"prefix": top}).json()
    return known


def test_a_name_that_is_refused_stays_in_the_dialog_with_the_reason(
    visitor: Visit, server: Server, client: httpx.Client, top: str
) -> None:
    save_video(client, top)
    before = stored(client, top)
    visitor.sign_in(server.token(), fragment(top))
    choose(visitor, "old.mp4")
    dialog = visitor.page.locator(".question[open]")
    for button, label, text in (
        ("Rename", "New name", "a\\b.mp4"),
        ("Rename", "New name", "a/b.mp4"),
        ("Move", "To the folder", f"{top}a\\b"),
    ):
        press(visitor, button)
        answer(visitor, button, text)
        expect(dialog.get_by_role("alert")).to_have_text(re.compile("^A .*slash.*[.]$"))
        expect(visitor.page.get_by_label(label)).to_have_value(text)
        expect(visitor.page.get_by_label(label)).to_be_editable()
        visitor.picture(f"refused-{button}")
        dialog.get_by_role("button", name="Cancel").click()
    assert stored(client, top) == before

    full = '{"detail": "the storage is full", "code": "storage_full"}'
    visitor.page.route(
        "**/storage/copy",
        lambda route: route.fulfill(status=507, body=full, content_type="application/json"),
        times=2,
    )
    press(visitor, "Rename")
    answer(visitor, "Rename", "new.mp4")
    expect(visitor.page.get_by_role("heading", name="Stopped after 0 of 1 image")).to_be_visible()
    visitor.picture("stopped")
    told = "The storage is full. All of them are still in their old place."
    assert told in answer(visitor, "Go on")
    expect(visitor.text("1 image renamed.")).to_be_visible()
    assert stored(client, top) == ["new.mp4", "new.mp4.poster.webp"]


def test_what_was_renamed_does_not_come_back_while_the_index_still_has_the_old_name(
    visitor: Visit, server: Server, client: httpx.Client, top: str
) -> None:
    indexed = save_video(client, top)
    stale: dict[str, Any] = {"items": [], "next": None}
    visitor.page.route("**/storage/search?*", lambda route: route.fulfill(json=stale))
    visitor.sign_in(server.token(), fragment(top))
    choose(visitor, "old.mp4")
    press(visitor, "Rename")
    answer(visitor, "Rename", "new.mp4")
    expect(visitor.text("1 image renamed.")).to_be_visible()
    visitor.expect_names("new.mp4")

    visitor.page.evaluate(
        """() => {
        window.drawn = [];
        const note = () => {
          for (const one of document.querySelectorAll(".cell")) drawn.push(one.title);
        };
        new MutationObserver(note).observe(document.querySelector("#grid"), { childList: true });
        }"""
    )
    stale.update(indexed)
    for _ in range(3):  # the grid follows a look before the next one
        with visitor.page.expect_response("**/storage/search?*"):
            visitor.page.evaluate("dispatchEvent(new Event('focus'))")
    visitor.expect_names("new.mp4")
    assert not [name for name in visitor.page.evaluate("drawn") if name.startswith("old")]


def test_a_search_does_not_show_the_old_name_of_what_was_renamed_in_it(
    visitor: Visit, server: Server, client: httpx.Client, top: str
) -> None:
    stale = save_video(client, top)
    visitor.page.route("**/storage/search?*", lambda route: route.fulfill(json=stale))
    visitor.sign_in(server.token(), f"{fragment(top)}?search=")
    choose(visitor, "old.mp4")
    press(visitor, "Rename")
    with visitor.page.expect_response("**/storage/search?*"):
        answer(visitor, "Rename", "new.mp4")
    expect(visitor.text("1 image renamed.")).to_be_visible()
    visitor.expect_names()
    visitor.page.unroute("**/storage/search?*")
    visitor.expect_names("new.mp4")


def test_what_is_saved_while_it_is_moved_stays(
    visitor: Visit, server: Server, client: httpx.Client, top: str
) -> None:
    save(client, f"{top}old/1.jpg", f"{top}old/2.jpg")
    visitor.sign_in(server.token(), fragment(top))
    choose(visitor, "old")

    def save_meanwhile(route: Route) -> None:  # all are copied, and this one is about to be deleted
        client.post(f"{IMAGES}/{top}old/2.jpg", files={"file": scenery(9, edge=100)})
        route.continue_()

    visitor.page.route(
        lambda url: f"images/{top}old/2.jpg" in url,
        lambda route: (
            save_meanwhile(route) if route.request.method == "DELETE" else route.continue_()
        ),
    )
    press(visitor, "Rename")
    answer(visitor, "Rename", "new")

    expect(visitor.text("1 image changed meanwhile and stayed here, too.")).to_be_visible()
    assert stored(client, top) == ["new/1.jpg", "new/2.jpg", "old/2.jpg"]
    assert client.get(f"{IMAGES}/{top}old/2.jpg").content == scenery(9, edge=100)


# Deleting


def test_folders_are_deleted_after_one_question_that_says_how_many_images(
    visitor: Visit, server: Server, client: httpx.Client, top: str
) -> None:
    save(client, *(f"{top}gone/{number:03}.jpg" for number in range(120)))
    save(client, f"{top}gone/deep/a.jpg", f"{top}b.jpg", f"{top}kept/c.jpg")
    visitor.sign_in(server.token(), fragment(top))
    choose(visitor, "gone", "b.jpg")
    visitor.page.keyboard.press("Delete")
    expect(visitor.page.get_by_role("heading", name="Delete 122 images?")).to_be_visible()
    visitor.picture("delete-folder")
    visitor.expect_accessible()
    assert "gone (folder, 121 images)" in answer(visitor, "Delete")

    expect(visitor.text("122 images deleted.")).to_be_visible()
    visitor.expect_names("kept")
    assert stored(client, top) == ["kept/c.jpg"]


# Runs


def test_a_published_run_is_one_thing_and_is_deleted_as_one(
    visitor: Visit, server: Server, client: httpx.Client, top: str
) -> None:
    save(client, *(f"{top}7/{number}.jpg" for number in range(4)), f"{top}open/a.jpg")
    publish(client, f"{top}7")
    visitor.sign_in(server.token(), fragment(top))
    expect(visitor.cell("7")).to_have_attribute("aria-label", "7, published run, 4 images")
    expect(visitor.cell("open")).to_have_attribute("aria-label", "open, folder, 1 image")
    expect(visitor.page.locator(".folder.loaded")).to_have_count(2)
    visitor.picture("runs")
    visitor.expect_accessible()

    visitor.cell("7").click()
    line = visitor.page.locator("#run")
    expect(line).to_contain_text("Published run · 4 images · ")
    expect(visitor.page.locator(".cell.loaded")).to_have_count(4)
    visitor.picture("run")
    visitor.expect_accessible()
    choose(visitor, "1.jpg")
    visitor.page.keyboard.press("Delete")
    said = answer(visitor, "Cancel")
    assert "It is part of a published run, whose manifest will still name it." in said

    line.get_by_role("button", name="Delete run").click()
    expect(visitor.page.get_by_role("heading", name="Delete 4 images?")).to_be_visible()
    visitor.picture("delete-run")
    assert "1 published run included, whose images go in 1 hour." in answer(visitor, "Delete")
    expect(visitor.text("1 run deleted: 4 images will be gone in 1 hour.")).to_be_visible()
    expect(line).to_be_hidden()
    assert client.get(f"{STORAGE}/runs/{top}7").json()["state"] == "open"
    visitor.page.go_back()
    expect(visitor.cell("7")).to_have_attribute("aria-label", "7, folder, 4 images")


def test_a_folder_with_runs_in_it_is_deleted_with_them(
    visitor: Visit, server: Server, client: httpx.Client, top: str
) -> None:
    save(client, f"{top}all/1/a.jpg", f"{top}all/2/b.jpg", f"{top}all/loose.jpg")
    for number in (1, 2):
        publish(client, f"{top}all/{number}")
    visitor.sign_in(server.token(), fragment(top))
    choose(visitor, "all")
    press(visitor, "Delete")
    expect(visitor.page.get_by_role("heading", name="Delete 3 images?")).to_be_visible()
    assert "2 published runs included" in answer(visitor, "Delete")

    expect(visitor.text("2 runs deleted: 2 images will be gone in 1 hour.")).to_be_visible()
    expect(visitor.text("1 image deleted.")).to_be_visible()
    published = client.get(f"{STORAGE}/runs", params={"prefix": top, "state": "published"})
    assert published.json() == []
    assert stored(client, top) == ["all/1/a.jpg", "all/2/b.jpg"]


def test_a_published_run_is_neither_renamed_nor_moved_and_nothing_is_moved_into_or_out_of_it(
    visitor: Visit, server: Server, client: httpx.Client, top: str
) -> None:
    save(client, f"{top}all/7/a.jpg", f"{top}all/7/deep/b.jpg", f"{top}c.jpg")
    publish(client, f"{top}all/7")
    before = stored(client, top)
    visitor.sign_in(server.token(), fragment(f"{top}all/"))
    refused = visitor.text(f"“{top}all/7” is a published run")

    def dismiss() -> None:
        expect(refused).to_be_visible()
        visitor.page.get_by_role("button", name="Dismiss").click()

    choose(visitor, "7")
    press(visitor, "Rename")
    expect(refused).to_be_visible()
    visitor.picture("run-refused")
    dismiss()
    press(visitor, "Move")
    dismiss()
    visitor.go(fragment(top))
    choose(visitor, "all")
    press(visitor, "Rename")
    dismiss()
    visitor.go(fragment(f"{top}all/7/deep/"))
    choose(visitor, "b.jpg")
    press(visitor, "Move")
    dismiss()
    visitor.go(fragment(top))
    choose(visitor, "c.jpg")
    press(visitor, "Move")
    answer(visitor, "Move", f"{top}all/7")
    expect(visitor.page.locator(".question[open]")).to_contain_text(
        f"“{top}all/7” is a published run"
    )
    visitor.page.get_by_role("button", name="Cancel").click()
    assert stored(client, top) == before
