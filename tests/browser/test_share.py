"""Sharing in the gallery: links that work without a token until they expire."""

import io
import re
import zipfile
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, expect

from browser.test_folders import choose, press, publish
from browser.test_narrow import expect_fits
from browser.visiting import Visit, fragment, on_small_screens, small_screen, visit
from running import Server

pytestmark = pytest.mark.slow

CLIPBOARD = ["clipboard-read", "clipboard-write"]


def make_link(visitor: Visit, title: str, expiry: str = "1 day") -> str:
    """Make a link in the dialog with this title, and close it."""
    dialog = visitor.page.locator(".question[open]")
    expect(dialog.get_by_role("heading", name=title, exact=True)).to_be_visible()
    dialog.get_by_label(expiry).check()
    dialog.get_by_role("button", name="Make link").click()
    link = str(dialog.get_by_label("Link", exact=True).input_value())
    dialog.get_by_role("button", name="Close").click()
    expect(dialog).to_have_count(0)
    return link


def names_in_zip(link: str) -> list[str]:
    """The names in the ZIP file that somebody without a token gets."""
    answer = httpx.get(link)
    assert answer.status_code == 200, answer.text
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert archive.testzip() is None
        return archive.namelist()


def seconds_left(link: str) -> float:
    """How long it works."""
    ends = re.search(r"[?&]expires=(\d+)", link)
    assert ends, link
    return (datetime.fromtimestamp(int(ends[1]), UTC) - datetime.now(UTC)).total_seconds()


def test_a_folder_is_shared_as_a_zip_and_the_link_is_copied(
    browser: Browser, server: Server, folder_of_ten: str
) -> None:
    with visit(browser, server, permissions=CLIPBOARD) as visitor:
        visitor.sign_in(server.token(), fragment(folder_of_ten))
        expect(visitor.cells).to_have_count(10)
        visitor.page.get_by_role("button", name="Share").click()
        dialog = visitor.page.locator(".question[open]")
        expect(dialog.get_by_label("1 day")).to_be_focused()
        dialog.get_by_role("button", name="Make link").click()
        expect(dialog).to_contain_text("It works until")
        visitor.expect_accessible()
        visitor.picture("share")
        dialog.get_by_role("button", name="Copy").click()
        expect(visitor.text("Link copied.")).to_be_visible()
        copied = visitor.page.evaluate("navigator.clipboard.readText()")
        link = make_link(visitor, f"Share the folder {folder_of_ten[:-1]}", "7 days")

    for one, life in ((copied, timedelta(days=1)), (link, timedelta(days=7))):
        assert len(names_in_zip(one)) == 10
        assert life - timedelta(minutes=5) < timedelta(seconds=seconds_left(one)) <= life
    changed = link.replace(folder_of_ten[:-1], folder_of_ten[:-2])
    assert httpx.get(changed).status_code == 401


def test_a_selection_an_image_and_a_run_are_shared(
    visitor: Visit, server: Server, client: httpx.Client, folder_of_ten: str
) -> None:
    visitor.sign_in(server.token(), fragment(folder_of_ten))
    choose(visitor, "3.jpg", "5.jpg")
    press(visitor, "Share")
    names = names_in_zip(make_link(visitor, "Share 2 images", "1 hour"))
    assert [name.rpartition("/")[2] for name in names] == ["3.jpg", "5.jpg"]

    press(visitor, "Clear selection")
    choose(visitor, "4.jpg")
    press(visitor, "Share")
    link = make_link(visitor, "Share 4.jpg")
    image = httpx.get(link)
    assert image.content == client.get(f"/api/v1/storage/images/{folder_of_ten}4.jpg").content

    publish(client, folder_of_ten[:-1])
    visitor.go("#/")
    choose(visitor, folder_of_ten[:-1])
    press(visitor, "Share")
    link = make_link(visitor, f"Share the run {folder_of_ten[:-1]}")
    assert len([name for name in names_in_zip(link) if name.endswith(".jpg")]) == 10


def test_a_refusal_of_the_server_is_shown_as_it_is(
    visitor: Visit, server: Server, client: httpx.Client, folder: str
) -> None:
    names = [f"{number:02}{'x' * 200}.txt" for number in range(30)]
    for name in names:
        path = f"/api/v1/storage/images/{folder}{name}"
        client.post(path, files={"file": b"words"}).raise_for_status()
    visitor.sign_in(server.token(), fragment(folder))
    expect(visitor.cells).to_have_count(30)
    visitor.page.keyboard.press("Control+a")
    paths = [folder + name for name in names]
    body: dict[str, Any] = {"archive": {"paths": paths}, "expires_in": 86400}
    refused = client.post("/api/v1/storage/signed-urls", json=body)
    assert refused.status_code == 422
    said = refused.json()["detail"][0]["msg"]

    press(visitor, "Share")
    dialog = visitor.page.locator(".question[open]")
    dialog.get_by_role("button", name="Make link").click()
    expect(dialog).to_contain_text(said)
    visitor.expect_accessible()


@on_small_screens
def test_sharing_fits_a_phone_and_is_done_by_keys(
    browser: Browser, server: Server, folder_of_ten: str, width: int, scheme: str
) -> None:
    with visit(browser, server, permissions=CLIPBOARD, **small_screen(width, scheme)) as visitor:
        key = visitor.page.keyboard.press
        visitor.sign_in(server.token(), fragment(folder_of_ten))
        visitor.cell("0.jpg").focus()
        key("Space")
        key("Shift+ArrowRight")
        bar = visitor.page.get_by_label("Selected images")
        expect_fits(visitor, width)
        visitor.expect_accessible()
        for shown in bar.get_by_role("button").all():
            expect(shown).to_be_in_viewport(ratio=1)
        bar.get_by_role("button", name="Share").focus()
        key("Enter")
        dialog = visitor.page.locator(".question[open]")
        expect(dialog.get_by_label("1 day")).to_be_focused()
        key("ArrowUp")
        dialog.get_by_role("button", name="Make link").focus()
        key("Enter")
        expect(dialog.get_by_role("button", name="Copy")).to_be_focused()
        expect_fits(visitor, width)
        visitor.expect_accessible()
        visitor.picture(f"share-{width}-{scheme}")
        key("Enter")
        expect(visitor.text("Link copied.")).to_be_visible()
        link = visitor.page.evaluate("navigator.clipboard.readText()")
        key("Escape")
        expect(bar.get_by_role("button", name="Share")).to_be_focused()
    assert len(names_in_zip(link)) == 2
    assert seconds_left(link) <= timedelta(hours=1).total_seconds()
