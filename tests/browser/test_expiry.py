"""The gallery says what expires and when: an image by its own end, an image and a run by a rule."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, Locator, expect

from browser.scenery import scenery
from browser.visiting import Visit, fragment, visit
from running import IMAGES, Server, running

pytestmark = pytest.mark.slow

STORAGE = IMAGES.removesuffix("/images")
RULE = '[[rule]]\nprefix = "tmp/"\nexpire_after = "7d"\n'


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/retention.toml").write_text(RULE)
    with running(tmp_path) as started, started.client() as client:
        save(client, "stays.png")
        save(client, "own.png", {"Expires-In": "2d"})
        save(client, "tmp/a.png")
        save(client, "tmp/7/1.png")
        client.post(f"{STORAGE}/runs/tmp/7/publish", json={}).raise_for_status()
        yield started


def save(client: httpx.Client, path: str, fields: dict[str, str] | None = None) -> None:
    image = {"file": scenery(1, edge=64)}
    client.post(f"{IMAGES}/{path}", files=image, headers=fields).raise_for_status()


def day(visitor: Visit, moment: str) -> str:
    """The day of a time as the page writes it."""
    return str(
        visitor.page.evaluate(
            "(moment) => new Date(moment).toLocaleDateString(undefined, { dateStyle: 'medium' })",
            moment,
        )
    )


def end_of(visitor: Visit, path: str) -> Locator:
    """The end among the details of an image, which is opened."""
    visitor.go(fragment(path))
    visitor.expect_picture(path.rpartition("/")[2])
    facts = visitor.page.locator("#facts")
    if not facts.is_visible():
        visitor.page.keyboard.press("i")
    expect(facts).to_contain_text(path)
    return facts.locator("dt", has_text="Will be deleted").locator("xpath=following-sibling::dd[1]")


def test_details_and_the_line_of_a_run_say_when_they_go(browser: Browser, server: Server) -> None:
    with visit(browser, server) as visitor, server.client() as client:
        visitor.sign_in(server.token())
        for path, days in (("own.png", 2), ("tmp/a.png", 7)):
            ends = client.get(f"{STORAGE}/metadata/{path}").json()["expires_at"]
            left = datetime.fromisoformat(ends) - datetime.now(UTC)
            assert timedelta(0) < timedelta(days=days) - left < timedelta(hours=1)
            expect(end_of(visitor, path)).to_contain_text(day(visitor, ends))
        expect(end_of(visitor, "stays.png")).to_have_count(0)
        for count in (0, 1):  # kept, and not kept any more
            expect(end_of(visitor, "tmp/a.png")).to_have_count(1 - count)
            visitor.page.keyboard.press("k")
            label = visitor.page.locator("#facts dt", has_text="Will be deleted")
            expect(label).to_have_count(count)

        (run,) = client.get(f"{STORAGE}/runs", params={"prefix": "tmp/7/"}).json()
        visitor.go(fragment("tmp/7/"))
        said = f"will be deleted {day(visitor, run['expires_at'])}"
        expect(visitor.page.locator("#run")).to_contain_text(said)
