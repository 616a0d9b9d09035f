"""The gallery's library: what people say of a resource is edited, and resources are deleted."""

import re
import zipfile
from uuid import uuid4

import httpx
import pytest
from playwright.sync_api import expect

from browser.scenery import scenery
from browser.visiting import LONGEST_MS, Visit, confirm, fragment, save, stored
from pictures import picture
from running import IMAGES, Server

pytestmark = pytest.mark.slow

LIBRARY = "/api/v1/media-resources"


@pytest.fixture
def url(client: httpx.Client) -> str:
    """That of a new resource."""
    path = f"{uuid4().hex}/cat.jpg"
    data = scenery(uuid4().int % 10**6, edge=300)
    client.post(f"{IMAGES}/{path}", files={"file": data}).raise_for_status()
    made = client.post(f"{LIBRARY}/ingest", json={"storage_key": f"compute/{path}"}).json()
    return f"{LIBRARY}/{made['id']}"


def open_form(visitor: Visit, server: Server, url: str) -> None:
    visitor.sign_in(server.token(), f"#library/{url.rpartition('/')[2]}")
    visitor.expect_picture("cat.jpg")
    visitor.viewer.get_by_role("button", name="Edit").click()
    expect(visitor.page.get_by_role("heading", name="Edit", exact=True)).to_be_visible()


def press_save(visitor: Visit) -> None:
    visitor.page.get_by_role("button", name="Save", exact=True).click()


def test_caption_alt_text_tags_and_protection_are_edited(
    visitor: Visit, server: Server, client: httpx.Client, url: str
) -> None:
    client.post(f"{url}/tags", json={"tags": ["draft", "cat"]}).raise_for_status()
    open_form(visitor, server, url)
    form = visitor.page.locator(".question[open]")
    expect(form.locator(".chip")).to_have_text(["cat", "draft"])
    form.get_by_label("Caption").fill("Tom <b>in</b> the\nmorning")
    form.get_by_label("Alt text").fill("A cat on a sill")
    form.get_by_role("button", name="Remove the tag draft").click()
    form.get_by_label("Tags").fill("sea, storm, oil")
    expect(form.locator(".chip")).to_have_text(["cat", "sea", "storm", "oil"])
    form.get_by_label("Tags").fill("deep sea")
    form.get_by_label("Protected").check()
    visitor.picture("edit")
    visitor.expect_accessible()
    press_save(visitor)

    expect(visitor.page.locator("#viewer-name")).to_have_text("cat.jpg")
    expect(visitor.page.get_by_role("heading", name="Edit", exact=True)).to_be_hidden()
    found = client.get(url).json()
    assert (found["caption"], found["alt_text"]) == (
        "Tom <b>in</b> the\nmorning",
        "A cat on a sill",
    )
    assert (found["tags"], found["protected"]) == (["cat", "deep sea", "oil", "sea", "storm"], True)
    visitor.page.keyboard.press("i")
    facts = visitor.page.locator("#facts")
    expect(facts.locator(".chip")).to_have_text(["cat", "deep sea", "oil", "sea", "storm"])
    expect(facts).to_contain_text("A cat on a sill")
    visitor.picture("edited")
    visitor.page.keyboard.press("Escape")
    tile = visitor.page.get_by_label("cat.jpg, A cat on a sill", exact=True)
    expect(tile).to_be_focused()

    tile.hover()
    tile.locator(".mark").click()
    visitor.page.get_by_label("Selected images").get_by_role("button", name="Edit").click()
    form.get_by_label("Alt text").fill("")
    form.get_by_label("Protected").uncheck()
    form.get_by_label("Tags").fill("x" * 65)
    press_save(visitor)
    expect(form.get_by_role("alert")).to_contain_text("64 bytes")
    form.get_by_label("Tags").fill("-bad,good,")
    expect(form.get_by_role("alert")).to_have_text(
        "A tag does not begin with a minus. Remove the minus."
    )
    expect(form.get_by_label("Tags")).to_have_value("-bad")
    expect(form.get_by_role("button", name="Remove the tag good")).to_be_visible()
    visitor.picture("tag-refused")
    form.get_by_label("Tags").fill("")
    while form.locator(".chip").count():
        form.locator(".chip").first.click()
    press_save(visitor)
    expect(form).to_have_count(0)  # the message of the first time may still be there
    found = client.get(url).json()
    assert (found["alt_text"], found["tags"], found["protected"]) == (None, [], False)


