"""The mark that says made by AI, by the SDK and the commands."""

import pytest

from generation import carriers as at
from generation.test_writing import pixels
from stillroom.client import AsyncImageStore, SomeFailed
from stillroom.errors import UnsupportedMedia

FACTS = {"prompt": "a fox", "seed": 7}


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "AVIF"])
async def test_what_is_saved_with_the_mark_has_it_and_the_same_pixels(
    store: AsyncImageStore, folder: str, form: str
) -> None:
    path = f"{folder}/a.{form.lower()}"

    await store.save(path, at.PLAIN[form], generation=FACTS, ai_generated=True)

    found = await store.metadata(path)
    assert found.ai_mark == "iptc"
    assert found.generation is not None
    assert found.generation.seed == 7
    data = await store.read(path)
    assert pixels(data) == pixels(at.PLAIN[form])
    assert (await store.save_unless_same(path, data, ai_generated=True)).skipped
    again = await store.save_unless_same(path, at.PLAIN[form], generation=FACTS, ai_generated=True)
    assert again.skipped


async def test_a_manifest_stays_as_it_is(store: AsyncImageStore, folder: str) -> None:
    signed = at.with_c2pa("JPEG", at.jumbf())

    await store.save(f"{folder}/a.jpg", signed, ai_generated=True)

    await store.copy(f"{folder}/a.jpg", f"{folder}/copy.jpg")
    for name in ("a.jpg", "copy.jpg"):
        assert await store.read(f"{folder}/{name}") == signed
        assert (await store.metadata(f"{folder}/{name}")).ai_mark == "c2pa"


async def test_many_are_saved_with_facts_and_the_mark(store: AsyncImageStore, folder: str) -> None:
    images = {f"{folder}/{name}.{name}": at.PLAIN[name.upper()] for name in ("png", "jpeg")}

    first = await store.save_many(images, generation=FACTS, ai_generated=True)
    again = await store.save_many(images, skip_same=True, generation=FACTS, ai_generated=True)

    assert [one.path for one in first] == list(images)
    assert [one.skipped for one in again] == [True, True]
    for path in images:
        found = await store.metadata(path)
        assert found.generation is not None
        assert (found.generation.prompt, found.ai_mark) == ("a fox", "iptc")


async def test_what_cannot_be_marked_is_refused_and_the_rest_is_saved(
    store: AsyncImageStore, folder: str
) -> None:
    images = {f"{folder}/a.png": at.PLAIN["PNG"], f"{folder}/b.gif": at.picture("GIF")}

    with pytest.raises(SomeFailed) as failed:
        await store.save_many(images, ai_generated=True)

    (outcome,) = [one for one in failed.value.outcomes if one.error is not None]
    assert isinstance(outcome.error, UnsupportedMedia)
    assert [path async for path in store.iter(f"{folder}/")] == [f"{folder}/a.png"]
    assert (await store.metadata(f"{folder}/a.png")).ai_mark == "iptc"
