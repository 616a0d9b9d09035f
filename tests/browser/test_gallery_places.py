"""The gallery elsewhere: before a bucket, with a CDN and without, and below a path of a proxy."""

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, expect

from browser.scenery import scenery
from browser.visiting import Visit, fragment, visit
from hosting import Host, hosted
from running import IMAGES, Server, free_port, running
from services.nginx import nginx_below, nginx_cdn
from services.seaweedfs import BUCKET, KEY_ID, SECRET, SeaweedFS

pytestmark = pytest.mark.slow


@pytest.fixture(params=["cdn", "presigned"])
def bucket(
    request: pytest.FixtureRequest,
    seaweed: SeaweedFS,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[tuple[Server, str]]:
    """A server before a bucket, and who serves the pictures."""
    monkeypatch.setenv("R2_ENDPOINT_URL", seaweed.endpoint_url)
    monkeypatch.setenv("R2_ACCESS_KEY_ID", KEY_ID)
    monkeypatch.setenv("R2_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("R2_BUCKET_NAME", BUCKET)
    (tmp_path / "nginx").mkdir()
    with nginx_cdn(tmp_path / "nginx", seaweed.endpoint_url) as cdn:
        monkeypatch.setenv("R2_PUBLIC_URL", cdn if request.param == "cdn" else "")
        origin = cdn if request.param == "cdn" else seaweed.endpoint_url
        with running(tmp_path) as started:
            yield started, urlsplit(origin).netloc
    seaweed.empty()


def upload_look_and_delete(visitor: Visit) -> None:
    """What a visit is made of."""
    files = [
        {"name": f"{number} #1%.jpg", "mimeType": "image/jpeg", "buffer": scenery(number, edge=300)}
        for number in range(3)
    ]
    expect(visitor.text("Nothing here yet")).to_be_visible()
    visitor.page.locator("#files").set_input_files(files)  # type: ignore[arg-type]  # a dict will do
    visitor.expect_names("0 #1%.jpg", "1 #1%.jpg", "2 #1%.jpg")
    expect(visitor.page.locator(".cell.loaded")).to_have_count(3)
    visitor.cell("1 #1%.jpg").click()
    visitor.expect_picture("1 #1%.jpg")
    visitor.page.keyboard.press("i")
    expect(visitor.page.locator("#facts")).to_contain_text("image/jpeg")
    visitor.page.keyboard.press("Delete")
    visitor.page.locator(".question[open]").get_by_role("button", name="Delete", exact=True).click()
    visitor.expect_picture("2 #1%.jpg")
    visitor.page.keyboard.press("Escape")
    expect(visitor.viewer).to_be_hidden()  # the history closes it, a moment later
    visitor.expect_names("0 #1%.jpg", "2 #1%.jpg")


def test_pictures_come_from_the_host_that_serves_the_bucket(
    browser: Browser, bucket: tuple[Server, str]
) -> None:
    server, host = bucket
    with visit(browser, server, hosts=(host,)) as visitor:
        asked: list[str] = []
        visitor.page.on("request", lambda request: asked.append(urlsplit(request.url).netloc))
        visitor.sign_in(server.token(), fragment("a/b/"))
        upload_look_and_delete(visitor)

        visitor.page.keyboard.press("Control+a")
        visitor.page.get_by_role("button", name="Add to library").click()
        visitor.page.locator(".question[open]").get_by_role("button", name="Add").click()
        expect(visitor.text("2 images added to the library.")).to_be_visible()
        visitor.page.get_by_role("link", name="Library").click()
        expect(visitor.cells).to_have_count(2)
    assert host in asked


def test_it_works_below_a_path_and_under_another_name(browser: Browser, tmp_path: Path) -> None:
    port = free_port()
    url = f"http://localhost:{port}/our/pictures/"
    (tmp_path / "nginx").mkdir()
    with (
        running(tmp_path, public_base_url="https://example.com/our/pictures") as server,
        nginx_below(tmp_path / "nginx", port, server.port, "/our/pictures"),
        visit(browser, server, url=url) as visitor,
    ):
        visitor.sign_in(server.token(), fragment("a/b/"))
        upload_look_and_delete(visitor)
        with server.client() as client:
            assert client.get(IMAGES).json() == ["a/b/0 #1%.jpg", "a/b/2 #1%.jpg"]


@pytest.mark.parametrize("mount", ["", "/compute"])
def test_the_page_of_an_app_that_has_the_store_in_it(
    browser: Browser, tmp_path: Path, mount: str
) -> None:
    with (
        hosted(tmp_path, Host("uvicorn", 1, mount)) as server,
        visit(browser, server, url=f"{server.url}/api/v1/gallery/") as visitor,
    ):
        visitor.sign_in(server.token(), fragment("a/b/"))
        upload_look_and_delete(visitor)
        with server.client() as client:
            assert client.get(IMAGES).json() == ["a/b/0 #1%.jpg", "a/b/2 #1%.jpg"]
