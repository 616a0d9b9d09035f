"""What the gallery says when something is wrong, and that it goes on by itself where it can."""

import json
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from playwright.sync_api import Browser, expect

from browser.scenery import scenery
from browser.visiting import Visit, a_file, fragment, save, visit
from pictures import picture
from running import IMAGES, Server, running

pytestmark = pytest.mark.slow


def test_a_picture_that_is_gone_meanwhile_says_so(
    visitor: Visit, server: Server, client: httpx.Client, folder_of_ten: str
) -> None:
    client.delete(f"{IMAGES}/{folder_of_ten}5.jpg")
    visitor.sign_in(server.token(), fragment(f"{folder_of_ten}5.jpg"))

    expect(visitor.page.get_by_role("heading", name="Not found")).to_be_visible()
    visitor.picture("gone")
    visitor.expect_accessible()
    save(client, f"{folder_of_ten}5.jpg", scenery(5, edge=240))
    visitor.page.get_by_role("button", name="Try again").click()
    visitor.expect_picture("5.jpg")


def test_a_token_for_a_folder_begins_there_and_says_what_it_may_not(
    visitor: Visit, server: Server, folder_of_ten: str
) -> None:
    visitor.sign_in(server.token("--prefix", folder_of_ten[:-1], "--scope", "storage:read"))
    expect(visitor.cells).to_have_count(10)
    for name in ("Upload", "Library"):
        expect(visitor.page.get_by_text(name, exact=True).first).to_be_hidden()
    visitor.cell("1.jpg").click(modifiers=["Control"])
    expect(visitor.page.get_by_role("button", name="Delete")).to_have_count(0)

    visitor.go("#/")
    visitor.expect_names(*(f"{number}.jpg" for number in range(10)))
    visitor.go("#/elsewhere/")
    expect(visitor.page.get_by_role("heading", name="Not allowed with this token")).to_be_visible()
    visitor.picture("forbidden")
    visitor.expect_accessible()
    visitor.page.get_by_role("link", name="Go to its folder").click()
    expect(visitor.cells).to_have_count(10)


def test_a_token_for_a_folder_opens_it_in_place_of_those_above(
    visitor: Visit, server: Server, client: httpx.Client, folder: str
) -> None:
    save(client, f"{folder}deep/a.jpg", scenery(1, edge=240))
    token = server.token("--prefix", f"{folder}deep")
    visitor.sign_in(token, "#/")
    upload = visitor.page.get_by_role("button", name="Upload", exact=True)
    for above in ("#/", fragment(folder)):
        visitor.go(above)
        visitor.expect_names("a.jpg")
        expect(upload).to_be_visible()
    visitor.page.locator("#files").set_input_files([a_file("b.jpg", scenery(2, edge=240))])
    visitor.expect_names("a.jpg", "b.jpg")
    visitor.cell("a.jpg").click()
    visitor.expect_picture("a.jpg")
    expect(visitor.viewer.get_by_role("button", name="Keep", exact=True)).to_be_hidden()
    visitor.go("#/elsewhere/")
    expect(upload).to_be_hidden()


def test_offline_it_says_so_and_goes_on_by_itself(
    visitor: Visit, server: Server, folder_of_ten: str
) -> None:
    visitor.sign_in(server.token())
    expect(visitor.cell(folder_of_ten[:-1])).to_be_visible()
    visitor.page.context.set_offline(True)
    visitor.cell(folder_of_ten[:-1]).click()
    expect(visitor.page.get_by_role("heading", name="You are offline")).to_be_visible()
    visitor.picture("offline")
    visitor.expect_accessible()
    visitor.page.context.set_offline(False)

    expect(visitor.cells).to_have_count(10)


def test_a_server_that_is_away_is_found_again(
    browser: Browser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running(tmp_path) as server:
        with server.client() as client:
            save(client, "a.png", picture(1))
        with visit(browser, server) as visitor:
            visitor.sign_in(server.token())
            expect(visitor.cells).to_have_count(1)
            server.stop()
            visitor.page.get_by_role("link", name="Images").click()
            expect(
                visitor.page.get_by_role("heading", name="The server cannot be reached")
            ).to_be_visible()
            visitor.picture("away")
            monkeypatch.setattr("running.free_port", lambda: server.port)
            with running(tmp_path):
                expect(visitor.cells).to_have_count(1)


def test_a_storage_that_is_out_of_reach_is_asked_again_as_it_says(
    visitor: Visit, server: Server, folder_of_ten: str
) -> None:
    broken = {"detail": "the bucket cannot be reached", "code": "backend_unavailable"}
    visitor.sign_in(server.token())
    expect(visitor.cell(folder_of_ten[:-1])).to_be_visible()
    is_away = True

    def answer(route: Any) -> None:
        if is_away:  # until that was seen, since it is asked again in a second
            route.fulfill(status=503, headers={"Retry-After": "1"}, body=json.dumps(broken))
        else:
            route.continue_()

    # Not what a folder's tile asks for, which may still be under way.
    visitor.page.route(f"**{IMAGES}?prefix={quote(folder_of_ten, safe='')}&delimiter=**", answer)
    visitor.cell(folder_of_ten[:-1]).click()
    expect(visitor.text("the bucket cannot be reached")).to_be_visible()
    visitor.picture("out-of-reach")
    is_away = False
    expect(visitor.cells).to_have_count(10)
