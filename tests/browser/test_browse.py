"""Browsing in the gallery: lists of models, tags and days with counts, and the order of images."""

import os
import re
from datetime import UTC, datetime, timedelta
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
from command_line import ran
from running import Server
from stillroom.generation.writing.embed import with_generation

pytestmark = pytest.mark.slow

LIBRARY = "/api/v1/media-resources"
MODELS: dict[str, dict[str, Any]] = {
    "a.jpg": {"model": "ink_v2", "sampler": "Euler a", "loras": [{"name": "fog", "weight": 1}]},
    "b.jpg": {"model": "ink_v2", "sampler": "DPM++ 2M"},
    "below/c.jpg": {"model": 'sd "xl" base', "sampler": "Euler a", "tool": "ComfyUI"},
}


@pytest.fixture
def pictures(server: Server, client: httpx.Client, folder: str) -> str:
    """A folder of pictures that say how they were made, the last one newest."""
    for seed, (name, facts) in enumerate(MODELS.items()):
        save(client, folder + name, with_generation(scenery(seed, edge=240), facts))
        wait_for_index(server, folder.rstrip("/"), seed + 1)
    return folder


def browse(visitor: Visit) -> Any:
    """The dialog with the lists, when they are there."""
    visitor.page.get_by_role("button", name="Browse").click()
    dialog = visitor.page.locator(".question[open]")
    expect(dialog.get_by_role("heading", name="Days")).to_be_visible()
    return dialog


def section(dialog: Any, title: str) -> Any:
    return dialog.locator("section").filter(has=dialog.page.get_by_role("heading", name=title))


def test_lists_of_models_and_samplers_lead_to_searches_and_back(
    visitor: Visit, server: Server, pictures: str
) -> None:
    visitor.sign_in(server.token(), fragment(pictures))
    visitor.expect_names("a.jpg", "b.jpg", "below")
    dialog = browse(visitor)
    expect(dialog).to_contain_text("3 images.")
    expect(section(dialog, "Models").get_by_role("link")).to_have_text(
        ["ink_v22", 'sd "xl" base1'], use_inner_text=False
    )
    expect(section(dialog, "LoRAs").get_by_role("link", name="fog 1")).to_be_visible()
    expect(section(dialog, "Samplers").get_by_role("link").first).to_have_text("Euler a2")
    expect(section(dialog, "Tools").get_by_role("link", name="ComfyUI 1")).to_be_visible()
    expect(section(dialog, "Days").get_by_role("link")).to_have_count(1)
    visitor.expect_accessible()
    visitor.picture("browse")

    section(dialog, "Models").get_by_role("link", name="sd").click()
    visitor.expect_names("below/c.jpg")
    search = visitor.page.get_by_role("searchbox", name="Search")
    expect(search).to_have_value('model:"sd ""xl"" base"')
    expect(dialog).to_have_count(0)

    visitor.page.go_back()
    visitor.expect_names("a.jpg", "b.jpg", "below")
    section(browse(visitor), "Samplers").get_by_role("link", name="Euler a").click()
    visitor.expect_names("below/c.jpg", "a.jpg")
    dialog = browse(visitor)
    expect(dialog).to_contain_text('2 images found by sampler:"Euler a".')
    section(dialog, "LoRAs").get_by_role("link", name="fog").click()
    visitor.expect_names("a.jpg")
    expect(search).to_have_value('sampler:"Euler a" lora:"fog"')
    here = section(browse(visitor), "Samplers").get_by_role("link", name="Euler a")
    expect(here).to_have_attribute("aria-current", "true")
    here.click()  # once more takes the filter away
    expect(search).to_have_value('lora:"fog"')
    visitor.expect_names("a.jpg")


