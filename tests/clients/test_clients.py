"""Clients that others' generators make of the live OpenAPI document, used as their people would."""

import base64
import contextlib
import html
import io
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from PIL import Image
from playwright.sync_api import Page, expect

from acceptance.pasting import DEFAULT_URL, ODD, PLAIN, started, wait_for_answer
from acceptance.webhook_recipes import WEBHOOK_SECRET, saves_are_told, webhooks_for
from browser.chromium import chromium
from browser.visiting import LONGEST_MS
from running import IMAGES, Server, free_port, running
from services.bucket_rules import pages_may_upload
from services.s3 import Operator
from services.seaweedfs import SeaweedFS, bucket_variables
from stillroom.client import ImageStore
from stillroom.generation.writing.embed import with_generation
from videos import Mp4, frames
from waiting import until

HERE = Path(__file__).parent
PACKAGES = HERE / "node_modules"
SCRIPTS = Path(sys.executable).parent


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("clients")) as started:
        yield started
    assert "Traceback" not in started.logged()


@pytest.fixture(scope="module")
def workspace(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the document, the scripts, and the packages of npm."""
    assert PACKAGES.is_dir(), "the generators are not here: make clients"
    folder = tmp_path_factory.mktemp("workspace")
    (folder / "openapi.json").write_bytes(httpx.get(f"{server.url}/openapi.json").content)
    for file in (*HERE.glob("*.ts"), HERE / "tsconfig.json"):
        shutil.copy(file, folder)
    (folder / "node_modules").symlink_to(PACKAGES)
    return folder


@pytest.fixture(scope="module")
def built(workspace: Path) -> Path:
    """Both clients of TypeScript and their scripts, checked by the compiler."""
    bin_ = workspace / "node_modules" / ".bin"
    optional = "--default-non-nullable=false"  # what has a default may be left out
    done(workspace, bin_ / "openapi-typescript", "openapi.json", optional, "-o", "schema.d.ts")
    done(workspace, bin_ / "openapi-ts", "-i", "openapi.json", "-o", "hey", "--no-log-file")
    done(workspace, bin_ / "tsc", "-p", ".")
    return workspace / "built"


def image(seed: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 8), (seed, 40, 80)).save(file, "PNG")
    return with_generation(file.getvalue(), {"prompt": "a fox", "seed": 7})


def done(folder: Path, *command: str | Path, **environment: str) -> str:
    ran = subprocess.run(
        command,
        cwd=folder,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


def environment(server: Server, name: str, seed: int) -> dict[str, str]:
    return {
        "STILLROOM_URL": server.url,
        "STILLROOM_TOKEN": server.token(),
        "FOLDER": name,
        "PNG": base64.b64encode(image(seed)).decode(),
    }


@pytest.mark.parametrize(("script", "seed"), [("fetching", 1), ("hey", 2)])
def test_a_client_in_typescript_does_all_operations(
    server: Server, built: Path, script: str, seed: int
) -> None:
    printed = done(built, "node", f"{script}.js", **environment(server, script, seed))

    assert printed.strip() == "all done"


def test_a_client_in_python_does_all_operations(server: Server, workspace: Path) -> None:
    generator = SCRIPTS / "openapi-python-client"
    assert generator.exists(), "the generator is not here: make clients"
    path = f"{SCRIPTS}{os.pathsep}{os.environ['PATH']}"  # it formats with ruff
    printed = done(
        workspace,
        generator,
        "generate",
        "--path",
        "openapi.json",
        "--output-path",
        "python",
        "--fail-on-warning",
        PATH=path,
    )
    assert "warning" not in printed.lower()

    generated = str(workspace / "python")
    script = str(HERE / "attrs_client.py")
    done(workspace, sys.executable, script, PYTHONPATH=generated, **environment(server, "attrs", 3))


# What an app of Next.js has beside its page.
SHOWN = r'<img src="([^"]+)" alt="([^"]+)"'
LAYOUT = """
export default function Layout({ children }: { children: React.ReactNode }) {
  return <html lang="en"><body>{children}</body></html>;
}
"""
CREATING = """
const { create } = require("./images");
const image = new Blob([Uint8Array.from(atob(process.env.PNG), (one) => one.charCodeAt(0))]);
(async () => {
  const { path } = await create("generations/next/1.png", image);
  const again = await create(path, image).catch((error) => error.message);
  console.log(JSON.stringify({ path, again }));
})();
"""


def linked(source: str, target: str) -> None:
    """A hard link where there can be one: Next.js follows no folder that is a symbolic one."""
    try:
        os.link(source, target)
    except OSError:  # on another filesystem
        shutil.copy2(source, target)


@pytest.fixture(scope="module")
def app(server: Server, workspace: Path) -> Path:
    """The recipe's files, with the types that its commands make."""
    commands = blocks("sh")[3].splitlines()
    packages = [line.split()[-1].removesuffix("@5") for line in commands[:2]]
    assert all(f'"{package}"' in (HERE / "package.json").read_text() for package in packages)
    folder = workspace / "next"
    for name in ("lib", "app"):
        (folder / name).mkdir(parents=True)
    shutil.copytree(PACKAGES, folder / "node_modules", symlinks=True, copy_function=linked)
    (folder / "lib/images.ts").write_text(blocks("ts")[0])
    (folder / "app/page.tsx").write_text(blocks("tsx")[0])
    (folder / "app/upload/grants").mkdir(parents=True)
    (folder / "app/upload/grants/route.ts").write_text(blocks("ts")[1])
    (folder / "app/upload/page.tsx").write_text(blocks("tsx")[1])
    (folder / "app/layout.tsx").write_text(LAYOUT)
    (folder / "app/hooks/images").mkdir(parents=True)
    (folder / "app/hooks/images/route.ts").write_text(blocks("ts")[2])
    done(folder, "bash", "-ec", "\n".join(commands[2:]).replace(DEFAULT_URL, server.url))
    return folder


@pytest.fixture(scope="module")
def built_app(app: Path) -> Path:
    """The same, built as for production: without the variables that it needs when it runs."""
    done(app, app / "node_modules/.bin/next", "build", NEXT_TELEMETRY_DISABLED="1")
    return app


def test_the_recipes_client_creates_once_and_its_page_runs_in_nextjs(
    server: Server, built_app: Path
) -> None:
    app = built_app
    told = {**environment(server, "next", 4), "NEXT_TELEMETRY_DISABLED": "1"}
    options = ("--strict", "--skipLibCheck", "--outDir", "built", "--module", "node16")
    done(app, app / "node_modules/.bin/tsc", *options, "--target", "es2022", "lib/images.ts")
    (app / "built/creating.js").write_text(CREATING)
    made = json.loads(done(app / "built", "node", "creating.js", **told))
    assert made["path"] == "generations/next/1.png"
    with ImageStore(server.url, server.token()) as store:  # other kinds with the page's word
        store.save_many({name.replace("/0/", "/fox/"): data for name, data in ODD.items()})
        until(lambda: len(list(store.search("fox", prefix="generations/fox/"))) == len(ODD))
    assert "image" in made["again"]  # one is there
    port, log = free_port(), app / "next.log"
    page = f"http://127.0.0.1:{port}"

    with started(f"node_modules/.bin/next start -H 127.0.0.1 -p {port}", app, log, **told):
        wait_for_answer(page, log)
        shown = until(lambda: re.findall(SHOWN, httpx.get(page).text))

    urls = {name: html.unescape(url) for url, name in shown}
    plain, cut_off = PLAIN.replace("/0/", "/fox/"), "generations/fox/cut off.jpg"
    assert urls.keys() == {cut_off, plain, "generations/next/1.png"}  # no video, no text
    assert httpx.get(urls["generations/next/1.png"]).content == image(4)
    assert httpx.get(urls[plain]).content == ODD[PLAIN]


def test_the_recipes_webhook_route_of_nextjs_verifies_signatures(
    tmp_path: Path, built_app: Path
) -> None:
    port, log = free_port(), tmp_path / "next.log"
    url = f"http://127.0.0.1:{port}/hooks/images"
    command = f"node_modules/.bin/next start -H 127.0.0.1 -p {port}"
    told = {"WEBHOOK_SECRET": WEBHOOK_SECRET, "NEXT_TELEMETRY_DISABLED": "1"}

    with (
        started(command, built_app, log, **told),
        running(tmp_path, webhooks_file=str(webhooks_for(tmp_path, url))) as server,
    ):
        wait_for_answer(url, log)
        saves_are_told(server, url, log)


FILM = Mp4(frames()).file(before=20 * 1024**2)
IS_READY = "Object.keys(document.querySelector('input')).some(key => key.startsWith('__react'))"
WATCH_PROGRESS = """() => {
  window.progress = [];
  const bar = document.querySelector("progress");
  new MutationObserver(() => progress.push(bar.value)).observe(bar, { attributes: true });
}"""
SLOWLY = {
    "offline": False,
    "latency": 0,
    "downloadThroughput": -1,
    "uploadThroughput": 10 * 1024**2,  # bytes a second
}


@contextlib.contextmanager
def page_that_uploads(app: Path, server: Server, port: int, log: Path) -> Iterator[Page]:
    """The recipe's page in a browser that sends slowly enough for progress to be seen."""
    command = f"node_modules/.bin/next start -H 127.0.0.1 -p {port}"
    told = {**environment(server, "next", 5), "NEXT_TELEMETRY_DISABLED": "1"}
    with started(command, app, log, **told), chromium() as browser:
        wait_for_answer(f"http://127.0.0.1:{port}", log)
        page = browser.new_page()
        page.set_default_timeout(LONGEST_MS)
        page.goto(f"http://127.0.0.1:{port}/upload")
        page.wait_for_function(IS_READY)
        page.evaluate(WATCH_PROGRESS)
        network = page.context.new_cdp_session(page)
        network.send("Network.enable")
        network.send("Network.emulateNetworkConditions", SLOWLY)
        yield page


def choose_film(page: Page) -> None:
    film = {"name": "film.mp4", "mimeType": "video/mp4", "buffer": FILM}
    page.locator("input").set_input_files(film)  # type: ignore[arg-type]  # a dict will do


def expect_saved(page: Page, server: Server) -> None:
    status = page.get_by_role("status")
    expect(status).to_contain_text("Saved as uploads/")
    path = status.inner_text().removeprefix("Saved as ")
    assert path.endswith(".mp4")
    with server.client() as client:
        assert client.get(f"{IMAGES}/{path}", follow_redirects=True).content == FILM
    shown = page.evaluate("progress")
    assert any(0 < part < 1 for part in shown), shown
    assert shown[-1] == 1


def test_the_recipes_page_of_nextjs_uploads_to_a_bucket_if_its_cors_rule_allows_it(
    tmp_path: Path,
    built_app: Path,
    seaweed: SeaweedFS,
    operator: Operator,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in bucket_variables(seaweed).items():
        monkeypatch.setenv(name, value)
    port, log = free_port(), tmp_path / "next.log"
    with running(tmp_path) as server, page_that_uploads(built_app, server, port, log) as page:
        choose_film(page)
        expect(page.get_by_role("status")).to_contain_text("a CORS rule is missing")
        assert operator.keys("temp/") == []

        with pages_may_upload(operator, f"http://127.0.0.1:{port}"):
            choose_film(page)
            expect_saved(page, server)
    assert operator.keys("temp/") == []
    seaweed.empty()


def test_the_recipes_page_of_nextjs_uploads_to_a_server_that_allows_its_origin(
    tmp_path: Path, built_app: Path
) -> None:
    port, log = free_port(), tmp_path / "next.log"
    with (
        running(tmp_path, cors_origins=f"http://127.0.0.1:{port}") as server,
        page_that_uploads(built_app, server, port, log) as page,
    ):
        choose_film(page)
        expect_saved(page, server)


def blocks(language: str) -> list[str]:
    text = (HERE.parents[1] / "docs/recipes.md").read_text()
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
