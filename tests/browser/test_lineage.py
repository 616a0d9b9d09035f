"""Lineage in the gallery: an image shows what it was made from, and what was made from it."""

import hashlib
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, expect

from browser.scenery import scenery
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
from running import Server
from stillroom.generation.writing.embed import with_generation
from waiting import until

pytestmark = pytest.mark.slow


def save_made_from(client: httpx.Client, path: str, seed: int, *sources: str) -> None:
    facts = {"prompt": "a fox", "derived_from": list(sources)}
    save(client, path, with_generation(scenery(seed, edge=240), facts))


def facts_of(visitor: Visit, label: str) -> Any:
    """What the details say under a label."""
    return visitor.page.locator("#facts dt", has_text=label).locator(
        "xpath=following-sibling::dd[1]"
    )


@pytest.fixture
def family(server: Server, client: httpx.Client, folder: str) -> str:
    """A base, two pictures made from it (one names its hash), and one made from one of these."""
    base = scenery(int(folder[:8], 16), edge=240)  # no other test has its hash
    save(client, f"{folder}base.jpg", base)
    save_made_from(client, f"{folder}made/one.jpg", 2, f"{folder}base.jpg", "somewhere/else.png")
    save_made_from(client, f"{folder}made/two.jpg", 3, hashlib.sha256(base).hexdigest())
    save_made_from(client, f"{folder}made/last.jpg", 4, f"{folder}made/two.jpg")
    wait_for_index(server, folder.rstrip("/"), 4)
    return folder


def test_a_picture_leads_to_what_it_was_made_from_and_into(
    visitor: Visit, server: Server, family: str
) -> None:
    visitor.sign_in(server.token(), fragment(f"{family}made/"))
    visitor.cell("last.jpg").click()
    visitor.expect_picture("last.jpg")
    visitor.page.keyboard.press("i")
    sources = facts_of(visitor, "Made from")
    expect(sources.locator("a.loaded")).to_have_count(1)
    expect(visitor.page.locator("#facts dt", has_text="Made from")).to_have_count(1)
    expect(visitor.page.locator("#facts")).not_to_contain_text("Made into")
    visitor.expect_accessible()
    visitor.picture("lineage")
    sources.get_by_role("link", name=f"{family}made/two.jpg").click()
    visitor.expect_picture("two.jpg")
    expect(facts_of(visitor, "Made into (1)").locator("a.loaded")).to_have_count(1)
    facts_of(visitor, "Made from").get_by_role("link", name=f"{family}base.jpg").click()
    visitor.expect_picture("base.jpg")
    assert visitor.page.url.endswith(fragment(f"{family}base.jpg"))
    expect(visitor.page.locator("#viewer-place")).to_have_text("1 of 2")
    made = facts_of(visitor, "Made into (2)").get_by_role("link")
    expect(made).to_have_count(2)
    assert {one.get_attribute("title") for one in made.all()} == {
        f"{family}made/one.jpg",
        f"{family}made/two.jpg",
    }

    visitor.page.keyboard.press("Escape")  # back on the way that was come
    visitor.expect_picture("two.jpg")
    visitor.page.keyboard.press("Escape")
    visitor.expect_picture("last.jpg")
    visitor.page.keyboard.press("Escape")
    expect(visitor.viewer).to_be_hidden()
    visitor.expect_names("last.jpg", "one.jpg", "two.jpg")


def test_sources_that_are_not_stored_here_are_named(
    visitor: Visit, server: Server, client: httpx.Client, family: str
) -> None:
    visitor.sign_in(server.token(), fragment(f"{family}made/one.jpg"))
    visitor.expect_picture("one.jpg")
    visitor.page.keyboard.press("i")
    sources = facts_of(visitor, "Made from")
    expect(sources.get_by_role("link")).to_have_count(1)
    expect(sources).to_contain_text("somewhere/else.png")

    client.delete(f"/api/v1/storage/images/{family}base.jpg").raise_for_status()
    metadata = f"/api/v1/storage/metadata/{family}made/one.jpg"
    until(lambda: client.get(metadata).json()["derived_from"] == [])
    visitor.page.reload()
    visitor.expect_picture("one.jpg")
    expect(sources).to_contain_text(f"{family}base.jpg")
    expect(sources.get_by_role("link")).to_have_count(0)


def test_a_source_that_is_missing_is_named_beside_two_copies_of_another(
    visitor: Visit, server: Server, client: httpx.Client, folder: str
) -> None:
    base = scenery(int(folder[:8], 16), edge=240)
    for name in ("base.jpg", "copy.jpg"):
        save(client, f"{folder}{name}", base)
    sources = (hashlib.sha256(base).hexdigest(), "lost/fox.png", "base.jpg")
    save_made_from(client, f"{folder}made.jpg", 2, *sources)
    wait_for_index(server, folder.rstrip("/"), 3)
    visitor.sign_in(server.token(), fragment(f"{folder}made.jpg"))
    visitor.expect_picture("made.jpg")
    visitor.page.keyboard.press("i")
    expect(facts_of(visitor, "Made from").get_by_role("link")).to_have_count(2)
    expect(facts_of(visitor, "Made from").locator("p")).to_have_text("lost/fox.png")


@on_small_screens
def test_more_than_a_dozen_are_a_search_and_all_fits_a_phone(
    browser: Browser, server: Server, client: httpx.Client, folder: str, width: int, scheme: str
) -> None:
    base = f"{folder}{'a_long_name_' * 9}base.jpg"
    save(client, base, scenery(int(folder[:8], 16), edge=240))
    for number in range(14):
        save_made_from(client, f"{folder}made/{number:02}.jpg", number, base)
    wait_for_index(server, folder.rstrip("/"), 15)
    with visit(browser, server, **small_screen(width, scheme)) as visitor:
        visitor.sign_in(server.token(), fragment(base))
        visitor.expect_picture(base.rpartition("/")[2])
        visitor.page.keyboard.press("i")
        made = facts_of(visitor, "Made into (14)")
        expect(made.locator("a.loaded")).to_have_count(12)
        made.scroll_into_view_if_needed()
        expect_fits(visitor, width)
        visitor.expect_accessible()
        visitor.picture(f"lineage-{width}-{scheme}")
        made.get_by_role("link", name="All 14").focus()
        visitor.page.keyboard.press("Enter")
        expect(visitor.viewer).to_be_hidden()
        expect(visitor.cells).to_have_count(14)
        expect(visitor.page.locator("#search")).to_have_value(f'derived_from:"{base}"')