def test_tags_are_listed_for_those_who_see_the_library(
    browser: Browser, server: Server, client: httpx.Client, pictures: str
) -> None:
    key = {"storage_key": f"compute/{pictures}a.jpg", "relocate": False}
    made = client.post(f"{LIBRARY}/ingest", json=key).json()
    tags = {"tags": ["deep sea"]}
    client.post(f"{LIBRARY}/{made['id']}/tags", json=tags).raise_for_status()
    with visit(browser, server) as visitor:
        visitor.sign_in(server.token(), fragment(pictures))
        visitor.expect_names("a.jpg", "b.jpg", "below")
        section(browse(visitor), "Tags").get_by_role("link", name="deep sea 1").click()
        visitor.expect_names("a.jpg")
        expect(visitor.page.locator("#search")).to_have_value('tag:"deep sea"')
        visitor.page.locator("#tab-library").click()
        expect(visitor.page.locator("#browse")).to_be_hidden()
    client.delete(f"{LIBRARY}/{made['id']}").raise_for_status()
    with visit(browser, server) as visitor:
        visitor.sign_in(server.token("--prefix", pictures))
        visitor.expect_names("a.jpg", "b.jpg", "below")
        dialog = browse(visitor)
        expect(section(dialog, "Models")).to_have_count(1)
        expect(section(dialog, "Tags")).to_have_count(0)


def test_a_timeline_leads_to_months_and_days(browser: Browser, server: Server, folder: str) -> None:
    room = server.data / "compute" / folder
    room.mkdir(parents=True)
    day = datetime(2025, 3, 30, 12, tzinfo=UTC)
    for number in range(70):
        file = room / f"{number:02}.jpg"
        file.write_bytes(scenery(number % 3, edge=100))
        moment = (day + timedelta(days=number)).timestamp()
        os.utime(file, (moment, moment))
    environment = {"STILLROOM_DATA_DIR": str(server.data)}
    assert ran(server.data, ("index", "rebuild"), environment).code == 0
    wait_for_index(server, folder.rstrip("/"), 70)
    with visit(browser, server) as visitor:
        visitor.sign_in(server.token(), fragment(folder))
        expect(visitor.cells.first).to_be_visible()
        visitor.page.get_by_role("button", name="Browse").click()
        months = section(visitor.page.locator(".question[open]"), "Months")
        expect(months.get_by_role("link")).to_have_count(4)
        visitor.picture("timeline-months")
        visitor.expect_accessible()
        months.get_by_role("link", name="March 2025: 2 images").click()
        visitor.expect_names("01.jpg", "00.jpg")
        expect(visitor.page.locator("#search")).to_have_value("after:2025-03 before:2025-04")

        days = section(browse(visitor), "Days")
        visitor.picture("timeline-days")
        days.get_by_role("link", name="Mar 31, 2025: 1 image").click()
        visitor.expect_names("01.jpg")


def test_images_are_sorted_by_name_time_and_size(
    visitor: Visit, server: Server, client: httpx.Client, folder: str
) -> None:
    for number, (name, edge) in enumerate((("b.jpg", 900), ("c/d.jpg", 120), ("a.jpg", 400))):
        save(client, folder + name, scenery(7, edge=edge))
        wait_for_index(server, folder.rstrip("/"), number + 1)
    visitor.sign_in(server.token(), fragment(folder))
    visitor.expect_names("a.jpg", "b.jpg", "c")
    sort = visitor.page.get_by_label("Sort")
    expect(sort).to_have_value("path")
    for order, names in (
        ("Newest first", ["a.jpg", "c/d.jpg", "b.jpg"]),
        ("Oldest first", ["b.jpg", "c/d.jpg", "a.jpg"]),
        ("Largest first", ["b.jpg", "a.jpg", "c/d.jpg"]),
        ("Smallest first", ["c/d.jpg", "a.jpg", "b.jpg"]),
    ):
        sort.select_option(order)
        visitor.expect_names(*names)
    visitor.expect_accessible()

    visitor.cell("a.jpg").click()
    visitor.expect_picture("a.jpg")
    visitor.page.reload()
    visitor.expect_picture("a.jpg")
    visitor.page.keyboard.press("ArrowRight")
    visitor.expect_picture("b.jpg")
    visitor.page.keyboard.press("Escape")
    visitor.expect_names("c/d.jpg", "a.jpg", "b.jpg")
    expect(sort).to_have_value("size")

    visitor.page.get_by_role("searchbox", name="Search").fill("name:a")
    visitor.expect_names("a.jpg")
    expect(sort).to_have_value("size")
    visitor.page.get_by_role("searchbox", name="Search").fill("")
    visitor.expect_names("c/d.jpg", "a.jpg", "b.jpg")
    sort.select_option("Name")
    visitor.expect_names("a.jpg", "b.jpg", "c")
    visitor.page.go_back()
    visitor.expect_names("c/d.jpg", "a.jpg", "b.jpg")


