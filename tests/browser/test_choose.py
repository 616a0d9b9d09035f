"""Choosing: a key keeps a picture, another rejects it, and what is not kept is deleted at once."""

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import httpx
import pytest
from playwright.sync_api import Browser, Request, Route, expect

from browser.scenery import scenery
from browser.test_folders import answer, choose, press, publish
from browser.test_narrow import expect_fits
from browser.visiting import (
    Visit,
    fragment,
    on_small_screens,
    save,
    small_screen,
    stored,
    visit,
    wait_for_index,
)
from pictures import picture
from running import IMAGES, Server, running
from videos import Mp4, frames
from waiting import until

pytestmark = pytest.mark.slow

LIBRARY = "/api/v1/media-resources"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("choose"), trash="7d") as started:
        yield started
    assert "Traceback" not in started.logged()


@pytest.fixture
def folder_of_ten(client: httpx.Client, folder: str) -> str:
    """Ten images that no other folder has, since identical ones are kept once."""
    first = uuid4().int % 10**6
    for number in range(10):
        save(client, f"{folder}{number}.jpg", scenery(first + number, edge=240))
    return folder


def kept(client: httpx.Client, folder: str) -> list[str]:
    query = {"source_prefix": f"compute/{folder}", "limit": "1000"}
    found = client.get(LIBRARY, params=query).raise_for_status().json()
    return sorted(str(one["source_key"]).removeprefix(f"compute/{folder}") for one in found)


def keep(client: httpx.Client, *paths: str) -> None:
    for at in range(0, len(paths), 100):
        some = paths[at : at + 100]
        items = [{"storage_key": f"compute/{path}", "relocate": False} for path in some]
        answered = client.post(f"{LIBRARY}/ingest", json={"items": items}).raise_for_status().json()
        assert all("resource" in result for result in answered["results"]), answered


def show(visitor: Visit, what: str) -> None:
    visitor.page.get_by_label("Show", exact=True).select_option(what)


def expect_kept(visitor: Visit, name: str, *, isso: bool = True) -> None:
    button = visitor.viewer.get_by_role("button", name="Keep", exact=True)
    expect(visitor.page.locator("#viewer-name")).to_have_text(name)
    expect(button).to_have_attribute("aria-pressed", str(isso).lower())


def test_a_key_keeps_a_picture_and_takes_it_back_with_its_texts_and_tags(
    visitor: Visit, server: Server, client: httpx.Client, folder_of_ten: str
) -> None:
    press = visitor.page.keyboard.press
    visitor.sign_in(server.token(), fragment(folder_of_ten))
    visitor.cell("2.jpg").click()
    visitor.expect_picture("2.jpg")
    expect(visitor.viewer.locator(".viewer-actions .danger")).to_have_count(1)
    expect_kept(visitor, "2.jpg", isso=False)
    press("k")
    expect_kept(visitor, "2.jpg")
    press("ArrowRight")
    press("k")
    expect_kept(visitor, "3.jpg")
    until(lambda: kept(client, folder_of_ten) == ["2.jpg", "3.jpg"])
    [found] = client.get(LIBRARY, params={"source_key": f"compute/{folder_of_ten}3.jpg"}).json()
    assert found["storage_key"] == f"compute/{folder_of_ten}3.jpg"
    url = f"{LIBRARY}/{found['id']}"
    visitor.viewer.get_by_role("button", name="Edit").click()
    visitor.page.get_by_label("Caption").fill("A hill")
    visitor.page.get_by_role("button", name="Save").click()
    expect(visitor.text("Saved.")).to_be_visible()
    client.patch(url, json={"alt_text": "Hill"}).raise_for_status()
    client.post(f"{url}/tags", json={"tags": ["best"]}).raise_for_status()

    press("k")
    assert "It has a caption, an alt text or tags." in answer(visitor, "Cancel")
    expect_kept(visitor, "3.jpg")
    press("k")
    answer(visitor, "Remove")
    expect_kept(visitor, "3.jpg", isso=False)
    expect(visitor.viewer.get_by_role("button", name="Edit")).to_be_hidden()
    until(lambda: kept(client, folder_of_ten) == ["2.jpg"])
    visitor.expect_accessible()
    expect(visitor.text("3.jpg is not kept any more.")).to_be_visible()
    press("Control+z")
    expect_kept(visitor, "3.jpg")
    path = {"source_key": f"compute/{folder_of_ten}3.jpg"}
    until(lambda: [one["tags"] for one in client.get(LIBRARY, params=path).json()] == [["best"]])
    [found] = client.get(LIBRARY, params=path).json()
    assert (found["caption"], found["alt_text"]) == ("A hill", "Hill")

    press("ArrowLeft")
    expect_kept(visitor, "2.jpg")
    press("Escape")
    for name in ("2.jpg", "3.jpg"):
        expect(visitor.cell(name).locator(".badge.keep")).to_be_visible()
        expect(visitor.cell(name)).to_have_attribute("aria-label", f"{name}, in the library")
    expect(visitor.page.locator(".badge.keep")).to_have_count(2)


