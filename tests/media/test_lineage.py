"""Lineage in the rows of the search index, the same on SQLite and on PostgreSQL."""

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Final

import pytest

from generation.carriers import png
from generation.comfy_graphs import node
from stillroom.features.database.config import RowsConfig
from stillroom.features.library.database import MediaDatabase
from stillroom.features.lineage.feature import expand_searches, lineage_rows
from stillroom.features.lineage.rows import LineageRows
from stillroom.features.search.healing import IndexHealing, never_pauses
from stillroom.features.search.terms import parse_terms
from stillroom.features.search.values import IndexedImage, SearchQuery
from stillroom.generation.reading import Found
from stillroom.paths import KeyPrefix, StorageKey
from stillroom.store.port import ImageStorage
from stillroom.store.sources import BytesSource
from stillroom.store.values import StoredImage
from stillroom.wire.generation import Generation

HASHES: Final = [bytes([number]) * 32 for number in range(3)]


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def config(request: pytest.FixtureRequest) -> RowsConfig:
    found: RowsConfig = request.getfixturevalue(request.param)
    return found


@pytest.fixture
async def rows(config: RowsConfig) -> AsyncIterator[LineageRows]:
    database = MediaDatabase(config)
    database.on_connect.append(expand_searches)
    yield await lineage_rows(database)
    await database.close()


def image(path: str, *origins: str, sha256: bytes | None = None, number: int = 1) -> IndexedImage:
    stored = StoredImage(
        key=StorageKey(path if path.startswith("media/") else f"compute/{path}"), size=10,
        etag='"1"', modified_ns=10**18 + number, content_type="image/png", sha256=sha256,
        save_id=f"{number}",
    )  # fmt: skip
    return IndexedImage.of(stored, Found(Generation(derived_from=origins)))


async def found(rows: LineageRows, asked: str, folder: str = "") -> set[str]:
    query = SearchQuery(terms=parse_terms(asked).terms, prefix=KeyPrefix("compute/"), folder=folder)
    page = await rows.search(query)
    return {one.image.key.text.removeprefix("compute/") for one in page.images}


async def test_paths_and_hashes_stand_for_each_other(rows: LineageRows) -> None:
    base, copy = image("a/base.png", sha256=HASHES[0]), image("copy.png", sha256=HASHES[0])
    made = [
        image("1.png", "a/base.png"),
        image("2.png", HASHES[0].hex()),
        image("a/3.png", "base.png"),
        image("4.png", "copy.png"),
        image("media/5/file.png", "a/base.png"),
    ]
    await rows.write([base, copy, *made])

    assert await found(rows, "derived_from:a/base.png") == {"1.png", "2.png", "a/3.png"}
    every = {"1.png", "2.png", "a/3.png", "4.png"}
    assert await found(rows, f"derived_from:{HASHES[0].hex()}") == every
    assert await found(rows, f"derived_from:{HASHES[1].hex()}") == set()
    lineage = await rows.lineage(base.image, "")
    assert lineage == {"derived_from": [], "derivatives": 3}
    assert await rows.lineage(base.image, "a/") == {"derived_from": [], "derivatives": 1}
    lineage = await rows.lineage(made[1].image, "")
    assert lineage == {"derived_from": ["a/base.png", "copy.png"], "derivatives": 0}
    assert (await rows.lineage(made[1].image, "a/"))["derived_from"] == ["a/base.png"]
    assert (await rows.lineage(made[2].image, "a/"))["derived_from"] == ["a/base.png"]


async def test_a_folder_limits_what_a_search_knows_of_other_images(rows: LineageRows) -> None:
    await rows.write([
        image("out/base.png", sha256=HASHES[0]),
        image("in/1.png", "out/base.png"),
        image("in/2.png", HASHES[0].hex()),
    ])  # fmt: skip

    assert await found(rows, "derived_from:out/base.png", "in/") == {"in/1.png"}
    assert await found(rows, f"derived_from:{HASHES[0].hex()}", "in/") == {"in/2.png"}
    both = {"in/1.png", "in/2.png"}
    for folder in ("", "out/"):
        assert await found(rows, "derived_from:out/base.png", folder) == both
        assert await found(rows, f"derived_from:{HASHES[0].hex()}", folder) == both


async def test_the_origins_of_another_save_are_unknown(rows: LineageRows) -> None:
    made = image("a.png", "b.png")
    await rows.write([made, image("b.png")])

    assert (await rows.lineage(made.image, ""))["derived_from"] == ["b.png"]
    newer = replace(made.image, save_id="2")
    assert await rows.lineage(newer, "") == {"derived_from": None, "derivatives": 0}
    missing = replace(made.image, key=StorageKey("compute/c.png"))
    assert await rows.lineage(missing, "") == {"derived_from": None, "derivatives": 0}


async def test_many_copies_and_many_origins_are_limited_to_100(rows: LineageRows) -> None:
    hashes = [bytes([number]) * 32 for number in range(100)]
    names = [f"{number:03}.png" for number in range(250)]
    made = image("made.png", *[one.hex() for one in hashes], number=10**6)
    await rows.write([
        made,
        image("of-a-copy.png", names[0]),
        *(image(name, sha256=HASHES[0], number=number) for number, name in enumerate(names)),
        *(image(f"x/{name}", sha256=hashes[int(name[:3]) % 100]) for name in names),
    ])  # fmt: skip

    lineage = await rows.lineage(made.image, "")
    assert isinstance(lineage["derived_from"], list)
    assert len(lineage["derived_from"]) == 100
    asked = " ".join(f"derived_from:{HASHES[0].hex()}" for _ in range(32))
    assert await found(rows, asked) == {"made.png", "of-a-copy.png"}
    excluded = " ".join(f"-derived_from:{HASHES[0].hex()}" for _ in range(32))
    assert "made.png" not in await found(rows, excluded)


async def test_images_from_before_the_upgrade_are_found_after_a_rebuild(
    rows: LineageRows, config: RowsConfig, disk: ImageStorage
) -> None:
    graph = json.dumps(
        {"1": node("LoadImage", image="b.png"), "2": node("SaveImage", images=["1", 0])}
    )
    saved = await disk.save(StorageKey("compute/a.png"), BytesSource(png({"prompt": graph})))
    older = IndexedImage.of(saved, Found(Generation(tool="ComfyUI")))
    base = await disk.save(StorageKey("compute/b.png"), BytesSource(png({})))
    await rows.write([older, IndexedImage.of(base, Found(None))])
    assert await found(rows, "derived_from:b.png") == set()

    database = MediaDatabase(config)
    healing = IndexHealing(disk, database, compares_saves=True)
    await healing.rebuild(never_pauses, restart=True, progress=lambda _: None)
    await database.close()

    assert await found(rows, "derived_from:b.png") == {"a.png"}
    assert await rows.lineage(saved, "") == {"derived_from": ["b.png"], "derivatives": 0}


async def test_hostile_origins_find_nothing(rows: LineageRows) -> None:
    hostile = ["../b.png", "/b.png", "", "b.png' OR 1=1 --", "%", "b.png\ufffd", "\U0010ffff" * 9]
    made = image("in/a.png", *hostile, "x" * 10**6)
    await rows.write([made, image("b.png"), image("in/b.png")])

    assert await rows.lineage(made.image, "") == {"derived_from": [], "derivatives": 0}
    assert await found(rows, 'derived_from:"%"') == {"in/a.png"}
    assert await found(rows, 'derived_from:"b.png\0"') == {"in/a.png"}
