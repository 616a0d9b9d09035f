"""The recipes of docs/recipes.md are run."""

import contextlib
import hashlib
import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import PIL.Image
import pytest

from acceptance.pasting import ODD, ROOT, blocks, paste, run_snippets, started
from acceptance.webhook_recipes import WEBHOOK_SECRET, saves_are_told, webhooks_for
from running import Server, free_port, running
from services.seaweedfs import BUCKET, KEY_ID, SECRET, SeaweedFS
from stillroom.client import ImageStore

pytestmark = pytest.mark.whole  # tools and apps of others, started as users do


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
def test_the_curl_recipes_run(tmp_path: Path, request: pytest.FixtureRequest, backend: str) -> None:
    setup = "\n".join(blocks("README.md", "sh")[1].splitlines()[:2])
    curl = "\n".join(blocks("docs/recipes.md", "sh")[:2])
    with contextlib.ExitStack() as stack:
        server = (
            request.getfixturevalue("on_a_bucket")
            if backend == "bucket"
            else stack.enter_context(running(tmp_path))
        )
        with ImageStore(server.url, server.token()) as store:
            store.save_many(ODD)
        curled = paste(f"{setup}\n{curl}".replace("limit=1000", "limit=1"), server, tmp_path)

    assert (tmp_path / "curl.png").read_bytes() == (ROOT / "docs/sample.png").read_bytes()
    pages = "".join(json.dumps([name], ensure_ascii=False) for name in sorted(ODD))
    assert f'{pages}["generations/1/curl.png"]' in curled


def test_the_boto3_and_rclone_recipes_see_the_keys_that_the_server_sees(
    on_a_bucket: Server, tmp_path: Path
) -> None:
    sample = (ROOT / "docs/sample.png").read_bytes()
    rclone = blocks("docs/recipes.md", "sh")[2]
    with ImageStore(on_a_bucket.url, on_a_bucket.token()) as store:
        store.save("generations/1/sdk.png", sample)
        store.save_many(ODD)
        odd = sorted(ODD)

        listed = run_snippets([blocks("docs/recipes.md", "python")[0]], on_a_bucket, tmp_path)
        printed = paste(f'PATH=".venv/bin:$PATH"\n{rclone}', on_a_bucket, tmp_path)

        assert listed.splitlines() == [
            *(f"compute/{name} {len(ODD[name])}" for name in odd),
            f"compute/generations/1/sdk.png {len(sample)}",
        ]
        assert sorted(printed.splitlines()) == [
            *odd,
            "generations/1/boto3.png",
            "generations/1/sdk.png",
        ]
        names = [f"generations/1/{tool}.png" for tool in ("boto3", "rclone", "sdk")]
        assert list(store.iter()) == [*odd, *names]
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
        for name, data in ODD.items():
            assert (tmp_path / "fetched/0" / Path(name).name).read_bytes() == data


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
    recipe = blocks("docs/recipes.md", "python")[1]
    with running(tmp_path) as server, ImageStore(server.url, server.token()) as store:
        run_snippets([DIFFUSERS, recipe], server, tmp_path)
        (run,) = store.runs("generations/")
        assert (run.folder, run.state, run.count) == ("generations/9", "published", 2)
        facts = store.metadata("generations/9/1.png")
        assert facts.ai_mark == "iptc"
        assert facts.generation is not None
        assert facts.generation.prompt == "a fox in the snow"
        assert PIL.Image.open(io.BytesIO(store.read("previews/9.webp"))).size == (8, 8)


def test_the_webhook_receiver_of_fastapi_verifies_signatures(tmp_path: Path) -> None:
    port, log = free_port(), tmp_path / "receiver.log"
    (tmp_path / "receiver.py").write_text(blocks("docs/recipes.md", "python")[3])
    url = f"http://127.0.0.1:{port}/hooks/images"
    command = f"{sys.executable} -m uvicorn receiver:app --port {port}"

    with (
        started(command, tmp_path, log, WEBHOOK_SECRET=WEBHOOK_SECRET),
        running(tmp_path, webhooks_file=str(webhooks_for(tmp_path, url))) as server,
    ):
        saves_are_told(server, url, log)