def test_many_keys_in_a_row_arrive_in_their_order(
    visitor: Visit, server: Server, client: httpx.Client, folder_of_ten: str
) -> None:
    press = visitor.page.keyboard.press
    visitor.sign_in(server.token(), fragment(folder_of_ten))
    visitor.cell("0.jpg").click()
    visitor.expect_picture("0.jpg")
    for _ in range(5):
        press("k")
    press("ArrowRight")
    for _ in range(4):
        press("k")
    press("ArrowRight")
    press("k")
    expect_kept(visitor, "2.jpg")
    until(lambda: kept(client, folder_of_ten) == ["0.jpg", "2.jpg"])
    press("ArrowLeft")
    expect_kept(visitor, "1.jpg", isso=False)
    press("ArrowLeft")
    expect_kept(visitor, "0.jpg")


def test_what_the_server_refuses_is_said_and_not_shown_as_kept(
    visitor: Visit, server: Server, client: httpx.Client, folder: str
) -> None:
    same = picture(uuid4().int)
    save(client, f"{folder}a.png", same)
    save(client, f"{folder}b.png", same)
    save(client, f"{folder}c.svg", b"<svg xmlns='http://www.w3.org/2000/svg'/>")
    keep(client, f"{folder}a.png")
    [found] = client.get(LIBRARY, params={"source_key": f"compute/{folder}a.png"}).json()
    client.patch(f"{LIBRARY}/{found['id']}", json={"protected": True}).raise_for_status()
    visitor.sign_in(server.token(), fragment(f"{folder}a.png"))
    expect_kept(visitor, "a.png")
    visitor.page.keyboard.press("k")
    assert "Other applications may use it." in answer(visitor, "Remove")
    expect(visitor.text("a.png: the resource is protected")).to_be_visible()
    expect_kept(visitor, "a.png")
    visitor.page.keyboard.press("ArrowRight")
    expect_kept(visitor, "b.png", isso=False)
    visitor.page.keyboard.press("k")
    said = f"{folder}b.png: the library has the same image from {folder}a.png"
    expect(visitor.text(said)).to_be_visible()
    expect_kept(visitor, "b.png", isso=False)
    with visitor.page.expect_response("**/media-resources/ingest"):
        visitor.page.keyboard.press("k")
    expect_kept(visitor, "b.png", isso=False)
    expect(visitor.page.locator(".toast", has_text=said)).to_have_count(1)
    visitor.page.keyboard.press("ArrowRight")
    visitor.page.keyboard.press("k")
    expect(visitor.page.locator(".toast", has_text="c.svg: ")).to_be_visible()
    expect_kept(visitor, "c.svg", isso=False)
    assert kept(client, folder) == ["a.png"]


def test_a_key_rejects_pictures_and_undo_goes_back_step_by_step(
    visitor: Visit, server: Server, client: httpx.Client, folder_of_ten: str
) -> None:
    press = visitor.page.keyboard.press
    names = [f"{number}.jpg" for number in range(10)]
    visitor.sign_in(server.token(), fragment(folder_of_ten))
    visitor.cell("3.jpg").click()
    visitor.expect_picture("3.jpg")
    press("x")
    visitor.expect_picture("4.jpg")
    press("x")
    visitor.expect_picture("5.jpg")
    until(lambda: stored(client, folder_of_ten) == [*names[:3], *names[5:]])
    expect(visitor.text("4.jpg deleted.")).to_be_visible()
    expect(visitor.page.locator(".toast")).to_have_count(1)
    visitor.picture("rejected")
    visitor.expect_accessible()

    press("Control+z")
    visitor.expect_picture("4.jpg")
    expect(visitor.text("3.jpg deleted.")).to_be_visible()
    press("Control+z")
    visitor.expect_picture("3.jpg")
    until(lambda: stored(client, folder_of_ten) == names)
    press("x")
    visitor.expect_picture("4.jpg")
    press("Escape")
    visitor.expect_names(*names[:3], *names[4:])
    visitor.page.get_by_role("button", name="Undo").click()
    visitor.expect_names(*names)


