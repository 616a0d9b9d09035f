"""The poster of a video is a part of it: in the library, in searches, and when it is deleted."""

from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from playwright.sync_api import Response, Route, expect

from browser.scenery import scenery
from browser.visiting import Visit, confirm, fragment, save, stored, wait_for_index
from running import IMAGES, Server
from videos import Mp4, frames
from waiting import until

pytestmark = pytest.mark.slow

LIBRARY = "/api/v1/media-resources"
IS_SHOWN = "() => document.querySelector('.cell[title=\"taken.mp4\"] img')?.naturalWidth > 0"


def poster(folder: str) -> bytes:
    """A picture of its own: the library has each content once."""
    return scenery(int(folder.strip("/"), 16), edge=240, form="WEBP")


def video(folder: str) -> bytes:
    return Mp4(frames()).file(moov_first=True) + b"\0\0\0\x10free" + folder[:8].encode()


def delete_originals(client: httpx.Client, folder: str) -> None:
    paths = [folder + path for path in stored(client, folder)]
    client.post(f"{IMAGES.removesuffix('images')}delete", json={"paths": paths}).raise_for_status()


@pytest.fixture
def of_poster(server: Server, client: httpx.Client, folder: str) -> dict[str, str]:
    """Finds the poster of a video that was moved into the library, with nothing left outside."""
    save(client, f"{folder}taken.mp4", video(folder))
    save(client, f"{folder}taken.mp4.poster.webp", poster(folder))
    ingest = {"storage_key": f"compute/{folder}taken.mp4"}
    made = client.post(f"{LIBRARY}/ingest", json=ingest).raise_for_status().json()
    tags = {"tags": [folder.strip("/")]}
    client.post(f"{LIBRARY}/{made['id']}/tags", json=tags).raise_for_status()
    wait_for_index(server, folder.strip("/"), 2)
    delete_originals(client, folder)
    found = {"q": f"tag:{folder.strip('/')}"}
    until(lambda: len(client.get(LIBRARY, params=found).json()) == 1)
    return {"source_key": f"compute/{folder}taken.mp4.poster.webp"}


def test_a_video_that_is_moved_to_the_library_takes_its_poster_along(
    visitor: Visit, server: Server, client: httpx.Client, folder: str
) -> None:
    save(client, f"{folder}taken.mp4", video(folder))
    save(client, f"{folder}taken.mp4.poster.webp", poster(folder))
    visitor.sign_in(server.token(), fragment(folder))
    visitor.cell("taken.mp4").click(modifiers=["Control"])
    visitor.page.get_by_role("button", name="Add to library").click()
    question = visitor.page.locator(".question[open]")
    question.get_by_role("button", name="Move", exact=True).click()
    expect(visitor.text("1 image moved to the library.")).to_be_visible()
    delete_originals(client, folder)

    visitor.go("#library")
    expect(visitor.cell("taken.mp4").first).to_be_visible()
    visitor.page.wait_for_function(IS_SHOWN)
    expect(visitor.cell("taken.mp4.poster.webp")).to_have_count(0)


@pytest.mark.usefixtures("of_poster")
def test_a_search_of_the_library_that_finds_only_a_video_shows_its_poster(
    visitor: Visit, server: Server, folder: str
) -> None:
    visitor.sign_in(server.token(), f"#library?search=tag:{folder.strip('/')}")

    visitor.expect_names("taken.mp4")
    visitor.page.wait_for_function(IS_SHOWN)


@pytest.mark.parametrize("is_described", [False, True])
def test_a_poster_is_deleted_with_its_video_unless_it_has_texts_of_its_own(
    visitor: Visit,
    server: Server,
    client: httpx.Client,
    folder: str,
    of_poster: dict[str, str],
    *,
    is_described: bool,
) -> None:
    (found,) = client.get(LIBRARY, params=of_poster).json()
    if is_described:
        caption = {"caption": "A hill"}
        client.patch(f"{LIBRARY}/{found['id']}", json=caption).raise_for_status()
    visitor.sign_in(server.token(), f"#library?search=tag:{folder.strip('/')}")
    visitor.cell("taken.mp4").click(modifiers=["Control"])
    visitor.page.wait_for_function(IS_SHOWN)

    def is_last_look(answer: Response) -> bool:
        asked = answer.request.post_data or ""
        return answer.url.endswith("/batch") and f"{folder.strip('/')}%2Ftaken.mp4&" in asked

    visitor.page.keyboard.press("Delete")
    with visitor.page.expect_response(is_last_look):
        confirm(visitor, "Delete 1 image from the library?")
    expect(visitor.cell("taken.mp4")).to_have_count(0)

    if is_described:
        visitor.go("#library")
        expect(visitor.cell("taken.mp4.poster.webp").first).to_be_visible()
        (left,) = client.get(LIBRARY, params=of_poster).json()
        assert (left["id"], left["caption"]) == (found["id"], "A hill")
    else:
        until(lambda: client.get(LIBRARY, params=of_poster).json() == [])


