"""The gallery's search: by prompt, model and seed, newest first, with what comes meanwhile."""

import time
import uuid
from collections.abc import Iterator

import pytest
from playwright.sync_api import APIResponse, Browser, Route, expect

from browser.scenery import scenery
from browser.visiting import a_file, confirm, fragment, visit, wait_for_index
from generation.carriers import chunk
from pictures import picture
from running import IMAGES, Server

pytestmark = pytest.mark.slow

LIBRARY = "/api/v1/media-resources"
PROMPTS = {
    "a/fox.png": "a red fox in the snow",
    "a/hills.png": "rolling hills at dawn, red sky",
    "b/fox.png": "a fox, red fur, watercolour",
    "b/lake.png": "a lake at night <b>&amp;</b>",
}


@pytest.fixture
def folder(server: Server) -> str:
    """A new folder with a few pictures, the last one newest."""
    made = uuid.uuid4().hex
    for seed, (name, prompt) in enumerate(PROMPTS.items()):
        save(server, f"{made}/{name}", prompt, seed)
    wait_for_index(server, made, len(PROMPTS))
    return made


@pytest.fixture
def library(server: Server, folder: str) -> Iterator[None]:
    """The same pictures in a library that has no others."""
    with server.client() as client:
        keys = [{"storage_key": f"compute/{folder}/{name}", "relocate": False} for name in PROMPTS]
        made = client.post(f"{LIBRARY}/ingest", json={"items": keys}).json()["results"]
        yield
        for one in made:
            client.delete(f"{LIBRARY}/{one['resource']['id']}").raise_for_status()


def save(server: Server, path: str, prompt: str, seed: int) -> None:
    model = "ink_v2" if seed % 2 else "sd_xl_base_1.0"
    text = f"parameters\0{prompt}\nSteps: 20, Seed: {seed}, Model: {model}"
    png = scenery(seed, edge=300, form="PNG")
    data = png[:33] + chunk(b"tEXt", text.encode()) + png[33:]
    with server.client() as client:
        client.post(f"{IMAGES}/{path}", files={"file": data}).raise_for_status()


def test_images_are_searched_and_shown_newest_first(
    browser: Browser, server: Server, folder: str
) -> None:
    with visit(browser, server) as visitor:
        visitor.sign_in(server.token(), fragment(f"{folder}/"))
        visitor.expect_names("a", "b")

        visitor.page.get_by_label("Sort").select_option("Newest first")
        visitor.expect_names("b/lake.png", "b/fox.png", "a/hills.png", "a/fox.png")
        expect(visitor.page.get_by_label("Sort")).to_have_value("-saved")
        visitor.expect_accessible()

        search = visitor.page.get_by_role("searchbox", name="Search")
        search.fill("RED fox")
        visitor.expect_names("b/fox.png", "a/fox.png")
        search.fill('"red fox"')
        visitor.expect_names("a/fox.png")
        search.fill("model:ink_v2 seed:3")
        expect(visitor.cell("b/lake.png")).to_be_visible()
        visitor.expect_names("b/lake.png")
        search.fill("wolf")
        expect(visitor.text("Nothing found")).to_be_visible()
        search.fill("fox")
        visitor.expect_names("b/fox.png", "a/fox.png")
        expect(visitor.page.locator(".cell.loaded")).to_have_count(2)
        heading = visitor.page.get_by_role("heading", level=1)
        expect(heading).to_have_text("Results for “fox”")
        visitor.picture("search")

        visitor.cell("b/fox.png").click()
        visitor.expect_picture("b/fox.png")
        visitor.page.keyboard.press("ArrowRight")
        visitor.expect_picture("a/fox.png")
        visitor.page.reload()
        visitor.expect_picture("a/fox.png")
        visitor.page.keyboard.press("Escape")
        visitor.expect_names("b/fox.png", "a/fox.png")

        visitor.cell("a/fox.png").click()
        visitor.page.keyboard.press("i")
        visitor.page.get_by_role("link", name="Same prompt").click()
        expect(visitor.cell(f"{folder}/a/fox.png")).to_be_visible()
        expect(search).to_have_value('prompt:"a red fox in the snow"')
        expect(heading).to_have_text('Results for “prompt:"a red fox in the snow"”')


