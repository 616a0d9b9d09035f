"""How soon a folder of 100,000 images shows, and what the page weighs: `-m benchmarks.gallery`.

Times are the page's own, from the beginning of the navigation: until the first thumbnail is in the
window, and until all of those in it are. Cold is a server process that has listed and decoded
nothing, and a browser that has nothing of the page; the kernel has the files in memory. Warm is the
same server for another new browser; again is a reload.
"""

import gzip
import os
import shutil
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import click
import numpy as np
from PIL import Image
from playwright.sync_api import Browser, sync_playwright

from benchmarks import servers
from benchmarks.servers import Server
from stillroom.features.gallery.page import Gallery

COUNT: Final = 100_000
DISTINCT: Final = 64
"""Pictures of 1024 by 1024 pixels, linked under all names: a window shows half of them."""

TARGET_S: Final = 1.0
WEIGHT_TARGET: Final = 100_000

_CACHE: Final = Path(__file__).parents[1] / ".make" / "benchmarks"
_WINDOW: Final = {"width": 1280, "height": 800}
_FLAGS: Final = ("--no-sandbox", "--disable-gpu", "--disable-background-networking")

# A thumbnail is in the window when it has been decoded and its cell lies there, two frames later.
_WATCH: Final = """
window.seen = {};
const inWindow = (cell) => cell.getBoundingClientRect().top < innerHeight
  && cell.getBoundingClientRect().bottom > 0;
const look = () => {
  const cells = [...document.querySelectorAll(".cell")].filter(inWindow);
  const loaded = cells.filter((cell) => cell.classList.contains("loaded"));
  if (loaded.length) seen.first ??= performance.now();
  if (cells.length && loaded.length === cells.length) seen.all ??= performance.now();
  if (!seen.all) requestAnimationFrame(look);
};
requestAnimationFrame(look);
"""


def corpus(cache: Path) -> Path:
    """A data directory with the images in `many/`; made once, and kept."""
    data = cache / f"gallery-{COUNT}"
    done = cache / f"gallery-{COUNT}.done"
    if done.exists():
        return data
    shutil.rmtree(data, ignore_errors=True)
    folder = data / "compute" / "many"
    folder.mkdir(parents=True)
    for number in range(COUNT):
        file = folder / f"{number:06}.png"
        if number < DISTINCT:
            _picture(number).save(file, compress_level=1)
        else:
            file.hardlink_to(folder / f"{number % DISTINCT:06}.png")
    done.touch()
    return data


def _picture(seed: int) -> Image.Image:
    """Soft shapes and some grain: as large as what a model makes, 1.5 MB or so."""
    chance = np.random.default_rng(seed)
    small = chance.integers(0, 256, (8, 8, 3), dtype=np.uint8)
    soft = np.asarray(Image.fromarray(small).resize((1024, 1024), Image.Resampling.BICUBIC))
    grain = chance.integers(0, 8, soft.shape, dtype=np.uint8)
    return Image.fromarray(np.minimum(soft, 247) + grain)


def weight() -> tuple[int, int]:
    """Bytes of the page with all its files: as they are, and as they are sent."""
    gallery = Gallery({"files": "gallery/"}, image_origins=[], upload_origins=[])
    contents = [gallery.page, *gallery.files.values()]
    return sum(map(len, contents)), sum(len(gzip.compress(one)) for one in contents)


def visit(browser: Browser, server: Server, *, reloads: bool = False) -> Mapping[str, float]:
    """Open the folder in a new browser; seconds until the `first` and `all` thumbnails show."""
    token = server.fields["Authorization"].removeprefix("Bearer ")
    with browser.new_context(viewport=_WINDOW) as context:  # type: ignore[arg-type]  # a dict will do
        context.add_init_script(f"sessionStorage.setItem('stillroom.token', '{token}');{_WATCH}")
        page = context.new_page()
        page.goto(f"http://127.0.0.1:{server.port}/#/many/")
        page.wait_for_function("() => window.seen.all")
        if reloads:
            page.reload()
            page.wait_for_function("() => window.seen.all")
        return {name: value / 1000 for name, value in page.evaluate("seen").items()}


def measure(browser: Browser, data: Path, rounds: int) -> dict[str, Mapping[str, float]]:
    """Medians over the rounds."""
    found: dict[str, list[Mapping[str, float]]] = {"cold": [], "warm": [], "again": []}
    for _ in range(rounds):
        shutil.rmtree(data / ".stillroom" / "derived", ignore_errors=True)
        with servers.stillroom(data) as server:
            found["cold"].append(visit(browser, server))
            found["warm"].append(visit(browser, server))
            found["again"].append(visit(browser, server, reloads=True))
    return {
        name: {key: statistics.median(one[key] for one in all_) for key in ("first", "all")}
        for name, all_ in found.items()
    }


@click.command()
@click.option("--rounds", default=5, show_default=True)
def main(rounds: int) -> None:
    """Print the first paint of a folder of 100,000 images, and the page's weight."""
    _CACHE.mkdir(parents=True, exist_ok=True)
    binary = shutil.which("chromium")
    if binary is None:
        raise click.ClickException("chromium is missing: apt-get install chromium")
    plain, packed = weight()
    verdict = "met" if plain < WEIGHT_TARGET else "MISSED"
    click.echo(
        f"the page: {plain:,} bytes, {packed:,} as sent (target {WEIGHT_TARGET:,}: {verdict})"
    )
    data = corpus(_CACHE)
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=binary, args=list(_FLAGS))
        visit_first = measure(browser, data, rounds)
        browser.close()
    click.echo(
        f"a folder of {COUNT:,}, seconds until thumbnails show (load {os.getloadavg()[0]:.1f}):"
    )
    for name, seconds in visit_first.items():
        verdict = "met" if seconds["first"] < TARGET_S else "MISSED"
        click.echo(
            f"  {name:6} first {seconds['first']:.2f}, all in the window {seconds['all']:.2f}"
            f" (target for the first {TARGET_S:.0f}: {verdict})"
        )


if __name__ == "__main__":
    main()
