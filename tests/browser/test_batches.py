"""What tiles of folders show is read in batches."""

import json

import httpx
import pytest
from playwright.sync_api import Request, Route, expect

from browser.scenery import scenery
from browser.visiting import Visit, fragment, save, wait_for_index
from running import IMAGES, Server

pytestmark = pytest.mark.slow

BATCH = "**/api/v1/batch"
RUNS = f"{IMAGES.removesuffix('images')}runs"


def fill(server: Server, client: httpx.Client, *paths: str) -> None:
    for number, path in enumerate(paths):
        save(client, path, scenery(number, edge=240))
    wait_for_index(server, paths[0].partition("/")[0], len(paths))


def test_a_folder_with_17_folders_is_shown_by_a_few_requests(
    visitor: Visit, server: Server, client: httpx.Client, folder: str
) -> None:
    fill(
        server,
        client,
        *(f"{folder}{number:02}/{name}.jpg" for number in range(17) for name in "ab"),
    )
    client.post(f"{RUNS}/{folder}16/publish", json={}).raise_for_status()
    asked: list[str] = []

    def note(request: Request) -> None:
        if request.resource_type == "fetch":
            asked.append(f"{request.method} {request.url}")

    visitor.page.on("request", note)
    visitor.sign_in(server.token(), fragment(folder))
    expect(visitor.page.locator(".folder.loaded")).to_have_count(17)
    expect(visitor.page.locator(".amount")).to_have_text(["2 images"] * 17)
    expect(visitor.cell("16")).to_have_attribute("aria-label", "16, published run, 2 images")

    assert len(asked) < 20, asked


def test_a_token_that_ends_before_the_reads_of_a_batch_leads_to_another(
    visitor: Visit, server: Server, client: httpx.Client, folder: str
) -> None:
    fill(server, client, f"{folder}in/a.jpg")

    def refuse(route: Route) -> None:
        refused = {"status": 401, "body": {"detail": "Expired token.", "code": "token_expired"}}
        asked = json.loads(route.request.post_data or "")["targets"]
        route.fulfill(json={"results": [refused] * len(asked)})

    visitor.page.route(BATCH, refuse)
    visitor.go(fragment(folder))
    visitor.page.get_by_label("Token", exact=True).fill(server.token())
    visitor.page.get_by_role("button", name="Sign in").click()

    expect(visitor.page.get_by_role("alert")).to_contain_text("Your token expired on")


def test_folders_whose_batch_is_too_large_are_read_in_smaller_ones(
    visitor: Visit, server: Server, client: httpx.Client, folder: str
) -> None:
    fill(server, client, *(f"{folder}{name}/a.jpg" for name in "abc"))
    refused: list[int] = []

    def refuse_large(route: Route) -> None:
        number = len(json.loads(route.request.post_data or "")["targets"])
        if number <= 2:
            route.continue_()
            return
        refused.append(number)
        problem = {"detail": "Too large.", "code": "too_large"}
        route.fulfill(status=413, json=problem)

    visitor.page.route(BATCH, refuse_large)
    visitor.sign_in(server.token(), fragment(folder))

    expect(visitor.page.locator(".amount")).to_have_text(["1 image"] * 3)
    expect(visitor.page.locator(".folder.loaded")).to_have_count(3)
    assert refused
