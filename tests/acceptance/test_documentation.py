"""What the documentation says is run, or compared with what is there."""

import contextlib
import hashlib
import io
import os
import re
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import PIL.Image
import pytest

from running import IMAGES, Server, free_port, running, wait_until_ready
from services.ports import free_ports
from services.seaweedfs import BUCKET, KEY_ID, SECRET, SeaweedFS, bucket_variables
from stillroom.client import ImageStore
from stillroom.media.migrations import HEAD

ROOT = Path(__file__).parents[2]
DEFAULT_URL = "http://127.0.0.1:8000"


def blocks(page: str, language: str) -> list[str]:
    text = (ROOT / page).read_text()
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def paste(commands: str, server: Server, folder: Path) -> str:
    """Run commands as a reader would, but against this server and outside of the checkout."""
    script = "set -eu\nset -o pipefail\n" + commands.replace(DEFAULT_URL, server.url)
    for name in ("docs", ".venv"):
        if not (folder / name).exists():
            (folder / name).symlink_to(ROOT / name if name == "docs" else Path(sys.prefix))
    ran = subprocess.run(
        ["bash", "-c", script],
        cwd=folder,
        env={
            **server.environment,
            "PATH": os.environ["PATH"],
            "STILLROOM_CONFIG": str(folder / "stillroom.conf"),
        },
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def test_the_readmes_first_lines_save_list_and_read_back_a_real_png(tmp_path: Path) -> None:
    first, second = blocks("README.md", "sh")
    commands = [line.partition("#")[0].strip() for line in first.splitlines()]
    assert commands == ["make serve", "make test"]

    port = free_port()
    environment = {
        **os.environ,
        "STILLROOM_PORT": str(port),
        "STILLROOM_DATA_DIR": str(tmp_path / "data"),
    }
    log = tmp_path / "log"
    with log.open("wb") as stream:
        process = subprocess.Popen(
            ["make", "serve"],
            cwd=ROOT,
            env=environment,
            stdout=stream,
            stderr=stream,
            start_new_session=True,
        )
    server = Server(process, tmp_path / "data", port, log, environment)
    try:
        wait_until_ready(server)
        printed = paste(second, server, tmp_path)
    finally:
        os.killpg(process.pid, signal.SIGTERM)  # make and its server, as Ctrl-C does
        process.wait(30)

    assert '["generations/1/sample.png"]' in printed
    sample = (ROOT / "docs/sample.png").read_bytes()
    assert (tmp_path / "back.png").read_bytes() == sample
    assert (tmp_path / "data/compute/generations/1/sample.png").read_bytes() == sample


def test_every_command_of_the_api_page_runs(tmp_path: Path) -> None:
    setup = "\n".join(blocks("README.md", "sh")[1].splitlines()[:2])
    with running(tmp_path) as server:
        for commands in blocks("docs/api.md", "sh"):
            paste(f"{setup}\n{commands.replace('curl ', 'curl -f ')}", server, tmp_path)
        with server.client() as client:
            assert client.get(IMAGES).json() == ["once.png", "whole.png"]


def test_every_command_of_the_media_page_runs(tmp_path: Path) -> None:
    setup = "\n".join(blocks("README.md", "sh")[1].splitlines()[:2])
    commands = "\n".join(blocks("docs/media.md", "sh")).replace("curl ", "curl -f ")
    with running(tmp_path) as server:
        printed = paste(f"{setup}\n{commands}", server, tmp_path)

    assert '"color_profile":' in printed
    assert f"{HEAD}, up to date" in printed
    assert (tmp_path / "seven.png").read_bytes() == (ROOT / "docs/sample.png").read_bytes()


def test_every_command_of_the_page_about_runs_runs(tmp_path: Path) -> None:
    setup = "\n".join(blocks("README.md", "sh")[1].splitlines()[:2])
    commands = "\n".join(blocks("docs/runs.md", "sh"))
    with running(tmp_path) as server:
        printed = paste(f"{setup}\n{commands}", server, tmp_path)
        said = run_snippets(blocks("docs/runs.md", "python"), server, tmp_path)

    assert "generations/8 2 " in said
    assert "2 images go in an hour" in said
    assert '"state":"published"' in printed
    assert '{"folder":"generations/7","marked":4,"kept":0,"newer":0}' in printed
    assert '"expires_at":' in printed


@pytest.mark.parametrize("place", ["disk", "bucket"])
def test_the_readmes_embedding_works(
    tmp_path: Path, request: pytest.FixtureRequest, place: str
) -> None:
    snippet, _ = blocks("README.md", "python")
    (tmp_path / "compute_server.py").write_text(textwrap.dedent(snippet))
    variables = bucket_variables(request.getfixturevalue("seaweed")) if place == "bucket" else {}
    assert all(name in (ROOT / "README.md").read_text() for name in variables)
    port = free_port()
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "uvicorn", "compute_server:app", "--port", str(port)],
            cwd=tmp_path,
            env={**os.environ, **variables},
            stdout=log,
            stderr=log,
        )
    server = Server(process, tmp_path / "stillroom-data", port, tmp_path / "log", dict(os.environ))
    server.follows = place == "bucket"
    try:
        for _ in range(600):
            try:
                assert httpx.get(f"{server.url}/openapi.json").status_code == 200
                break
            except httpx.TransportError:
                threading.Event().wait(0.1)  # until it listens
        with server.client() as client:
            assert client.post(f"{IMAGES}/a.png", files={"file": b"x"}).status_code == 200
            read = client.get(f"{IMAGES}/a.png")
            assert (read.content, len(read.history)) == (b"x", place == "bucket")
            assert client.delete(f"{IMAGES}/a.png").status_code == 200
        assert "public URLs begin with http://127.0.0.1:8000" in server.logged()
    finally:
        process.terminate()
        process.wait(30)


