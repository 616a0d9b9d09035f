"""A real Chromium, and a server that the tests of a file share."""

from collections.abc import Iterator
from uuid import uuid4

import httpx
import pytest
from playwright.sync_api import Browser

from browser.chromium import chromium
from browser.scenery import scenery
from browser.site import Site, site
from browser.visiting import Visit, save, visit
from running import Server, running


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as launched:
        yield launched


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("gallery")) as started:
        yield started
    assert "Traceback" not in started.logged()


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[httpx.Client]:
    with server.client() as client:
        yield client


@pytest.fixture
def visitor(browser: Browser, server: Server) -> Iterator[Visit]:
    with visit(browser, server) as began:
        yield began


@pytest.fixture
def elsewhere() -> Iterator[Site]:
    """One that has no policy of its own, as an application would; none of another test asks it."""
    with site() as served:
        yield served


@pytest.fixture
def folder() -> str:
    return f"{uuid4().hex[:8]}/"


@pytest.fixture
def folder_of_ten(client: httpx.Client, folder: str) -> str:
    for number in range(10):
        save(client, f"{folder}{number}.jpg", scenery(number, edge=240))
    return folder