def test_one_box_finds_beginnings_names_and_what_is_not_there(
    browser: Browser, server: Server, folder: str
) -> None:
    with visit(browser, server) as visitor:
        visitor.sign_in(server.token(), fragment(f"{folder}/"))
        visitor.expect_names("a", "b")
        search = visitor.page.get_by_role("searchbox")
        expect(search).to_have_count(1)
        visitor.page.keyboard.press("/")
        expect(search).to_be_focused()

        for text, names in (
            ("waterc", ["b/fox.png"]),
            ("red -watercolour", ["a/hills.png", "a/fox.png"]),
            ("name:FOX", ["b/fox.png", "a/fox.png"]),
            ("model:sdxl", ["b/fox.png", "a/fox.png"]),
            ("name:la size:<10MB after:2020", ["b/lake.png"]),
        ):
            search.fill(text)
            visitor.expect_names(*names)
        for text, said in (
            ("colour:red", 'There is no filter "colour:"'),
            ("size:large", '"size:" must be a limit, such as size:>2MB'),
            ("before:soon", '"before:" must be a day'),
        ):
            search.fill(text)
            expect(visitor.page.locator("#state")).to_contain_text(said)
        visitor.expect_accessible()
        search.fill("")
        visitor.expect_names("a", "b")
        visitor.page.keyboard.press("Tab")
        visitor.page.locator("#grid").focus()
        visitor.page.keyboard.press("?")
        expect(visitor.text("words that begin so")).to_be_visible()


@pytest.mark.usefixtures("library")
def test_the_library_is_searched_by_the_same_words(
    browser: Browser, server: Server, folder: str
) -> None:
    with visit(browser, server) as visitor:
        visitor.sign_in(server.token(), "#library")
        expect(visitor.cells).to_have_count(len(PROMPTS))

        search = visitor.page.get_by_role("searchbox", name="Search")
        search.fill('"red fox"')
        visitor.expect_names("fox.png")
        search.fill("model:ink_v2 seed:3")
        visitor.expect_names("lake.png")
        search.fill("wolf")
        expect(visitor.text("Nothing found")).to_be_visible()
        visitor.expect_accessible()
        search.fill(f"LAKE {folder}")
        visitor.expect_names("lake.png")
        visitor.picture("library-search")

        visitor.cell("lake.png").click()
        visitor.expect_picture("lake.png")
        visitor.page.reload()
        visitor.expect_picture("lake.png")
        visitor.page.keyboard.press("Escape")
        expect(visitor.viewer).to_be_hidden()  # by the history, before it is gone back in again
        visitor.expect_names("lake.png")
        expect(search).to_have_value(f"LAKE {folder}")
        visitor.page.go_back()
        expect(visitor.cells).to_have_count(len(PROMPTS))
        expect(search).to_have_value("")

        visitor.cell("lake.png").click()
        visitor.page.keyboard.press("i")
        expect(visitor.page.locator("#facts")).to_contain_text("a lake at night <b>&amp;</b>")
        visitor.page.get_by_role("link", name="Same seed").click()
        visitor.expect_names("lake.png")
        expect(search).to_have_value("seed:3")

        search.fill("wolf")
        visitor.page.get_by_role("link", name="Show the whole library").click()
        expect(visitor.cells).to_have_count(len(PROMPTS))


def test_a_search_that_finds_nothing_in_a_folder_goes_on_in_all_folders(
    browser: Browser, server: Server, folder: str
) -> None:
    with visit(browser, server) as visitor:
        visitor.sign_in(server.token(), f"{fragment(f'{folder}/a/')}?search=lake")
        expect(visitor.page.get_by_role("heading", name="Nothing found")).to_be_visible()
        visitor.picture("nothing-found")
        visitor.page.get_by_role("link", name="Search all folders").click()
        expect(visitor.cell(f"{folder}/b/lake.png")).to_be_visible()
        expect(visitor.page.locator("#search")).to_have_value("lake")

        visitor.page.locator("#search").fill("no such words")
        expect(visitor.page.get_by_role("heading", name="Nothing found")).to_be_visible()
        expect(visitor.page.get_by_role("link", name="Search all folders")).to_have_count(0)


