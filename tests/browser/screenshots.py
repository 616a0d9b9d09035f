"""Pictures of the gallery in docs: `PYTHONPATH=src:tests python -m browser.screenshots`."""

import io
import tempfile
from pathlib import Path
from typing import Final

from PIL import Image
from playwright.sync_api import Browser, expect

from browser.chromium import chromium
from browser.scenery import scenery
from browser.visiting import Visit, fragment, save, visit, wait_for_index
from running import Server, running
from stillroom.generation.writing.embed import with_generation

DOCS: Final = Path(__file__).parents[2] / "docs"
COUNT: Final = 48


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, running(Path(folder)) as server:
        with server.client() as client:
            for seed in range(COUNT):
                model = "sd_xl" if seed % 3 else "ink_v2"
                facts = {"prompt": "hills at dawn", "model": model, "seed": seed}
                data = with_generation(scenery(seed, edge=400), facts)
                save(client, f"generations/2026-11/{seed:02}.jpg", data)
        wait_for_index(server, "generations", COUNT)
        with chromium() as browser:
            take(browser, server, "gallery", (1280, 760), "generations/2026-11/")
            take(browser, server, "search", (1120, 560), "generations/", "hills model:ink_v2")


def take(
    browser: Browser, server: Server, name: str, size: tuple[int, int], folder: str, query: str = ""
) -> None:
    width, height = size
    with visit(browser, server, viewport={"width": width, "height": height}) as visitor:
        visitor.sign_in(server.token(), fragment(folder))
        if query:
            search_for(visitor, query)
        expect(visitor.page.locator(".cell.loaded").nth(9 if query else 17)).to_be_visible()
        visitor.page.wait_for_timeout(1000)  # until all pictures have appeared
        png = visitor.page.screenshot()
    Image.open(io.BytesIO(png)).convert("RGB").save(DOCS / f"{name}.webp", quality=80, method=6)


def search_for(visitor: Visit, query: str) -> None:
    visitor.page.get_by_label("Sort").select_option("Newest first")
    visitor.page.get_by_role("searchbox", name="Search").fill(query)


if __name__ == "__main__":
    main()
