"""The gallery of an app that has keys of its own instead of tokens, and few features."""

from collections.abc import Iterator
from urllib.parse import urlsplit

import httpx
import pytest
from playwright.sync_api import expect

from browser.scenery import scenery
from browser.test_folders import choose
from browser.visiting import Visit, save
from hosting import Host, hosted
from running import Server

pytestmark = pytest.mark.slow

EVERYTHING = {"Authorization": "Bearer key-of-everything"}
CONTROLS = ("#upload", "#tab-library", "#search", "#browse", "#sort", "#trash")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with hosted(tmp_path_factory.mktemp("keys"), Host("uvicorn"), {"HOST_KEYS": "1"}) as started:
        with httpx.Client(base_url=started.url, headers=EVERYTHING) as client:
            for path in ("cats/a.jpg", "cats/b.jpg", "dogs/a.jpg"):
                save(client, path, scenery(1, edge=240))
        yield started
    assert "Traceback" not in started.logged()


@pytest.fixture
def refused(visitor: Visit) -> list[str]:
    """What the page asked for in vain."""
    found: list[str] = []
    visitor.page.on(
        "response",
        lambda answer: found.append(urlsplit(answer.url).path) if answer.status >= 400 else None,
    )
    return found


def go_in(visitor: Visit, key: str) -> None:
    visitor.url += "api/v1/gallery/"
    visitor.sign_in(key)


def shown(visitor: Visit) -> list[str]:
    return [one for one in CONTROLS if visitor.page.locator(one).is_visible()]


def test_only_controls_of_features_that_the_app_has_are_shown(
    visitor: Visit, refused: list[str]
) -> None:
    go_in(visitor, "key-of-everything")
    visitor.expect_names("cats", "dogs")
    assert shown(visitor) == ["#upload"]
    visitor.cell("cats").click()
    expect(visitor.cell("b.jpg")).to_be_visible()
    choose(visitor, "a.jpg")
    bar = visitor.page.locator("#chosen")
    expect(bar.get_by_role("button", name="Delete")).to_be_visible()
    expect(bar.get_by_role("button", name="Add to library")).to_have_count(0)
    bar.get_by_role("button", name="Clear selection").click()
    visitor.cell("a.jpg").click()
    visitor.expect_picture("a.jpg")
    expect(visitor.viewer.get_by_role("button", name="Delete")).to_be_visible()
    expect(visitor.viewer.get_by_role("button", name="Keep")).to_have_count(0)
    assert refused == []


def test_a_key_with_few_permissions_starts_in_its_folder_without_other_controls(
    visitor: Visit, server: Server, refused: list[str]
) -> None:
    go_in(visitor, "key-of-cats")
    visitor.expect_names("a.jpg", "b.jpg")
    assert shown(visitor) == []
    visitor.page.reload()
    visitor.expect_names("a.jpg", "b.jpg")
    with httpx.Client(base_url=server.url, headers=EVERYTHING) as client:
        save(client, "cats/c.jpg", scenery(2, edge=240))
    visitor.expect_names("a.jpg", "b.jpg", "c.jpg")  # without an index or a feed of events
    choose(visitor, "a.jpg")
    bar = visitor.page.locator("#chosen")
    expect(bar.get_by_role("button", name="Download")).to_be_visible()
    for name in ("Move", "Rename", "Delete"):
        expect(bar.get_by_role("button", name=name)).to_have_count(0)
    assert refused == []


def test_the_sign_in_page_asks_for_a_token_of_the_app(visitor: Visit) -> None:
    visitor.go("api/v1/gallery/")
    expect(visitor.page.locator("#token-help")).to_contain_text("token of this application")
    expect(visitor.page.locator("#token-help")).not_to_contain_text("stillroom token")