@pytest.mark.parametrize("query", ["", "?only=kept", "?search=jpg&sort=path"])
def test_undo_shows_a_kept_picture_again_where_it_was(
    visitor: Visit, server: Server, client: httpx.Client, folder_of_ten: str, query: str
) -> None:
    press, place = visitor.page.keyboard.press, visitor.page.locator("#viewer-place")
    keep(client, *(f"{folder_of_ten}{number}.jpg" for number in range(10)))
    wait_for_index(server, folder_of_ten.rstrip("/"), 10)
    visitor.sign_in(server.token(), f"{fragment(folder_of_ten)}{query}")
    visitor.cell("3.jpg").click()
    for key in ("x", "Delete"):
        visitor.expect_picture("3.jpg")
        expect_kept(visitor, "3.jpg")
        expect(place).to_have_text("4 of 10")
        press(key)
        said = answer(visitor, "Delete")
        assert "1 image is in the library, which cannot show it unless you restore it." in said
        assert "It stays in the trash for 7 days." in said
        visitor.expect_picture("4.jpg")
        expect(place).to_have_text("4 of 9")
        expect(visitor.text("3.jpg deleted.")).to_be_visible()
        press("Control+z")
    visitor.expect_picture("3.jpg")
    expect(place).to_have_text("4 of 10")
    expect_kept(visitor, "3.jpg")
    press("ArrowRight")
    visitor.expect_picture("4.jpg")
    press("Escape")
    visitor.expect_names(*(f"{number}.jpg" for number in range(10)))
    [found] = client.get(LIBRARY, params={"source_key": f"compute/{folder_of_ten}3.jpg"}).json()
    client.get(f"{LIBRARY}/{found['id']}/file").raise_for_status()


def test_a_video_is_kept_and_rejected_with_its_poster(
    visitor: Visit, server: Server, client: httpx.Client, folder: str
) -> None:
    names = ["a.mp4", "a.mp4.poster.webp", "b.mp4", "b.mp4.poster.webp", "c.jpg"]
    for name in "ab":
        seed = uuid4().int % 10**5
        video = Mp4(frames(), padding=seed).file(moov_first=True)
        save(client, f"{folder}{name}.mp4", video)
        save(client, f"{folder}{name}.mp4.poster.webp", scenery(seed, edge=200, form="WEBP"))
    save(client, f"{folder}c.jpg", scenery(1, edge=200))
    visitor.sign_in(server.token(), fragment(f"{folder}a.mp4"))
    expect(visitor.page.locator("#viewer-name")).to_have_text("a.mp4")
    visitor.page.keyboard.press("x")
    expect(visitor.page.locator("#viewer-name")).to_have_text("b.mp4")
    expect(visitor.text("a.mp4 deleted.")).to_be_visible()
    assert stored(client, folder) == names[2:]
    visitor.page.keyboard.press("Control+z")
    expect(visitor.page.locator("#viewer-name")).to_have_text("a.mp4")
    until(lambda: stored(client, folder) == names)
    visitor.page.keyboard.press("k")
    until(lambda: kept(client, folder) == ["a.mp4"])
    visitor.go(f"{fragment(folder)}?only=unkept")
    visitor.expect_names("b.mp4", "c.jpg")
    visitor.page.get_by_role("button", name="Delete what is not kept").click()
    assert "Delete 2 images that are not kept?" in answer(visitor, "Delete")
    until(lambda: stored(client, folder) == names[:2])


def test_what_the_library_would_lose_is_not_rejected_without_a_question(
    visitor: Visit, server: Server, client: httpx.Client, folder_of_ten: str
) -> None:
    keep(client, f"{folder_of_ten}3.jpg")
    visitor.sign_in(server.token(), fragment(f"{folder_of_ten}3.jpg"))
    expect_kept(visitor, "3.jpg")
    visitor.page.keyboard.press("x")
    assert "is in the library, which cannot show it" in answer(visitor, "Cancel")
    assert len(stored(client, folder_of_ten)) == 10


