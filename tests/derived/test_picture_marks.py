"""The mark that says that AI made an image is in its pictures, too."""

import hashlib
import importlib.metadata
from pathlib import Path

import pytest

from derived.conftest import Store
from generation import carriers as at
from generation.whole import find_in
from in_process import IMAGES
from services.exiftool import read_by_exiftool
from stillroom.features.pictures.derivation import Derivation
from stillroom.generation.carriers.xmp import TRAINED
from stillroom.generation.writing.mark import with_ai_mark

pytestmark = pytest.mark.slow


def packets(data: bytes) -> int:
    return data.count(b"<x:xmpmeta")


MARKED = {
    "iptc.png": at.with_xmp("PNG", at.iptc()),
    "iptc.webp": at.with_xmp("WEBP", at.iptc("compositeWithTrainedAlgorithmicMedia")),
    "iptc.avif": at.with_xmp("AVIF", at.iptc()),
    "c2pa.jpg": at.with_c2pa("JPEG", at.jumbf(70_000)),
    "both.png": at.with_c2pa("PNG", at.jumbf(), at.with_xmp("PNG", at.iptc())),
}


async def test_a_picture_of_a_marked_image_says_so_too_and_nothing_else(
    store: Store, tmp_path: Path
) -> None:
    pictures = {}
    for name, data in MARKED.items():
        await store.save(name, data)
        for form in ("webp", "jpeg", "png"):
            made = (await store.get(name, f"width=64&format={form}")).content
            pictures[f"{name}.{form}"] = made

            assert find_in(made).ai_mark == "iptc", (name, form)
            assert packets(made) == 1
            assert b"jumb" not in made
            assert b"composite" not in made
    (tmp_path / "made").mkdir()
    for name, found in read_by_exiftool(tmp_path / "made", pictures).items():
        assert found == {"DigitalSourceType": TRAINED, "ImageWidth": 8}, name


async def test_a_picture_of_another_image_has_no_packet(store: Store) -> None:
    given = {"a.png": at.PLAIN["PNG"], "b.jpg": at.with_xmp("JPEG", at.iptc("digitalCapture"))}
    for name, data in given.items():
        await store.save(name, data)
        for form in ("webp", "jpeg", "png"):
            made = (await store.get(name, f"width=64&format={form}")).content
            assert (packets(made), find_in(made).ai_mark) == (0, "none")


async def test_the_pixels_of_a_marked_picture_are_those_of_another(store: Store) -> None:
    await store.save("a.png", at.PLAIN["PNG"])
    await store.save("b.png", with_ai_mark(at.PLAIN["PNG"]))

    for form in ("webp", "jpeg", "png"):
        plain, marked = [
            await store.picture(name, f"width=64&format={form}") for name in ("a.png", "b.png")
        ]
        assert plain.tobytes() == marked.tobytes()


async def test_a_picture_of_an_unmarked_image_has_the_name_that_it_always_had(
    store: Store,
) -> None:
    etag = await store.save("a.png", at.PLAIN["PNG"])
    maker = f"1 {importlib.metadata.version('pillow')}"
    wanted = Derivation(64, 2048, "contain", "webp", 80)
    parts = (maker, "compute/a.png", etag, str(len(at.PLAIN["PNG"])), repr(wanted))
    name = hashlib.sha256("\n".join(parts).encode()).hexdigest()

    answer = await store.get("a.png", "width=64")

    assert answer.headers["etag"] == f'"{name[:32]}"'


async def test_a_marked_picture_is_known_by_its_etag_and_kept(store: Store) -> None:
    await store.save("a.png", MARKED["iptc.png"])

    first = await store.get("a.png", "width=64")
    again = await store.get("a.png", "width=64")
    known = await store.client.get(
        f"{IMAGES}/a.png?width=64", headers={"if-none-match": first.headers["etag"]}
    )

    assert (first.content, first.headers["etag"]) == (again.content, again.headers["etag"])
    assert known.status_code == 304
    head = await store.client.head(f"{IMAGES}/a.png?width=64")
    assert head.headers["content-length"] == str(len(first.content))


async def test_what_hides_its_mark_is_a_picture_all_the_same(store: Store) -> None:
    given = {
        "a.png": at.with_xmp("PNG", "<broken"),
        "b.webp": at.with_xmp("WEBP", at.iptc() + " " * 2 * 1024**2),
        "c.png": at.with_c2pa("PNG", b"no manifest"),
    }
    for name, data in given.items():
        await store.save(name, data)
        assert (await store.get(name, "width=64")).status_code == 200
