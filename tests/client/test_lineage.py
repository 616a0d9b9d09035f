"""Lineage in the SDK, `stillroom show` and `stillroom search`."""

import json

from command_line import PNG, Run
from generation.carriers import png
from stillroom.client import AsyncImageStore
from waiting import eventually


async def test_an_image_shows_its_origins_and_the_number_of_its_derivatives(
    store: AsyncImageStore, folder: str, run: Run
) -> None:
    base, made, other = (f"{folder}/{name}.png" for name in ("base", "made", "other"))
    sha256 = (await store.save(base, png({"comment": folder}))).sha256
    assert sha256 is not None
    await store.save(other, PNG)
    await store.save(made, png({}), generation={"derived_from": [base, "gone.png", sha256]})

    async def is_indexed() -> bool:
        found = await store.metadata(made)
        return found.derived_from == (base,) and (await store.metadata(base)).derivatives == 1

    await eventually(is_indexed)
    for origin in (base, sha256):
        assert [one.path async for one in store.search(derived_from=origin)] == [made]
        found = run("search", "--derived-from", origin, "--json")
        assert [json.loads(line)["path"] for line in found.out.splitlines()] == [made]
    assert made in run("search", f'derived_from:"{base}"').out.split()
    shown = run("show", made).out.splitlines()
    assert f"made from       {base}" in shown
    assert "derivatives     1" in run("show", base).out.splitlines()
    assert "derivatives" not in run("show", other).out
    printed = json.loads(run("show", made, "--json").out)
    assert (printed["derived_from"], printed["derivatives"]) == ([base], 0)