def test_what_was_changed_elsewhere_is_shown_and_not_overwritten_in_silence(
    visitor: Visit, server: Server, client: httpx.Client, url: str
) -> None:
    open_form(visitor, server, url)
    form = visitor.page.locator(".question[open]")
    theirs = {"caption": "Theirs", "alt_text": "Their alt", "dominant_color": "#010203"}
    client.patch(url, json=theirs).raise_for_status()
    client.post(f"{url}/tags", json={"tags": ["theirs"]}).raise_for_status()
    form.get_by_label("Caption").fill("Mine")
    form.get_by_label("Tags").fill("mine")
    press_save(visitor)

    notice = form.get_by_role("alert")
    expect(notice).to_contain_text("Caption: “Theirs”")
    expect(form.get_by_label("Alt text")).to_have_value("Their alt")
    visitor.picture("edit-clash")
    visitor.expect_accessible()
    assert client.get(url).json()["caption"] == "Theirs"
    form.get_by_role("button", name="Use theirs").click()
    expect(form.get_by_label("Caption")).to_have_value("Theirs")
    expect(notice).to_be_hidden()

    form.get_by_label("Caption").fill("Mine")
    form.get_by_label("Tags").fill("mine")
    client.patch(url, json={"caption": "Again theirs"}).raise_for_status()
    press_save(visitor)
    expect(notice).to_contain_text("Caption: “Again theirs”")
    press_save(visitor)
    expect(form).to_be_hidden()
    found = client.get(url).json()
    assert (found["caption"], found["alt_text"]) == ("Mine", "Their alt")
    assert found["tags"] == ["mine", "theirs"]


def test_a_change_elsewhere_of_something_else_stays_and_asks_nothing(
    visitor: Visit, server: Server, client: httpx.Client, url: str
) -> None:
    open_form(visitor, server, url)
    form = visitor.page.locator(".question[open]")
    client.patch(url, json={"alt_text": "Their alt"}).raise_for_status()
    client.post(f"{url}/tags", json={"tags": ["theirs"]}).raise_for_status()
    form.get_by_label("Caption").fill("Mine")
    form.get_by_label("Tags").fill("mine")
    press_save(visitor)

    expect(form).to_be_hidden()
    found = client.get(url).json()
    assert (found["caption"], found["alt_text"]) == ("Mine", "Their alt")
    assert found["tags"] == ["mine", "theirs"]


def test_a_resource_that_is_gone_meanwhile_says_so(
    visitor: Visit, server: Server, client: httpx.Client, url: str
) -> None:
    open_form(visitor, server, url)
    form = visitor.page.locator(".question[open]")
    client.delete(url).raise_for_status()
    form.get_by_label("Caption").fill("Mine")
    press_save(visitor)

    expect(form.get_by_role("alert")).to_contain_text("no such resource")
    form.get_by_role("button", name="Cancel").click()
    expect(form).to_be_hidden()


def test_what_is_deleted_from_the_library_can_be_brought_back_for_as_long_as_it_says(
    visitor: Visit, server: Server, client: httpx.Client, folder: str
) -> None:
    names = ["first.png", "second.png", "third.png"]
    for name in names:
        save(client, f"{folder}{name}", picture(uuid4().int))
    kept = [
        client.post(
            f"{LIBRARY}/ingest",
            json={"storage_key": f"compute/{folder}{name}", "relocate": False},
        ).json()["id"]
        for name in names
    ]
    client.patch(f"{LIBRARY}/{kept[0]}", json={"protected": True}).raise_for_status()
    visitor.sign_in(server.token(), "#library")
    told = ("from the library?", "deleted in 1 hour", "adding the same image again")
    visitor.cell("third.png").click()
    visitor.viewer.get_by_role("button", name="Delete").click()
    confirm(visitor, "Delete 1 image", *told)
    visitor.expect_picture("second.png")
    visitor.page.keyboard.press("Escape")
    for name in names[:2]:
        visitor.cell(name).click(modifiers=["Control"])
    visitor.page.keyboard.press("Delete")
    confirm(visitor, "Delete 2 images", *told)

    expect(visitor.text("1 image not deleted: the resource is protected")).to_be_visible()
    found = [client.get(f"{LIBRARY}/{one}").status_code for one in kept]
    assert found == [200, 404, 404]
    assert stored(client, folder) == names