def test_the_poster_of_a_video_that_stays_in_its_folder_is_not_deleted(
    visitor: Visit, server: Server, client: httpx.Client, folder: str
) -> None:
    save(client, f"{folder}taken.mp4", video(folder))
    save(client, f"{folder}taken.mp4.poster.webp", poster(folder))
    source = f"compute/{folder}taken.mp4"
    for item in (
        {"storage_key": source, "relocate": False},
        {"storage_key": f"{source}.poster.webp"},
    ):
        client.post(f"{LIBRARY}/ingest", json=item).raise_for_status()
    (made,) = client.get(LIBRARY, params={"source_key": source}).json()
    tags = {"tags": [folder.strip("/")]}
    client.post(f"{LIBRARY}/{made['id']}/tags", json=tags).raise_for_status()
    found = {"q": f"tag:{folder.strip('/')}"}
    until(lambda: len(client.get(LIBRARY, params=found).json()) == 1)
    visitor.sign_in(server.token(), f"#library?search=tag:{folder.strip('/')}")
    visitor.cell("taken.mp4").click(modifiers=["Control"])
    visitor.page.keyboard.press("Delete")
    confirm(visitor, "Delete 1 image from the library?")
    expect(visitor.cell("taken.mp4")).to_have_count(0)

    (left,) = client.get(LIBRARY, params={"source_key": f"{source}.poster.webp"}).json()
    assert left["storage_key"].startswith("media/")
    assert client.get(f"{IMAGES}/{folder}taken.mp4").status_code == 200


def test_a_search_shows_a_video_in_place_of_its_poster(
    visitor: Visit, server: Server, client: httpx.Client, folder: str
) -> None:
    save(client, f"{folder}a.mp4", video(folder))
    save(client, f"{folder}a.mp4.poster.webp", scenery(11, edge=240, form="WEBP"))
    save(client, f"{folder}b.mp4.poster.webp", scenery(12, edge=240, form="WEBP"))
    wait_for_index(server, folder.strip("/"), 3)
    visitor.sign_in(server.token(), f"{fragment(folder)}?search=")
    visitor.expect_names("b.mp4.poster.webp", "a.mp4")
    visitor.page.get_by_role("searchbox").fill("type:image/webp")
    visitor.expect_names("b.mp4.poster.webp", "a.mp4")
    with visitor.page.expect_response(lambda response: "storage/search?" in response.url):
        pass  # the look for what has come since
    expect(visitor.page.locator("#fresh")).to_be_hidden()

    save(client, f"{folder}c.mp4", video(folder))
    save(client, f"{folder}c.mp4.poster.webp", scenery(13, edge=240, form="WEBP"))
    wait_for_index(server, folder.strip("/"), 5)
    expect(visitor.page.locator("#fresh")).to_have_text("1 new")


def test_a_page_of_a_search_that_has_only_posters_is_followed_by_the_next(
    visitor: Visit, server: Server, client: httpx.Client, folder: str
) -> None:
    names = ("a.mp4", "b.jpg", "a.mp4.poster.webp", "c.jpg")
    for number, name in enumerate(names):
        data = video(folder) if name == "a.mp4" else scenery(number, edge=240)
        save(client, f"{folder}{name}", data)
    wait_for_index(server, folder.strip("/"), len(names))
    pages = {
        "first": (names[:2], "second"),
        "second": (names[2:3], "last"),
        "last": (names[3:], None),
    }

    def page_by_page(route: Route) -> None:
        url = route.request.url.partition("&cursor=")[0]
        found = {item["path"]: item for item in route.fetch(url=url).json()["items"]}
        cursor = parse_qs(urlsplit(route.request.url).query).get("cursor", ["first"])[0]
        page, following = pages[cursor]
        items = [found[f"{folder}{name}"] for name in page]
        route.fulfill(json={"items": items, "next": following})

    visitor.page.route("**/storage/search?*", page_by_page)
    visitor.sign_in(server.token(), f"{fragment(folder)}?search=")
    visitor.expect_names("a.mp4", "b.jpg", "c.jpg")
    expect(visitor.page.locator("#told")).to_have_text("3 entries")