def test_without_a_trash_a_rejection_asks(
    browser: Browser, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with running(tmp_path_factory.mktemp("no trash")) as server, server.client() as client:
        for name in "ab":
            save(client, f"f/{name}.jpg", scenery(ord(name), edge=240))
        with visit(browser, server) as visitor:
            visitor.sign_in(server.token(), fragment("f/a.jpg"))
            visitor.expect_picture("a.jpg")
            visitor.page.keyboard.press("x")
            assert "This can't be undone." in answer(visitor, "Delete")
            visitor.expect_picture("b.jpg")
            assert stored(client, "f/") == ["b.jpg"]


def test_the_filter_shows_kept_pictures_or_the_others_and_is_in_the_address(
    visitor: Visit, server: Server, client: httpx.Client, folder_of_ten: str
) -> None:
    names = [f"{number}.jpg" for number in range(10)]
    save(client, f"{folder_of_ten}deep/a.jpg", scenery(uuid4().int, edge=240))
    wait_for_index(server, folder_of_ten.rstrip("/"), 11)
    keep(client, *(f"{folder_of_ten}{name}" for name in ("2.jpg", "4.jpg", "deep/a.jpg")))
    save(client, f"{folder_of_ten}4.jpg", scenery(78, edge=240))  # another one than was kept
    visitor.sign_in(server.token(), fragment(folder_of_ten))
    visitor.expect_names(*names, "deep")
    show(visitor, "kept")
    visitor.expect_names("2.jpg")
    assert visitor.page.url.endswith("?only=kept")
    visitor.picture("kept")
    visitor.expect_accessible()
    show(visitor, "unkept")
    visitor.expect_names(*names[:2], *names[3:])
    visitor.page.go_back()
    visitor.expect_names("2.jpg")
    visitor.page.reload()
    visitor.expect_names("2.jpg")
    show(visitor, "")
    visitor.expect_names(*names, "deep")

    # What is kept meanwhile leaves the others when the viewer closes, and not before.
    show(visitor, "unkept")
    visitor.cell("3.jpg").click()
    expect_kept(visitor, "3.jpg", isso=False)
    visitor.page.keyboard.press("k")
    visitor.page.keyboard.press("ArrowRight")
    visitor.expect_picture("4.jpg")
    visitor.page.keyboard.press("ArrowLeft")
    expect_kept(visitor, "3.jpg")
    visitor.page.keyboard.press("Escape")
    visitor.expect_names(*names[:2], *names[4:])
    show(visitor, "kept")
    visitor.expect_names("2.jpg", "3.jpg")

    # A new picture is not kept.
    show(visitor, "unkept")
    save(client, f"{folder_of_ten}new.jpg", scenery(79, edge=240))
    expect(visitor.cell("new.jpg")).to_be_visible()
    visitor.page.get_by_role("searchbox").fill("jpg")  # among all, until the filter is chosen again
    expect(visitor.cells).to_have_count(12)
    show(visitor, "kept")
    expect(visitor.cells).to_have_count(3)
    expect(visitor.page.get_by_role("button", name="Delete what is not kept")).to_be_hidden()


def test_the_filter_waits_for_a_picture_that_is_being_kept(
    visitor: Visit, server: Server, folder_of_ten: str
) -> None:
    held: list[Any] = []
    visitor.page.route("**/media-resources/ingest", lambda route: held.append(route.continue_))
    visitor.sign_in(server.token(), fragment(folder_of_ten))
    visitor.cell("2.jpg").click()
    expect_kept(visitor, "2.jpg", isso=False)
    with visitor.page.expect_request("**/media-resources/ingest"):
        visitor.page.keyboard.press("k")
    expect_kept(visitor, "2.jpg")
    visitor.page.keyboard.press("Escape")
    with visitor.page.expect_response("**/storage/images?*"):
        show(visitor, "kept")
    visitor.page.wait_for_timeout(1000)  # the library could be asked in this time
    held.pop()()
    visitor.expect_names("2.jpg")


def test_all_that_is_not_kept_is_deleted_after_one_question_and_comes_back(
    visitor: Visit, server: Server, client: httpx.Client, folder_of_ten: str
) -> None:
    names = [f"{number}.jpg" for number in range(10)]
    save(client, f"{folder_of_ten}deep/a.jpg", scenery(uuid4().int, edge=240))
    keep(client, f"{folder_of_ten}2.jpg")
    visitor.sign_in(server.token(), fragment(folder_of_ten))
    show(visitor, "unkept")
    visitor.expect_names(*names[:2], *names[3:])
    keep(client, f"{folder_of_ten}5.jpg")  # elsewhere, before the question
    delete = visitor.page.get_by_role("button", name="Delete what is not kept")
    delete.click()
    question = visitor.page.locator(".question[open]")
    expect(question).to_contain_text("Delete 8 images that are not kept?")
    expect(question).to_contain_text("2 kept images stay. So do all folders in this one.")
    expect(question).to_contain_text("They stay in the trash for 7 days.")
    visitor.picture("delete-rest")
    visitor.expect_accessible()
    keep(client, f"{folder_of_ten}7.jpg")  # and while it is asked
    answer(visitor, "Delete")
    expect(visitor.text("7 images deleted.")).to_be_visible()
    assert stored(client, folder_of_ten) == ["2.jpg", "5.jpg", "7.jpg", "deep/a.jpg"]
    visitor.page.get_by_role("button", name="Undo").click()
    until(lambda: stored(client, folder_of_ten) == [*names, "deep/a.jpg"])
    visitor.page.reload()
    visitor.expect_names(*(name for name in names if name not in ("2.jpg", "5.jpg", "7.jpg")))

    show(visitor, "kept")
    visitor.expect_names("2.jpg", "5.jpg", "7.jpg")
    delete.click()
    answer(visitor, "Delete")
    expect(visitor.text("7 images deleted.")).to_be_visible()
    visitor.expect_names("2.jpg", "5.jpg", "7.jpg")
    delete.click()
    expect(visitor.text("All images here are kept.")).to_be_visible()
    show(visitor, "unkept")
    expect(visitor.text("Nothing else is here")).to_be_visible()
    visitor.expect_accessible()


def test_a_run_says_before_the_rest_is_deleted_that_its_manifest_names_it(
    visitor: Visit, server: Server, client: httpx.Client, folder_of_ten: str
) -> None:
    publish(client, folder_of_ten.rstrip("/"))
    visitor.sign_in(server.token(), f"{fragment(folder_of_ten)}?only=unkept")
    visitor.page.get_by_role("button", name="Delete what is not kept").click()
    assert "They are part of a published run" in answer(visitor, "Cancel")
    assert len(stored(client, folder_of_ten)) == 10


def test_who_does_not_see_the_library_gets_no_filter_and_cannot_keep(
    visitor: Visit, server: Server, folder_of_ten: str
) -> None:
    visitor.sign_in(server.token("--prefix", folder_of_ten), fragment(folder_of_ten))
    expect(visitor.page.get_by_label("Show", exact=True)).to_be_hidden()
    visitor.cell("2.jpg").click()
    visitor.expect_picture("2.jpg")
    asked: list[str] = []
    visitor.page.on("request", lambda request: asked.append(request.url))
    visitor.page.keyboard.press("k")
    expect(visitor.viewer.get_by_role("button", name="Keep", exact=True)).to_be_hidden()
    visitor.page.keyboard.press("x")
    visitor.expect_picture("3.jpg")
    expect(visitor.text("2.jpg deleted.")).to_be_visible()
    assert [url for url in asked if "media-resources" in url] == []


def test_filtering_thousands_takes_few_requests_and_few_elements(
    visitor: Visit, server: Server, client: httpx.Client, folder: str
) -> None:
    save_many(server, folder, 3000)
    keep(client, *(f"{folder}{number:04}.png" for number in range(0, 3000, 10)))
    visitor.sign_in(server.token(), fragment(folder))
    expect(visitor.cell("0000.png")).to_be_visible()
    asked: list[Request] = []
    visitor.page.on("request", lambda request: asked.append(request))  # noqa: PLW0108  (of Python)
    for what, count in (("kept", 300), ("unkept", 2700)):
        asked.clear()
        show(visitor, what)
        expect(visitor.page.locator("#told")).to_have_text(f"{count:,} entries")
        expect(visitor.page.locator(".cell.loaded").first).to_be_visible()
        reads = [one.url for one in asked if one.resource_type == "fetch"]
        reads = [url for url in reads if "storage/events" not in url and "saved_from=" not in url]
        assert len(reads) <= 20, reads
        assert visitor.cells.count() < 100
        assert int(visitor.page.evaluate("document.querySelectorAll('*').length")) < 2500


@on_small_screens
def test_choosing_fits_a_phone_and_a_tablet(
    browser: Browser, server: Server, folder_of_ten: str, width: int, scheme: str
) -> None:
    with visit(browser, server, **small_screen(width, scheme)) as visitor:
        visitor.sign_in(server.token(), f"{fragment(folder_of_ten)}?only=unkept")
        expect(visitor.cells).to_have_count(10)
        expect_fits(visitor, width)
        visitor.expect_accessible()
        visitor.picture(f"unkept-{width}")
        visitor.cell("3.jpg").tap()
        visitor.expect_picture("3.jpg")
        for name in ("Reject", "Keep", "Delete", "Details"):
            button = visitor.viewer.get_by_role("button", name=name, exact=True)
            expect(button).to_be_in_viewport(ratio=1)
        visitor.viewer.get_by_role("button", name="Keep", exact=True).tap()
        expect_kept(visitor, "3.jpg")
        expect_fits(visitor, width)
        visitor.expect_accessible()
        visitor.picture(f"choice-{width}")
        visitor.viewer.get_by_role("button", name="Details").tap()
        expect(visitor.page.locator("#facts")).to_contain_text("SHA-256")
        visitor.viewer.get_by_role("button", name="Reject").tap()
        answer(visitor, "Cancel")
        visitor.page.keyboard.press("ArrowRight")
        visitor.expect_picture("4.jpg")
        visitor.viewer.get_by_role("button", name="Reject").tap()
        visitor.expect_picture("5.jpg")
        expect_fits(visitor, width)
        visitor.expect_accessible()


def test_a_resource_is_found_by_the_place_of_its_file_too(
    client: httpx.Client, folder: str
) -> None:
    """A resource whose file is here counts as kept, although it came from elsewhere first."""
    same = picture(uuid4().int)
    save(client, f"{folder}a.png", same)
    keep(client, f"{folder}a.png")
    client.delete(f"{IMAGES}/{folder}a.png").raise_for_status()
    save(client, f"{folder}b.png", same)
    keep(client, f"{folder}b.png")
    [found] = client.get(LIBRARY, params={"source_prefix": f"compute/{folder}b"}).json()
    keys = found["source_key"], found["storage_key"]
    assert keys == (f"compute/{folder}a.png", f"compute/{folder}b.png")


def test_kept_images_stay_out_of_the_others_while_new_ones_come(
    visitor: Visit, server: Server, client: httpx.Client, folder_of_ten: str
) -> None:
    keep(client, f"{folder_of_ten}9.jpg")
    wait_for_index(server, folder_of_ten.rstrip("/"), 10)
    visitor.sign_in(server.token(), f"{fragment(folder_of_ten)}?only=unkept")
    visitor.expect_names(*(f"{number}.jpg" for number in range(9)))
    save(client, f"{folder_of_ten}a.jpg", scenery(uuid4().int % 10**6, edge=240))
    visitor.expect_names(*(f"{number}.jpg" for number in range(9)), "a.jpg")


def test_a_rejection_asks_if_another_client_has_kept_the_picture_meanwhile(
    visitor: Visit, server: Server, client: httpx.Client, folder_of_ten: str
) -> None:
    visitor.sign_in(server.token(), fragment(f"{folder_of_ten}3.jpg"))
    expect_kept(visitor, "3.jpg", isso=False)
    keep(client, f"{folder_of_ten}3.jpg")
    visitor.page.keyboard.press("x")
    assert "is in the library, which cannot show it" in answer(visitor, "Cancel")

    visitor.page.route("**/media-resources?*", lambda route: route.abort())
    visitor.page.keyboard.press("ArrowRight")
    visitor.expect_picture("4.jpg")
    visitor.page.keyboard.press("x")
    answer(visitor, "Cancel")
    assert len(stored(client, folder_of_ten)) == 10


def save_again(client: httpx.Client, folder: str) -> None:
    """Save `a.png` and `b.png`, which are the same. The library has `b.png`, taken from `a.png`."""
    same = picture(uuid4().int)
    for name in "ab":
        save(client, f"{folder}{name}.png", same)
        keep(client, f"{folder}{name}.png")
        if name == "a":
            client.delete(f"{IMAGES}/{folder}a.png").raise_for_status()
    save(client, f"{folder}a.png", same)


def test_a_rejection_and_a_key_leave_a_file_that_the_library_has_from_elsewhere(
    visitor: Visit, server: Server, client: httpx.Client, folder: str
) -> None:
    save_again(client, folder)
    visitor.sign_in(server.token(), fragment(f"{folder}a.png"))
    expect_kept(visitor, "a.png")
    visitor.page.keyboard.press("k")
    answer(visitor, "Remove")
    expect(visitor.text("a.png: the library has its file elsewhere.")).to_be_visible()
    visitor.page.keyboard.press("ArrowRight")
    visitor.expect_picture("b.png")
    visitor.page.keyboard.press("x")
    assert "is in the library, which cannot show it" in answer(visitor, "Cancel")
    assert stored(client, folder) == ["a.png", "b.png"]
    assert kept(client, folder) == ["a.png"]


def test_a_rejection_asks_in_a_search_and_in_a_subfolder_of_a_run(
    visitor: Visit, server: Server, client: httpx.Client, folder: str
) -> None:
    for name in ("a.jpg", "sub/b.jpg"):
        save(client, f"{folder}{name}", scenery(uuid4().int % 10**6, edge=240))
    publish(client, folder.rstrip("/"))
    wait_for_index(server, folder.rstrip("/"), 2)
    visitor.sign_in(server.token(), f"{fragment(folder)}?search=jpg")
    for name in ("a.jpg", "sub/b.jpg"):
        visitor.cell(name).click()
        visitor.expect_picture(name)
        visitor.page.keyboard.press("x")
        assert "It is part of a published run" in answer(visitor, "Cancel")
        visitor.page.keyboard.press("Escape")
    visitor.go(fragment(f"{folder}sub/b.jpg"))
    visitor.expect_picture("b.jpg")
    visitor.page.keyboard.press("x")
    assert "It is part of a published run" in answer(visitor, "Cancel")
    assert stored(client, folder) == ["a.jpg", "sub/b.jpg"]


def test_what_is_being_added_is_not_deleted_with_the_rest(
    visitor: Visit, server: Server, client: httpx.Client, folder_of_ten: str
) -> None:
    held: list[Any] = []
    visitor.page.route("**/media-resources/ingest", lambda route: held.append(route.continue_))
    visitor.sign_in(server.token(), f"{fragment(folder_of_ten)}?only=unkept")
    choose(visitor, "2.jpg", "4.jpg")
    press(visitor, "Add to library")
    answer(visitor, "Add")
    visitor.page.get_by_role("button", name="Delete what is not kept").click()
    expect(visitor.page.get_by_role("heading", name="Counting images")).to_be_visible()
    held.pop()()
    assert "Delete 8 images that are not kept?" in answer(visitor, "Delete")
    expect(visitor.text("8 images deleted.")).to_be_visible()
    assert stored(client, folder_of_ten) == ["2.jpg", "4.jpg"]


def save_many(server: Server, folder: str, amount: int) -> None:
    place = server.data / "compute" / folder
    place.mkdir(parents=True)
    first = uuid4().int
    for number in range(amount):
        (place / f"{number:04}.png").write_bytes(picture(first + number))


def test_what_is_kept_during_the_deletion_stays(
    visitor: Visit, server: Server, client: httpx.Client, folder: str
) -> None:
    save_many(server, folder, 120)

    def keep_meanwhile(route: Route) -> None:
        keep(client, f"{folder}0119.png")
        route.continue_()

    visitor.page.route("**/storage/delete", keep_meanwhile, times=1)
    visitor.sign_in(server.token(), f"{fragment(folder)}?only=unkept")
    visitor.page.get_by_role("button", name="Delete what is not kept").click()
    assert "Delete 120 images that are not kept?" in answer(visitor, "Delete")
    expect(visitor.text("119 images deleted.")).to_be_visible()
    assert stored(client, folder) == ["0119.png"]


def test_after_the_last_picture_of_a_page_is_rejected_the_next_page_shows(
    visitor: Visit, server: Server, folder: str
) -> None:
    save_many(server, folder, 205)
    visitor.sign_in(server.token(), fragment(f"{folder}0199.png"))
    expect(visitor.page.locator("#viewer-place")).to_have_text("200 of 200+")
    visitor.page.keyboard.press("x")
    visitor.expect_picture("0200.png")


def test_a_key_that_is_held_rejects_one_picture(
    visitor: Visit, server: Server, client: httpx.Client, folder_of_ten: str
) -> None:
    visitor.sign_in(server.token(), fragment(f"{folder_of_ten}3.jpg"))
    expect(visitor.page.locator("#viewer-place")).to_have_text("4 of 10")
    for _ in range(3):
        visitor.page.keyboard.down("x")
        visitor.expect_picture("4.jpg")
    visitor.page.keyboard.up("x")
    visitor.page.keyboard.press("ArrowRight")
    visitor.expect_picture("5.jpg")
    expect(visitor.text("3.jpg deleted.")).to_be_visible()
    assert len(stored(client, folder_of_ten)) == 9


def test_both_the_last_rejection_and_the_last_picture_taken_back_can_be_undone(
    visitor: Visit, server: Server, client: httpx.Client, folder_of_ten: str
) -> None:
    press = visitor.page.keyboard.press
    visitor.sign_in(server.token(), fragment(f"{folder_of_ten}3.jpg"))
    expect(visitor.page.locator("#viewer-place")).to_have_text("4 of 10")
    press("x")
    visitor.expect_picture("4.jpg")
    press("k")
    expect_kept(visitor, "4.jpg")
    press("k")
    expect(visitor.text("4.jpg is not kept any more.")).to_be_visible()
    expect(visitor.text("3.jpg deleted.")).to_be_visible()
    press("Control+z")
    until(lambda: kept(client, folder_of_ten) == ["4.jpg"])
    press("Control+z")
    visitor.expect_picture("3.jpg")
    until(lambda: len(stored(client, folder_of_ten)) == 10)


def test_in_a_search_a_picture_comes_back_to_its_place(
    visitor: Visit, server: Server, client: httpx.Client, folder_of_ten: str
) -> None:
    names = [f"{number}.jpg" for number in range(10)]
    wait_for_index(server, folder_of_ten.rstrip("/"), 10)
    visitor.sign_in(server.token(), f"{fragment(folder_of_ten)}?search=jpg&sort=path")
    visitor.expect_names(*names)
    visitor.cell("5.jpg").click()
    visitor.expect_picture("5.jpg")
    visitor.page.keyboard.press("x")
    visitor.expect_picture("6.jpg")
    expect(visitor.text("5.jpg deleted.")).to_be_visible()
    visitor.page.keyboard.press("Control+z")
    visitor.expect_picture("5.jpg")
    until(lambda: stored(client, folder_of_ten) == names)

    visitor.page.route("**/storage/delete", lambda route: route.abort(), times=1)
    visitor.page.keyboard.press("x")
    visitor.expect_picture("6.jpg")
    expect(visitor.text("1 image not deleted")).to_be_visible()
    visitor.page.keyboard.press("Escape")
    visitor.expect_names(*names)


def test_what_waits_when_somebody_signs_out_is_not_sent(
    visitor: Visit, server: Server, client: httpx.Client, folder_of_ten: str
) -> None:
    held: list[Any] = []
    sent: list[str] = []
    visitor.page.on("requestfinished", lambda request: sent.append(request.url))
    visitor.page.route("**/media-resources/ingest", lambda route: held.append(route.continue_))
    visitor.sign_in(server.token(), fragment(f"{folder_of_ten}3.jpg"))
    expect(visitor.page.locator("#viewer-place")).to_have_text("4 of 10")
    visitor.page.keyboard.press("k")
    expect_kept(visitor, "3.jpg")
    visitor.page.keyboard.press("ArrowRight")
    visitor.expect_picture("4.jpg")
    visitor.page.keyboard.press("x")
    visitor.expect_picture("5.jpg")
    visitor.page.keyboard.press("Escape")
    visitor.page.get_by_role("button", name="Sign out").click()
    held.pop()()
    until(lambda: kept(client, folder_of_ten) == ["3.jpg"])
    visitor.sign_in(server.token(), fragment(folder_of_ten))
    visitor.expect_names(*(f"{number}.jpg" for number in range(10)))
    assert [url for url in sent if "storage/delete" in url] == []
    assert len(stored(client, folder_of_ten)) == 10