def run_snippets(snippets: list[str], server: Server, folder: Path) -> str:
    """Run Python as a reader would who has a token, an image and a file of it."""
    (folder / "cat.png").write_bytes((ROOT / "docs/sample.png").read_bytes())
    given = "import sys\ntoken = sys.argv[1]\nimage = open('cat.png', 'rb').read()\n"
    script = given + "\n".join(snippets).replace(DEFAULT_URL, server.url)
    if "async def main" in script:
        script += "\nimport asyncio\nasyncio.run(main())\n"
    (folder / "worker.py").write_text(script)
    ran = subprocess.run(
        [sys.executable, "-W", "error::DeprecationWarning", "worker.py", server.token()],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def test_the_readmes_worker_saves_in_three_lines(tmp_path: Path) -> None:
    _, snippet = blocks("README.md", "python")
    assert len([line for line in snippet.splitlines() if line]) == 3
    with running(tmp_path) as server, server.client() as client:
        run_snippets([snippet], server, tmp_path)
        sample = (ROOT / "docs/sample.png").read_bytes()
        assert client.get(f"{IMAGES}/generations/2/cat.png").content == sample


def test_every_snippet_of_the_sdk_page_runs(tmp_path: Path) -> None:
    with running(tmp_path) as server, server.client() as client:
        printed = run_snippets(blocks("docs/sdk.md", "python"), server, tmp_path)
        assert "generations/none.png: no such image not_found" in printed
        assert client.get(IMAGES).json() == [
            "generations/1/cat.png",
            "generations/2/a.webp",
            "generations/2/b.png",
            "generations/2/c-1.png",
            "generations/2/c.png",
            "generations/3/cat.png",
        ]
    assert len(list((tmp_path / "run/run").iterdir())) == 100


def test_every_snippet_and_command_of_the_generation_page_runs(tmp_path: Path) -> None:
    setup = "\n".join(blocks("README.md", "sh")[1].splitlines()[:2])
    setup += f"\nexport STILLROOM_URL={DEFAULT_URL} STILLROOM_TOKEN=$TOKEN"
    commands = "\n".join(blocks("docs/generation.md", "sh"))
    with running(tmp_path) as server:
        printed = paste(f"{setup}\n{commands}", server, tmp_path)
        assert "prompt          a red fox\n" in printed
        printed = run_snippets(blocks("docs/generation.md", "python"), server, tmp_path)
    assert printed == "a red fox in the snow 965400086\n"


def test_every_snippet_and_command_of_the_search_page_runs(tmp_path: Path) -> None:
    setup = "\n".join(blocks("README.md", "sh")[1].splitlines()[:2])
    setup += f"\nexport STILLROOM_URL={DEFAULT_URL} STILLROOM_TOKEN=$TOKEN"
    commands = "\n".join(blocks("docs/search.md", "sh"))
    with running(tmp_path) as server:
        assert '{"items":[],"next":null}' in paste(f"{setup}\n{commands}", server, tmp_path)
        assert run_snippets(blocks("docs/search.md", "python"), server, tmp_path) == ""


def test_every_command_of_the_page_on_the_mark_runs(tmp_path: Path) -> None:
    setup = "\n".join(blocks("README.md", "sh")[1].splitlines()[:2])
    setup += f"\nexport STILLROOM_URL={DEFAULT_URL} STILLROOM_TOKEN=$TOKEN"
    commands = "\n".join(blocks("docs/ai-mark.md", "sh"))
    with running(tmp_path) as server:
        printed = paste(f"{setup}\n{commands}", server, tmp_path)
    assert "saved generations/1/fox.png" in printed
    assert '"unmarked": []' in printed


def test_every_command_of_the_cli_page_runs(tmp_path: Path) -> None:
    with running(tmp_path) as server, server.client() as client:
        printed = paste("\n".join(blocks("docs/cli.md", "sh")), server, tmp_path)
        assert client.get(IMAGES).json() == ["generations/7/sample.png"]  # for an hour
    sample = (ROOT / "docs/sample.png").read_bytes()
    for name in ("cat.png", "copy.png", "back/1/cat.png", "back/2/sample.png"):
        assert (tmp_path / name).read_bytes() == sample
    assert "would save notes/docs/sdk.md" in printed or "would save notes/sdk.md" in printed
    assert "ok    saving" in printed
    table = re.findall(r"^\| (\d) \|", (ROOT / "docs/cli.md").read_text(), re.MULTILINE)
    code = (ROOT / "src/stillroom/cli/exits.py").read_text()
    assert {"0", *re.findall(r": (?:Final = )?(\d)\b", code)} == set(table)


def test_every_command_of_the_migration_page_runs(tmp_path: Path) -> None:
    with running(tmp_path) as server, server.client() as client:
        client.post(f"{IMAGES}/a.png", files={"file": b"x"}).raise_for_status()
        printed = paste("\n".join(blocks("docs/migration.md", "sh")), server, tmp_path)
    assert "would copy  compute/a.png" in printed
    assert (tmp_path / "new-data/compute/a.png").read_bytes() == b"x"


@pytest.fixture
def on_a_bucket(
    seaweed: SeaweedFS, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Server]:
    """A server whose images are in a bucket, also named by the variables around it."""
    for name, value in {
        "R2_ENDPOINT_URL": seaweed.endpoint_url,
        "R2_ACCESS_KEY_ID": KEY_ID,
        "R2_SECRET_ACCESS_KEY": SECRET,
        "R2_BUCKET_NAME": BUCKET,
    }.items():
        monkeypatch.setenv(name, value)
    with running(tmp_path) as server:
        yield server
    seaweed.empty()


@pytest.mark.parametrize("backend", ["disk", "bucket"])
def test_the_curl_and_httpx_recipes_run(
    tmp_path: Path, request: pytest.FixtureRequest, backend: str
) -> None:
    setup = "\n".join(blocks("README.md", "sh")[1].splitlines()[:2])
    curl = "\n".join(blocks("docs/recipes.md", "sh")[:2])
    with contextlib.ExitStack() as stack:
        server = (
            request.getfixturevalue("on_a_bucket")
            if backend == "bucket"
            else stack.enter_context(running(tmp_path))
        )
        curled = paste(f"{setup}\n{curl}".replace("limit=1000", "limit=1"), server, tmp_path)
        client = blocks("docs/recipes.md", "python")[0].replace("limit=1000", "limit=1")
        fetched = run_snippets([client], server, tmp_path)
        again = paste(f"{setup}\n{curl}".replace("limit=1000", "limit=1"), server, tmp_path)

    sample = (ROOT / "docs/sample.png").read_bytes()
    for name in ("curl.png", "httpx.png"):
        assert (tmp_path / name).read_bytes() == sample
    assert '["generations/1/curl.png"]' in curled
    assert '["generations/1/curl.png"]["generations/1/httpx.png"]' in again
    assert fetched.splitlines()[1:] == ["generations/1/curl.png", "generations/1/httpx.png"]


def test_the_boto3_and_rclone_recipes_see_the_keys_that_the_server_sees(
    on_a_bucket: Server, tmp_path: Path
) -> None:
    sample = (ROOT / "docs/sample.png").read_bytes()
    rclone = blocks("docs/recipes.md", "sh")[2]
    with ImageStore(on_a_bucket.url, on_a_bucket.token()) as store:
        store.save("generations/1/sdk.png", sample)

        listed = run_snippets([blocks("docs/recipes.md", "python")[1]], on_a_bucket, tmp_path)
        printed = paste(f'PATH=".venv/bin:$PATH"\n{rclone}', on_a_bucket, tmp_path)

        assert listed == f"compute/generations/1/sdk.png {len(sample)}\n"
        assert printed.split() == ["generations/1/boto3.png", "generations/1/sdk.png"]
        names = [f"generations/1/{tool}.png" for tool in ("boto3", "rclone", "sdk")]
        assert list(store.iter()) == names
        found = {entry.path: entry for entry in store.entries()}
        for name in names:
            assert store.read(name) == sample
            assert found[name].content_type == "image/png"
        hashes = [found[name].sha256 for name in names]
        assert hashes == [hashlib.sha256(sample).hexdigest(), None, hashes[0]]
        file_s = (ROOT / "docs/sample.png").stat().st_mtime
        assert found[names[1]].modified.timestamp() == pytest.approx(file_s, abs=1)
        for name in names[:2]:
            assert (tmp_path / "fetched/1" / Path(name).name).exists() == (name != names[1])
        assert (tmp_path / "fetched/1/sdk.png").read_bytes() == sample


# What a pipeline of diffusers is to its callback, by its documentation of `callback_on_step_end`.
DIFFUSERS = """
from types import SimpleNamespace
import numpy
from PIL import Image


class Latents(numpy.ndarray):
    def detach(self):
        return self


class Pipe:
    vae = SimpleNamespace(
        config=SimpleNamespace(scaling_factor=0.5),
        decode=lambda latents, return_dict: (latents,),
    )
    image_processor = SimpleNamespace(
        postprocess=lambda decoded, output_type: [Image.new("RGB", (8, 8), "teal")] * len(decoded)
    )

    def __call__(self, prompt, num_inference_steps, callback_on_step_end):
        latents = numpy.ones((2, 4, 8, 8)).view(Latents)
        for step in range(num_inference_steps):
            given = callback_on_step_end(self, step, 1000 - step, {"latents": latents})
            latents = given.pop("latents", latents)
        made = [Image.new("RGB", (64, 64), colour) for colour in ("red", "blue")]
        return SimpleNamespace(images=made)


pipe = Pipe()
"""


def test_the_diffusers_recipe_shows_previews_and_saves_a_run(tmp_path: Path) -> None:
    recipe = blocks("docs/recipes.md", "python")[3]
    with running(tmp_path) as server, ImageStore(server.url, server.token()) as store:
        run_snippets([DIFFUSERS, recipe], server, tmp_path)
        (run,) = store.runs("generations/")
        assert (run.folder, run.state, run.count) == ("generations/9", "published", 2)
        facts = store.metadata("generations/9/1.png")
        assert facts.ai_mark == "iptc"
        assert facts.generation is not None
        assert facts.generation.prompt == "a fox in the snow"
        assert PIL.Image.open(io.BytesIO(store.read("previews/9.webp"))).size == (8, 8)


def test_the_compute_server_recipe_saves_what_it_makes(tmp_path: Path) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    snippet = blocks("docs/recipes.md", "python")[2].replace(DEFAULT_URL, url)
    (tmp_path / "compute_server.py").write_text(snippet)
    environment = {
        **os.environ,
        "STILLROOM_PUBLIC_BASE_URL": url,
        "STILLROOM_DATA_DIR": str(tmp_path / "stillroom-data"),
    }
    log = tmp_path / "log"
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [sys.executable, "-m", "uvicorn", "compute_server:app", "--port", str(port)],
            cwd=tmp_path,
            env=environment,
            stdout=stream,
            stderr=stream,
        )
    server = Server(process, tmp_path / "stillroom-data", port, log, environment)
    try:
        for _ in range(600):
            assert process.poll() is None, server.logged()
            with contextlib.suppress(httpx.TransportError):
                assert httpx.get(f"{url}/openapi.json").status_code == 200
                break
            threading.Event().wait(0.1)  # until it listens
        made = httpx.post(f"{url}/generate", params={"colour": "teal"}, timeout=180).json()
        shown = httpx.get(made["url"])
        assert shown.headers["content-type"] == "image/png"
        assert PIL.Image.open(io.BytesIO(shown.content)).getpixel((0, 0)) == (0, 128, 128)
        with ImageStore(url, server.token()) as store:
            assert list(store.iter()) == [made["path"]]
            assert store.read(made["path"]) == shown.content
            store.delete(made["path"])
            assert list(store.iter()) == []
    finally:
        process.terminate()
        process.wait(30)


