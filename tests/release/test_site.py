"""The documentation site that `make docs` has built: its search, and its links to itself."""

import functools
import http.server
import threading
from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, Request

from browser.chromium import chromium
from building import ROOT
from waiting import until

pytestmark = [pytest.mark.release, pytest.mark.xdist_group("site")]

SITE = ROOT / "site"
FIRST = {
    "thumbnail": "api.html",
    "logging": "observing.html",
    "presigned URL": "api.html",
    "webhook": "contents.html",
    "API key": "api.html",
    "rate limit": "running.html",
    "log level": "observing.html",
    "resize": "api.html",
    "comparison": "comparison.html",
    "A1111": "coming-from.html",
}
"""What people search for, and the page that should be the first result."""


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  (named by its base)
        pass


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    assert (SITE / "index.html").exists(), "there is no site: run `make docs`"
    handler = functools.partial(Quiet, directory=str(SITE))
    with (
        http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server,
        chromium() as browser,
    ):
        threading.Thread(target=server.serve_forever, daemon=True).start()
        opened = browser.new_page()
        others: list[str] = []
        address = f"http://127.0.0.1:{server.server_port}"

        def note(sent: Request) -> None:
            if not sent.url.startswith(address):
                others.append(sent.url)

        opened.on("request", note)
        opened.goto(f"{address}/index.html")
        yield opened
        server.shutdown()
        assert others == [], "a reader's browser asks no other host"


@pytest.mark.parametrize("words", FIRST)
def test_a_search_finds_the_page_first(page: Page, words: str) -> None:
    page.goto(page.url.rpartition("/")[0] + "/index.html")
    box = page.locator("input[role=combobox]")

    def has_opened() -> bool:
        page.keyboard.press("/")  # the page listens to it a moment after it was loaded
        page.wait_for_timeout(200)
        return box.is_visible()

    until(has_opened)
    box.fill(words)
    results = page.locator("[role=listbox] a")
    results.first.wait_for(timeout=60_000)
    found = str(results.first.get_attribute("href"))
    assert found.rpartition("/")[2].partition("?")[0] == FIRST[words]


def test_a_diagram_is_drawn_without_another_host(page: Page) -> None:
    page.goto(page.url.rpartition("/")[0] + "/scaling.html")
    diagram = page.locator("div.mermaid")  # its picture is in a shadow tree that is closed
    diagram.wait_for(timeout=60_000)
    box = diagram.bounding_box()
    assert box is not None
    assert box["height"] > 100


def test_the_sdk_is_in_the_reference() -> None:
    text = (SITE / "reference/sdk.html").read_text()
    for name in ("ImageStore.save", "ImageStore.search", "runs.Run", "embed.create_router"):
        assert name in text