def test_images_that_come_are_counted_in_every_order(
    visitor: Visit, server: Server, client: httpx.Client, pictures: str
) -> None:
    visitor.sign_in(server.token(), f"{fragment(pictures)}?search=&sort=saved")
    visitor.expect_names("a.jpg", "b.jpg", "below/c.jpg")
    newest = re.compile(r"storage/search\?(?!.*sort=)")
    with visitor.page.expect_response(newest):
        pass  # from here on it knows what is new
    save(client, f"{pictures}d.jpg", scenery(9, edge=240))
    visitor.page.get_by_role("button", name="1 new").click()
    visitor.expect_names("a.jpg", "b.jpg", "below/c.jpg", "d.jpg")
    expect(visitor.page.locator("#fresh")).to_be_hidden()


def test_a_search_that_does_not_work_says_so_in_the_lists_too(
    visitor: Visit, server: Server, folder_of_ten: str
) -> None:
    visitor.sign_in(server.token(), f"{fragment(folder_of_ten)}?search=colour:red")
    expect(visitor.page.locator("#state")).to_contain_text('There is no filter "colour:"')
    visitor.page.get_by_role("button", name="Browse").click()
    dialog = visitor.page.locator(".question[open]")
    expect(dialog).to_contain_text('There is no filter "colour:"')
    visitor.expect_accessible()


@on_small_screens
def test_the_lists_fit_a_phone_and_are_used_by_keys(
    browser: Browser, server: Server, client: httpx.Client, folder: str, width: int, scheme: str
) -> None:
    name = f"{'a_longmodelname' * 9}_v2"
    for number in range(13):
        model = f"v{number:02}_{name}"
        facts = {"model": model, "sampler": "Euler a", "tool": name}
        save(client, f"{folder}{number:02}.jpg", with_generation(scenery(number, edge=120), facts))
    wait_for_index(server, folder.rstrip("/"), 13)
    with visit(browser, server, **small_screen(width, scheme)) as visitor:
        press = visitor.page.keyboard.press
        visitor.sign_in(server.token(), fragment(folder))
        expect(visitor.page.locator(".cell.loaded")).to_have_count(13)
        expect_fits(visitor, width)
        visitor.cell("00.jpg").focus()
        press("b")
        dialog = visitor.page.locator(".question[open]")
        expect(section(dialog, "Days").get_by_role("link")).to_be_focused()
        expect_fits(visitor, width)
        visitor.expect_accessible()
        visitor.picture(f"browse-{width}-{scheme}")
        expect(section(dialog, "Models").get_by_role("link")).to_have_count(10)
        section(dialog, "Models").get_by_role("button", name="All 13 Models").focus()
        press("Enter")
        expect(section(dialog, "Models").get_by_role("link")).to_have_count(13)
        expect(section(dialog, "Models").get_by_role("link").nth(10)).to_be_focused()
        press("Enter")
        expect(visitor.cells).to_have_count(1)
        press("b")
        expect(dialog).to_be_visible()
        press("Escape")
        expect(dialog).to_have_count(0)
