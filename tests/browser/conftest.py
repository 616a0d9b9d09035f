"""A real Chromium."""

import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, sync_playwright

from browser.chromium import FLAGS


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    binary = shutil.which("chromium")
    assert binary, "chromium is missing: apt-get install chromium"
    with sync_playwright() as driver:
        launched = driver.chromium.launch(executable_path=binary, args=FLAGS)
        yield launched
        launched.close()
