"""The SDK's search, `stillroom search`, and `stillroom index rebuild`."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from command_line import Run
from generation.carriers import png
from running import Server
from stillroom.client import AsyncImageStore, FacetCount
from stillroom.errors import InvalidParameter, InvalidPath
from waiting import eventually


async def found(store: AsyncImageStore, *words: str, **asked: Any) -> list[str]:
    return [image.path async for image in store.search(*words, **asked)]


async def saved(store: AsyncImageStore, folder: str, prompts: dict[str, str]) -> None:
    """Save images, and wait until the last one is found."""
    for seed, (name, prompt) in enumerate(prompts.items()):
        parameters = f"{prompt}\nSteps: 20, Seed: {seed}, Model: ink_v2"
        await store.save(f"{folder}/{name}", png({"parameters": parameters}))

    async def are_found() -> bool:
        return len(await found(store, prefix=f"{folder}/")) == len(prompts)

    await eventually(are_found)


async def test_images_are_found_by_what_they_say(store: AsyncImageStore, folder: str) -> None:
    await saved(store, folder, {"1.png": "a red fox", "2.png": "a fox, red", "3.png": "a whale"})
    within = {"prefix": f"{folder}/"}

    assert await found(store, "red fox", **within) == [f"{folder}/2.png", f"{folder}/1.png"]
    assert await found(store, '"red fox"', **within) == [f"{folder}/1.png"]
    assert await found(store, seed=2, model="ink", **within) == [f"{folder}/3.png"]
    assert await found(store, sort="path", limit=2, **within) == [
        f"{folder}/1.png",
        f"{folder}/2.png",
    ]
    (image,) = [one async for one in store.search("whale", prefix=f"{folder}/")]
    assert image.generation is not None
    assert (image.generation.prompt, image.ai_mark) == ("a whale", "none")
    assert image.etag == (await store.stat(image.path)).etag
    assert not hasattr(image, "expires_at"), "only `metadata` reads it"
    since = datetime.now(UTC) - timedelta(minutes=5)
    assert len(await found(store, saved_from=since, **within)) == 3
    assert await found(store, saved_before=since, **within) == []


async def test_an_unknown_filter_or_option_is_refused(store: AsyncImageStore, folder: str) -> None:
    wrong: dict[str, Any] = {"models": "ink"}
    with pytest.raises(
        TypeError, match=r"^unexpected keyword argument 'models': did you mean 'model'\?$"
    ):
        await found(store, "fox", **wrong)
    with pytest.raises(TypeError, match="did you mean 'model'"):
        await store.facets(**wrong)
    wrong = {"widths": 64}
    with pytest.raises(TypeError, match="did you mean 'width'"):
        await store.read(f"{folder}/a.png", **wrong)
    with pytest.raises(TypeError, match=r"'xyz': use prompt, model, .*, sort$"):
        await found(store, xyz=1)


async def test_all_pages_are_gone_through(
    store: AsyncImageStore, folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stillroom.client.requests._FOUND_A_PAGE", 2)
    await saved(store, folder, {f"{number}.png": "a fox" for number in range(5)})

    assert len(await found(store, "fox", prefix=folder)) == 5
    assert len(await found(store, "fox", prefix=folder, limit=3)) == 3
    assert await found(store, "fox", prefix=folder, limit=0) == []


async def test_a_search_that_stops_early_says_how_to_get_more(
    store: AsyncImageStore, folder: str, run: Run
) -> None:
    await saved(store, folder, {f"{number}.png": "a fox" for number in range(3)})

    for limit, said in ((2, "Stopped after 2 images. "), (3, ""), (0, "")):
        listed = run("search", "--prefix", f"{folder}/", "--limit", str(limit))
        assert (listed.code, len(listed.out.splitlines())) == (0, limit or 3)
        assert listed.err.startswith(said)
        assert bool(listed.err) == bool(said)
    nothing = run("search", "--prefix", f"{folder}/", "unheardof")
    assert (nothing.code, nothing.out, nothing.err) == (0, "", "nothing found\n")
    assert "--limit 0" in run("search", "--prefix", f"{folder}/", "--limit", "1").err


async def test_images_are_found_by_the_tags_that_the_library_has_for_them(
    store: AsyncImageStore, folder: str, run: Run
) -> None:
    await saved(store, folder, {"1.png": f"{folder} one", "2.png": f"{folder} two"})
    kept = await store.ingest(f"{folder}/1.png", relocate=False)
    assert run("media", "tag", str(kept.id), "sea", "storm").code == 0

    assert await found(store, prefix=folder, tag="sea") == [f"{folder}/1.png"]
    assert await found(store, prefix=folder, tag=["sea", "-storm"]) == []
    listed = run("search", "--prefix", folder, "--tag", "sea", "--tag", "-draft")
    assert f"{folder}/1.png" in listed.out
    assert f"{folder}/2.png" not in listed.out
    assert f"{folder}/2.png" in run("search", "--prefix", folder, "--tag", "-sea").out


async def test_values_of_images_are_counted(store: AsyncImageStore, folder: str, run: Run) -> None:
    await saved(store, folder, {"1.png": "a fox", "2.png": "a \x1b[31m fox", "3.png": "a whale"})
    text = {"parameters": "a fox\nSteps: 20, Seed: 9, Model: ink\x1b[31m"}
    await store.save(f"{folder}/4.png", png(text))
    await store.ingest(f"{folder}/1.png", relocate=False)

    async def is_counted() -> bool:
        return (await store.facets(prefix=f"{folder}/")).counted == 4

    await eventually(is_counted)
    counted = await store.facets("fox", prefix=f"{folder}/")
    assert counted.model == [FacetCount("ink_v2", 2), FacetCount("ink\x1b[31m", 1)]
    assert (counted.counted, counted.complete, counted.tag) == (3, True, [])
    assert (await store.facets()).counted >= 4

    listed = run("facets", "--prefix", f"{folder}/", "whale")
    assert (listed.code, listed.err) == (0, "1 image counted\n")
    assert "model            1  ink_v2\n" in listed.out
    assert "\x1b" not in run("facets", "--prefix", f"{folder}/").out
    as_json = run("facets", "--prefix", f"{folder}/", "whale", "--json").out
    assert json.loads(as_json)["tool"] == [{"value": "A1111", "count": 1}]


async def test_what_cannot_be_asked_is_refused_before_it_is_sent(store: AsyncImageStore) -> None:
    with pytest.raises(InvalidParameter, match="zone"):
        await found(store, saved_from=datetime(2026, 1, 1))  # noqa: DTZ001  (that is the mistake)
    with pytest.raises(InvalidPath):
        await found(store, prefix="../")


async def test_the_commands_search_and_rebuild(
    store: AsyncImageStore, folder: str, run: Run, server: Server
) -> None:
    await saved(
        store, folder, {"1.png": "a red fox \x1b[31m" * 9, "2.png": "a whale", "b/3.png": "a cat"}
    )

    listed = run("search", "--prefix", f"{folder}/", "red fox", "--seed", "0")
    assert (listed.code, listed.err) == (0, "")
    (line,) = listed.out.splitlines()
    assert f"  {folder}/1.png  " in line
    assert line.endswith("…")
    assert "\x1b" not in line
    lines = run("search", "--prefix", f"{folder}/").out.splitlines()
    assert len({line.index("  a ") for line in lines}) == 1
    as_json = run("search", "--prefix", f"{folder}/", "whale", "--json").out
    assert json.loads(as_json)["generation"]["seed"] == 1
    assert "expires_at" not in json.loads(as_json), "the index does not know it"
    assert run("search", "--seed", "-1").code == 2
    assert run("search", "--from", "yesterday").code == 2

    rebuilt = run("index", "rebuild", "--json", STILLROOM_DATA_DIR=str(server.data))
    assert rebuilt.code == 0
    assert json.loads(rebuilt.out)["images"] >= 2
    again = run("index", "rebuild", STILLROOM_DATA_DIR=str(server.data))
    assert " images, " in again.out
    assert len(await found(store, prefix=f"{folder}/")) == 3