def test_a_search_that_has_found_nothing_shows_what_comes(
    browser: Browser, server: Server, folder: str
) -> None:
    with visit(browser, server) as visitor:
        visitor.sign_in(server.token(), f"{fragment(f'{folder}/')}?search=wolf")
        expect(visitor.text("Nothing found")).to_be_visible()

        save(server, f"{folder}/a/wolf.png", "a wolf", 9)
        visitor.expect_names("a/wolf.png")


def test_the_first_image_of_a_folder_appears_in_it(
    browser: Browser, server: Server, folder: str
) -> None:
    with visit(browser, server) as visitor:
        with visitor.page.expect_response(lambda answer: "storage/search?" in answer.url):
            visitor.sign_in(server.token(), fragment(f"{folder}/c/"))

        save(server, f"{folder}/c/wolf.png", "a wolf", 9)
        visitor.expect_names("wolf.png")


def test_what_others_save_appears_while_a_place_is_open(
    browser: Browser, server: Server, folder: str
) -> None:
    with visit(browser, server) as visitor:
        visitor.sign_in(server.token(), fragment(f"{folder}/a/"))
        visitor.expect_names("fox.png", "hills.png")
        with visitor.page.expect_response(lambda answer: "storage/search?" in answer.url):
            pass  # from here on it knows what is new

        save(server, f"{folder}/a/new.png", "a fox", 9)
        expect(visitor.cell("new.png")).to_be_visible()

        visitor.page.get_by_label("Sort").select_option("Newest first")
        visitor.expect_names("new.png", "hills.png", "fox.png")
        save(server, f"{folder}/a/newer.png", "a fox", 10)
        visitor.page.get_by_role("button", name="1 new").click()
        visitor.expect_names("newer.png", "new.png", "hills.png", "fox.png")


def test_what_was_deleted_meanwhile_does_not_appear_again(
    browser: Browser, server: Server, folder: str
) -> None:
    held: list[tuple[Route, APIResponse]] = []

    def hold_what_is_found(route: Route) -> None:
        found = route.fetch()
        if "new.png" in found.text() and not held:
            held.append((route, found))
        else:
            route.fulfill(response=found)

    with visit(browser, server) as visitor:
        visitor.page.route("**/storage/search?*", hold_what_is_found)
        with visitor.page.expect_response(lambda answer: "storage/search?" in answer.url):
            visitor.sign_in(server.token(), fragment(f"{folder}/a/"))
        visitor.page.locator("#files").set_input_files([a_file("new.png", picture(1))])
        visitor.expect_names("fox.png", "hills.png", "new.png")
        ends = time.monotonic() + 60
        while not held:
            assert time.monotonic() < ends, "no look has found it"
            visitor.page.wait_for_timeout(50)  # until it holds; there is a deadline
        visitor.cell("new.png").click(modifiers=["Control"])
        visitor.page.keyboard.press("Delete")
        confirm(visitor, "Delete 1 image")
        visitor.expect_names("fox.png", "hills.png")
        ((route, found),) = held
        with visitor.page.expect_response(lambda answer: "saved_from" in answer.url):
            route.fulfill(response=found)
        with visitor.page.expect_response(lambda answer: "saved_from" in answer.url):
            pass  # the next look: what the first one found was shown before it
        visitor.expect_names("fox.png", "hills.png")


def test_a_search_that_is_gone_back_to_shows_nothing_that_was_deleted_since(
    browser: Browser, server: Server, folder: str
) -> None:
    with visit(browser, server) as visitor:
        visitor.sign_in(server.token(), f"{fragment(f'{folder}/')}?search=fox")
        visitor.expect_names("b/fox.png", "a/fox.png")
        visitor.page.evaluate("hash => { location.hash = hash; }", fragment(f"{folder}/b/"))
        visitor.expect_names("fox.png", "lake.png")
        visitor.cell("fox.png").click(modifiers=["Control"])
        visitor.page.keyboard.press("Delete")
        confirm(visitor, "Delete 1 image")
        visitor.expect_names("lake.png")

        visitor.page.go_back()
        visitor.expect_names("a/fox.png")
