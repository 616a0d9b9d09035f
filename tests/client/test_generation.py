"""Facts about the generation, saved and read by the SDK."""

import hashlib
import io
from pathlib import Path

import httpx
import pytest
from PIL import Image

from generation import carriers as at
from running import Server
from stillroom.client import AsyncImageStore, Generation, ImageStore, Lora
from stillroom.errors import ImageNotFound, InvalidParameter, UnsupportedMedia

FACTS = {"prompt": "a fox & <b>夜</b>", "seed": 2**64 - 1, "loras": [{"name": "ink", "weight": 1}]}


async def test_facts_that_are_saved_are_in_the_image_and_come_back(
    store: AsyncImageStore, folder: str
) -> None:
    path = f"{folder}/fox.webp"

    saved = await store.save(path, Image.new("RGB", (8, 8), "teal"), generation=FACTS)

    found = await store.metadata(path)
    assert found.generation == Generation(
        tool="Stillroom", prompt="a fox & <b>夜</b>", seed=2**64 - 1, loras=(Lora("ink", 1.0),)
    )
    stat = await store.stat(path)
    assert (found.path, found.size, found.etag) == (path, stat.size, stat.etag)
    data = await store.read(path)
    assert hashlib.sha256(data).hexdigest() == saved.sha256 == found.sha256
    with Image.open(io.BytesIO(data)) as image:
        assert b"stillroom:generation" in image.info["xmp"]


async def test_the_same_image_with_the_same_facts_is_not_sent_again(
    store: AsyncImageStore, folder: str, tmp_path: Path
) -> None:
    (tmp_path / "a.png").write_bytes(at.PLAIN["PNG"])
    source, path = tmp_path / "a.png", f"{folder}/a.png"

    first = await store.save_unless_same(path, source, generation=FACTS)
    again = await store.save_unless_same(path, source, generation=FACTS)
    other = await store.save_unless_same(path, source, generation={"seed": 1})

    assert (first.skipped, again.skipped, other.skipped) == (False, True, False)


async def test_facts_of_a_tool_are_read(store: AsyncImageStore, folder: str) -> None:
    text = "a cat\nSteps: 20, Sampler: Euler a, CFG scale: 7, Seed: 5, Size: 512x768"
    await store.save(f"{folder}/a.png", at.png({"parameters": text}))
    await store.save(f"{folder}/b.png", at.PLAIN["PNG"])

    found = (await store.metadata(f"{folder}/a.png")).generation

    assert found is not None
    assert (found.tool, found.prompt, found.width, found.raw) == (
        "A1111", "a cat", 512, {"parameters": text},
    )  # fmt: skip
    assert (await store.metadata(f"{folder}/b.png")).generation is None
    with pytest.raises(ImageNotFound):
        await store.metadata(f"{folder}/none.png")


async def test_what_cannot_be_put_into_an_image_is_refused_and_nothing_is_saved(
    store: AsyncImageStore, folder: str
) -> None:
    with pytest.raises(InvalidParameter, match="promt"):
        await store.save(f"{folder}/a.png", at.PLAIN["PNG"], generation={"promt": "a"})
    with pytest.raises(UnsupportedMedia, match="PNG, JPEG, WebP and AVIF"):
        await store.save(f"{folder}/a.gif", at.picture("GIF"), generation=FACTS)

    assert [path async for path in store.iter(f"{folder}/")] == []


def test_an_older_server_says_that_it_has_no_such_operation(server: Server) -> None:
    def answer(_: httpx.Request) -> httpx.Response:
        said = {"detail": "no such route", "code": "route_not_found"}
        return httpx.Response(404, json=said)

    with (
        ImageStore(server.url, "t", transport=httpx.MockTransport(answer)) as store,
        pytest.raises(Exception, match="404"),
    ):
        store.metadata("a.png")
