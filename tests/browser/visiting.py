"""A visit to the gallery in a browser, and what must hold of every visit."""

import contextlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import httpx
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect
from playwright.sync_api import TimeoutError as PlaywrightTimeoutError

from running import IMAGES, Server
from waiting import until

SCREENSHOTS = Path(__file__).parents[2] / ".make" / "screenshots"

_WATCH = """
window.violations = [];
addEventListener("securitypolicyviolation", (event) => {
  violations.push(`${event.violatedDirective} ${event.blockedURI} ${event.sample}`);
});
window.shifted = 0;
new PerformanceObserver((list) => {
  for (const one of list.getEntries()) if (!one.hadRecentInput) shifted += one.value;
}).observe({ type: "layout-shift", buffered: true });
"""

LONGEST_MS = 60_000
_SEARCH = "/api/v1/storage/search"

expect.set_options(timeout=LONGEST_MS)


@dataclass
class Visit:
    """A tab, signed in or not; `hosts` are others that it may ask, such as a CDN."""

    page: Page
    url: str
    hosts: frozenset[str] = frozenset()

    def go(self, fragment: str = "") -> None:
        self.page.goto(f"{self.url}{fragment}")

    def sign_in(self, token: str, fragment: str = "") -> None:
        self.go(fragment)
        self.page.get_by_label("Token", exact=True).fill(token)
        self.page.get_by_role("button", name="Sign in").click()
        expect(self.page.locator("#app")).to_be_visible()

    def cell(self, name: str) -> Any:
        return self.page.locator(f'.cell[title="{name}"]')

    def text(self, text: str) -> Any:
        """Where this is to be read, but for the words that only a screen reader gets."""
        return self.page.get_by_text(text).and_(self.page.locator(":not(#live)"))

    @property
    def cells(self) -> Any:
        return self.page.locator(".cell")

    @property
    def viewer(self) -> Any:
        return self.page.locator("#viewer")

    def expect_picture(self, name: str) -> None:
        expect(self.page.locator("#viewer-name")).to_have_text(name)
        expect(self.page.locator(".picture.ready")).to_be_visible()

    def names(self) -> list[str]:
        return [str(name) for name in self.cells.evaluate_all("all => all.map(one => one.title)")]

    def expect_names(self, *names: str) -> None:
        try:
            self.page.wait_for_function(
                """names => JSON.stringify(names) === JSON.stringify(
                [...document.querySelectorAll(".cell")].map(one => one.title))""",
                arg=list(names),
            )
        except PlaywrightTimeoutError:  # the comparison says what shows
            assert self.names() == list(names)

    def expect_accessible(self) -> None:
        self.page.evaluate(
            "Promise.allSettled(document.getAnimations({subtree: true}).map(one => one.finished))"
        )
        found = Axe().run(self.page).response["violations"]
        bad = [
            f"{one['id']}: {node['html'][:200]} {node.get('failureSummary', '')}"
            for one in found
            for node in one["nodes"]
        ]
        assert bad == [], bad

    def picture(self, name: str) -> None:
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=SCREENSHOTS / f"{name}.png")


def fragment(path: str) -> str:
    """The address of a folder or an image behind the page's own."""
    return "#/" + "/".join(quote(segment, safe="") for segment in path.split("/"))


def wait_for_index(server: Server, folder: str, count: int) -> None:
    """The index is written after the answer to a save; a page of before would lack images."""
    with server.client() as client:
        within = {"prefix": f"{folder}/"}
        until(lambda: len(client.get(_SEARCH, params=within).json()["items"]) >= count)


def save(client: httpx.Client, path: str, data: bytes) -> None:
    answer = client.post(f"{IMAGES}/{quote(path)}", files={"file": data})
    assert answer.status_code == 200, answer.text


def stored(client: httpx.Client, folder: str) -> list[str]:
    listed = client.get(IMAGES, params={"prefix": folder, "limit": 1000}).json()
    return [path.removeprefix(folder) for path in listed]


def a_file(name: str, data: bytes) -> Any:
    return {"name": name, "mimeType": "application/octet-stream", "buffer": data}


def confirm(visitor: Visit, *texts: str) -> None:
    question = visitor.page.locator(".question[open]")
    for text in texts:
        expect(question).to_contain_text(text)
    question.get_by_role("button", name="Delete", exact=True).click()


on_small_screens = pytest.mark.parametrize(
    ("width", "scheme"), [(360, "light"), (390, "dark"), (768, "light")]
)


def small_screen(width: int, scheme: str) -> dict[str, Any]:
    """The window of a phone or a tablet, for `visit`."""
    size = {"width": width, "height": 800}
    return {"viewport": size, "color_scheme": scheme, "has_touch": True, "is_mobile": True}


@contextlib.contextmanager
def visit(
    browser: Browser, server: Server, *, url: str = "", hosts: tuple[str, ...] = (), **how: Any
) -> Iterator[Visit]:
    """A new browser window, in which nothing is refused, thrown or asked of strangers."""
    how = {"viewport": {"width": 1280, "height": 800}, "accept_downloads": True, **how}
    with browser.new_context(**how) as context:
        context.set_default_timeout(LONGEST_MS)
        page = context.new_page()
        thrown: list[str] = []
        asked: list[str] = []
        page.on("pageerror", lambda error: thrown.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.add_init_script(_WATCH)
        began = Visit(page, url or f"{server.url}/", frozenset(hosts))
        yield began
        test = os.environ.get("PYTEST_CURRENT_TEST", "").rpartition("::")[2].partition(" ")[0]
        began.picture(re.sub(r"[^\w.-]+", "-", test))
        if page.url.startswith("http"):
            violations = page.evaluate("window.violations")
            assert violations == [], violations
        assert thrown == [], thrown
        ours = {urlsplit(began.url).netloc, *began.hosts}
        strangers = [
            url for url in asked if url.startswith("http") and urlsplit(url).netloc not in ours
        ]
        assert strangers == [], strangers
        tokens = server.minted.values()
        assert [url for url in asked if any(token in url for token in tokens)] == []