@contextlib.contextmanager
def started(commands: str, folder: Path, log: Path, **environment: str) -> Iterator[None]:
    """Commands that go on until they are stopped, as in a terminal of their own."""
    with log.open("wb") as stream:
        process = subprocess.Popen(
            ["bash", "-c", commands],
            cwd=folder,
            env={**os.environ, **environment},
            stdout=stream,
            stderr=stream,
            start_new_session=True,
        )
    try:
        yield
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(30)


def wait_for_answer(url: str, log: Path) -> None:
    for _ in range(600):
        with contextlib.suppress(httpx.TransportError):
            httpx.get(url, timeout=5)
            return
        threading.Event().wait(0.1)  # until it listens
    raise AssertionError(log.read_text()[-2000:])


@pytest.mark.slow
def test_the_page_about_trying_a_bucket_starts_one_and_saves_into_it(tmp_path: Path) -> None:
    seaweed, serve, use = blocks("docs/try-a-bucket.md", "sh")
    s3, master, volume, filer, admin, port = free_ports(6)
    seaweed = (
        f"{seaweed.rstrip()} -s3.port={s3} -s3.port.iceberg=0 -s3.port.lance=0 "
        f"-master.port={master} -volume.port={volume} -filer.port={filer} -admin.port={admin}"
    )
    bucket = f"http://127.0.0.1:{s3}"
    (tmp_path / "docs").symlink_to(ROOT / "docs")
    (tmp_path / ".venv").symlink_to(sys.prefix)
    log = tmp_path / "log"

    with started(seaweed, tmp_path, tmp_path / "weed.log"):
        wait_for_answer(f"{bucket}/images", tmp_path / "weed.log")
        on_it = serve.replace("http://127.0.0.1:8333", bucket)
        with started(on_it, tmp_path, log, STILLROOM_PORT=str(port)):
            wait_for_answer(f"http://127.0.0.1:{port}/healthz", log)
            ran = subprocess.run(
                ["bash", "-ec", use.replace(DEFAULT_URL, f"http://127.0.0.1:{port}")],
                cwd=tmp_path,
                capture_output=True,
                text=True,
                timeout=100,
                check=False,
            )

    assert ran.returncode == 0, ran.stderr
    assert (tmp_path / "back.png").read_bytes() == (ROOT / "docs/sample.png").read_bytes()
    assert not (tmp_path / "stillroom-data/compute").exists(), "it is in the bucket"
    assert "ok    saving" in log.read_text()
    assert "WRONG" not in log.read_text()


