"""The documents in a Chromium that reaches nothing but the server, and tells what it asks for."""

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Page

from browser.chromium import chromium
from browser.visiting import LONGEST_MS
from running import Server, running

pytestmark = pytest.mark.slow

# Some pages leave others alone only where they are opened as localhost.
NAME = "images.example.com"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with running(tmp_path) as started:
        yield started


@pytest.fixture
def page() -> Iterator[Page]:
    with chromium(f"--host-resolver-rules=MAP {NAME} 127.0.0.1, MAP * ~NOTFOUND") as launched:
        page = launched.new_page()
        page.set_default_timeout(LONGEST_MS)
        yield page


def test_the_documents_ask_only_the_server(server: Server, page: Page) -> None:
    asked: list[str] = []
    failed: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("requestfailed", lambda request: failed.append(request.url))
    page.on("pageerror", lambda error: failed.append(str(error)))

    page.goto(f"http://{NAME}:{server.port}/docs")
    page.locator(".opblock", has_text="/api/v1/storage/images").first.click()
    page.locator(".opblock.is-open .responses-wrapper").first.wait_for()
    page.wait_for_load_state("networkidle")

    hosts = {urlsplit(url).netloc for url in asked if not url.startswith("data:")}
    assert hosts == {f"{NAME}:{server.port}"}
    assert failed == []
    assert f"http://{NAME}:{server.port}/openapi.json" in asked
    title = page.locator(".info .title").first.inner_text()
    assert title.startswith("Stillroom")
    for link in page.locator("link, script[src], img").all():
        target = link.get_attribute("href") or link.get_attribute("src") or ""
        assert target.startswith(("/", "data:")), target