def test_several_resources_are_tagged_found_linked_and_downloaded(
    visitor: Visit, server: Server, client: httpx.Client, folder: str
) -> None:
    tag = uuid4().hex
    first, second = names = [f"{tag}-1.png", f"{tag}-2.png"]
    for name in names:
        save(client, f"{folder}{name}", picture(uuid4().int))
        asked = {"storage_key": f"compute/{folder}{name}", "relocate": name == second}
        made = client.post(f"{LIBRARY}/ingest", json=asked).json()
    client.post(f"{LIBRARY}/{made['id']}/tags", json={"tags": [tag, "mine"]}).raise_for_status()
    visitor.sign_in(server.token(), "#library")
    bar = visitor.page.get_by_label("Selected images")
    for name in names:
        visitor.cell(name).click(modifiers=["Control"])

    bar.get_by_role("button", name="Tags").click()
    form = visitor.page.locator(".question[open]")
    expect(form.locator(".chip")).to_have_count(0)  # none that both have
    form.get_by_label("Tags that all have").fill(f"{tag}, storm")
    visitor.expect_accessible()
    form.get_by_role("button", name="Save").click()
    expect(visitor.text("Tags of 2 images saved.")).to_be_visible()
    with visitor.page.expect_download(timeout=LONGEST_MS):
        bar.get_by_role("button", name="Download").click()
    with visitor.page.expect_download(timeout=LONGEST_MS) as download:
        bar.get_by_role("button", name="ZIP").click()
    assert zipfile.ZipFile(download.value.path()).namelist() == [
        f"{folder}{first}",
        made["storage_key"],
    ]

    visitor.page.get_by_role("searchbox").fill(f"tag:{tag} tag:storm")
    visitor.expect_names(second, first)
    visitor.page.get_by_role("searchbox").fill(f"tag:{tag} tag:mine")
    visitor.expect_names(second)
    visitor.cell(second).click(modifiers=["Control"])
    bar.get_by_role("button", name="Copy link").click()
    expect(visitor.text("Link copied. It opens for those who can sign in.")).to_be_visible()
    visitor.page.keyboard.press("Escape")
    visitor.page.get_by_role("searchbox").fill(f"tag:{tag}")
    visitor.cell(first).click()
    visitor.viewer.get_by_role("button", name="Copy link").click()
    expect(visitor.text("Link copied. It works for 24 hours.")).to_be_visible()
    visitor.page.keyboard.press("i")
    visitor.page.locator("#facts").get_by_role("link", name="storm").click()
    expect(visitor.page.get_by_role("searchbox")).to_have_value('tag:"storm"')


def test_a_tag_with_a_quotation_mark_leads_to_what_has_it(
    visitor: Visit, server: Server, client: httpx.Client, url: str
) -> None:
    tag = f'12" {uuid4().hex[:8]} "hi"'
    client.post(f"{url}/tags", json={"tags": [tag]}).raise_for_status()
    open_form(visitor, server, url)
    visitor.page.locator(".question[open]").get_by_role("button", name="Cancel").click()
    visitor.page.keyboard.press("i")
    visitor.page.locator("#facts").get_by_role("link", name=tag).click()

    searched = 'tag:"' + tag.replace('"', '""') + '"'
    expect(visitor.page.get_by_role("searchbox")).to_have_value(searched)
    visitor.expect_names("cat.jpg")


def test_what_is_added_to_the_library_stays_in_its_folder_unless_it_is_moved(
    visitor: Visit, server: Server, client: httpx.Client, folder: str
) -> None:
    places = {"Add": "compute/", "Move": "media/"}
    for name in places:
        save(client, f"{folder}{name}.png", picture(uuid4().int))
    visitor.sign_in(server.token(), fragment(folder))

    for name, place in places.items():
        visitor.cell(f"{name}.png").click(modifiers=["Control"])
        visitor.page.get_by_role("button", name="Add to library").click()
        question = visitor.page.locator(".question[open]")
        expect(question).to_contain_text("The originals disappear from this folder in 1 hour.")
        question.get_by_role("button", name=name, exact=True).click()
        expect(visitor.cell(f"{name}.png").locator(".badge.keep")).to_be_visible()
        query = {"source_key": f"compute/{folder}{name}.png"}
        (resource,) = client.get(LIBRARY, params=query).json()
        assert resource["storage_key"].startswith(place)


def test_what_the_library_has_no_copy_of_is_said_before_it_is_moved_or_deleted(
    visitor: Visit, server: Server, client: httpx.Client, folder: str
) -> None:
    for name, relocate in {"copied.png": True, "here.png": False, "other.png": None}.items():
        save(client, f"{folder}{name}", picture(uuid4().int))
        if relocate is not None:
            item = {"storage_key": f"compute/{folder}{name}", "relocate": relocate}
            client.post(f"{LIBRARY}/ingest", json=item).raise_for_status()
    visitor.sign_in(server.token(), fragment(folder))
    chosen, question = (
        visitor.page.get_by_label("Selected images"),
        visitor.page.get_by_role("dialog"),
    )
    loss = "1 image is in the library and will be lost there."

    for name in ("copied.png", "here.png", "other.png"):
        visitor.cell(name).click(modifiers=["Control"])
    for action in ("Move", "Delete"):
        chosen.get_by_role("button", name=action).click()
        expect(question.get_by_role("heading")).to_have_text(re.compile(f"^{action} 3 images"))
        expect(question.get_by_text(loss, exact=True)).to_be_visible()
        visitor.picture(f"loss-{action.lower()}")
        question.get_by_role("button", name="Cancel").click()
    visitor.cell("here.png").click(modifiers=["Control"])
    chosen.get_by_role("button", name="Delete").click()
    expect(question.get_by_role("heading")).to_have_text("Delete 2 images?")
    expect(question.get_by_text(loss)).to_be_hidden()
    question.get_by_role("button", name="Cancel").click()