def test_every_setting_has_its_row_and_its_meaning_in_one_table() -> None:
    page = (ROOT / "docs/reference/settings.md").read_text()
    code = (ROOT / "src/stillroom/settings/fields.py").read_text()

    rows = re.findall(r"^\| `(?:STILLROOM_|(?=R2_))(\w+)` .*\| +(.*) +\|$", page, re.MULTILINE)
    fields = set(re.findall(r"^    ([a-z]\w*): [^=\n]+ = ", code, re.MULTILINE))

    assert {name for name, _ in rows} == {name.upper() for name in fields}
    assert [name for name, meaning in rows if not meaning] == []
    tables = [
        page for page in PAGES if re.search(r"^\| Variable +\|", page.read_text(), re.MULTILINE)
    ]
    assert tables == [ROOT / "docs/reference/settings.md"]


def test_the_reference_is_what_the_code_says(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "reference", tmp_path],
        env={**os.environ, "PYTHONPATH": str(ROOT / "tests")},
        check=True,
    )
    for made in tmp_path.iterdir():
        written = (ROOT / "docs/reference" / made.name).read_text()
        assert written == made.read_text(), "it is stale: make reference"
    assert len(list(tmp_path.iterdir())) == len(list((ROOT / "docs/reference").iterdir())) == 3


PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]


@pytest.mark.parametrize("page", sorted(str(page.relative_to(ROOT)) for page in PAGES))
def test_every_link_of_a_page_leads_somewhere(page: str) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", (ROOT / page).read_text()):
        if not target.startswith("http"):
            name, _, anchor = target.partition("#")
            file = (ROOT / page).parent / name if name else ROOT / page
            assert file.exists(), target
            assert not anchor or anchor in anchors(file.read_text()), target


def anchors(text: str) -> set[str]:
    """Those that GitHub makes of headings."""
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in headings}


def test_every_test_that_a_page_names_exists() -> None:
    tests = "".join(file.read_text() for file in (ROOT / "tests").rglob("test_*.py"))
    for suite in (
        "contract/suite",
        "media/suite",
        "media/sweeping",
        "media/scanning",
        "media/expiring",
        "media/enriching",
    ):
        tests += (ROOT / f"tests/{suite}.py").read_text()
    for page in PAGES:
        for name in re.findall(r"`(test_\w+)`", page.read_text()):
            assert f"def {name}(" in tests, f"{page.name}: {name}"


@pytest.mark.parametrize("page", ["security", "reliability"])
def test_each_section_of_promises_has_its_proofs(page: str) -> None:
    promised = re.findall(r"^## (.+)$", (ROOT / f"docs/{page}.md").read_text(), re.MULTILINE)
    proofs = (ROOT / "docs/proofs.md").read_text().partition(f"\n## {page.title()}\n")[2]
    proofs = proofs.partition("\n## ")[0]

    proved = [part.splitlines()[0] for part in proofs.split("\n### ")[1:] if "`test_" in part]

    assert proved == [section for section in promised if section != "What is yours"]


def test_every_page_is_found_by_task() -> None:
    found = (ROOT / "docs/README.md").read_text()
    pages = {page.name for page in (ROOT / "docs").glob("*.md")} - {"README.md"}

    assert [name for name in sorted(pages) if f"]({name}" not in found] == []
    assert "](docs/README.md)" in (ROOT / "README.md").read_text()
