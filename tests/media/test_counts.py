"""Counts of models, LoRAs, samplers, tools and days, the same on SQLite and on PostgreSQL."""

import asyncio
import itertools
import json
import random
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from media.test_search_rows import ALL, _image, _query, _recorded
from stillroom.features.database.clock import now
from stillroom.features.database.config import RowsConfig
from stillroom.features.database.engine import migrating
from stillroom.features.library.database import MediaDatabase
from stillroom.features.library.intents import LEASE
from stillroom.features.library.resource import IN_PLACE, Intent
from stillroom.features.search.count_rows import CountRows
from stillroom.features.search.counts import count_again, count_next, counted_to
from stillroom.features.search.database import count_rows, search_rows
from stillroom.features.search.full_text import full_text
from stillroom.features.search.healing import never_pauses
from stillroom.features.search.rows import SearchRows
from stillroom.features.search.tables import search_counts, search_images
from stillroom.features.search.values import IndexedImage, Place, Removed, SearchQuery
from stillroom.paths import StorageKey
from stillroom.wire.facets import Facets
from stillroom.wire.generation import Generation, Lora

DAY_NS: Final = 86_400 * 10**9
FIRST_NS: Final = 1_764_000_000_000_000_000
FACTS: Final = (
    None,
    Generation(),
    Generation(tool="ComfyUI", model="sdxl.safetensors", sampler="Euler a"),
    Generation(tool="comfyui", model="SDXL.safetensors", sampler="euler A"),
    Generation(tool="A1111", model="x" * 300, loras=(Lora("ink"), Lora("Ink", 0.5), Lora("oil"))),
    Generation(loras=(Lora("ink"), Lora("straße"), Lora("STRASSE")), sampler="'; DROP TABLE x; --"),
)


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def config(request: pytest.FixtureRequest) -> RowsConfig:
    found: RowsConfig = request.getfixturevalue(request.param)
    return found


@pytest.fixture
async def databases(config: RowsConfig) -> AsyncIterator[Sequence[MediaDatabase]]:
    """Two, as of two processes."""
    opened = MediaDatabase(config), MediaDatabase(config)
    yield opened
    for database in opened:
        await database.close()


@pytest.fixture
async def rows(databases: Sequence[MediaDatabase]) -> SearchRows:
    return await search_rows(databases[0])


@pytest.fixture
async def counts(databases: Sequence[MediaDatabase]) -> CountRows:
    return await count_rows(databases[0])


EVERYTHING: Final = SearchQuery(prefix=ALL)

numbers = st.integers(0, 5)
images = st.lists(st.tuples(numbers, numbers, numbers), min_size=1, max_size=6)
steps = st.lists(
    st.tuples(st.sampled_from(["save", "rebuild", "remove", "count", "again"]), images), max_size=12
)


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(steps)
def test_counts_are_those_of_the_rows_after_any_changes(
    config: RowsConfig, steps: list[tuple[str, list[tuple[int, int, int]]]]
) -> None:
    async def run() -> None:
        databases = MediaDatabase(config), MediaDatabase(config)
        try:
            with migrating(config) as connection:
                connection.execute(sa.delete(search_images))
                connection.execute(sa.delete(search_counts))
                if connection.dialect.name == "sqlite":
                    connection.execute(sa.delete(full_text))
            for database, step in zip(itertools.cycle(databases), steps, strict=False):
                await change(database, *step)
                check(config)
        finally:
            for database in databases:
                await database.close()

    asyncio.run(run())


async def change(database: MediaDatabase, kind: str, some: list[tuple[int, int, int]]) -> None:
    engine = await database.engine()
    made = [image_of(*one) for one in some]
    if kind == "again":
        await engine.rewrite(count_again)
    elif kind == "count":
        await engine.rewrite(lambda connection: count_next(connection, 2))
    elif kind == "remove":
        removed = [Removed(one.image.key, one.image.modified_ns) for one in made]
        await (await search_rows(database)).write([], removed)
    else:
        await (await search_rows(database)).write(made, certain=kind == "rebuild")


def image_of(name: int, facts: int, age: int) -> IndexedImage:
    image = _image(f"{name}.png", FACTS[facts], saved_ns=FIRST_NS + age * DAY_NS // 2)
    if name == 0:  # of the library
        key = StorageKey(f"media/{name}/file.png")
        return replace(image, image=replace(image.image, key=key))
    return image


def check(config: RowsConfig) -> None:
    """Compare the table with the rows, read by other means."""
    expected = Counter[tuple[str, str]]()
    with migrating(config) as connection:
        last = counted_to(connection)
        for row in connection.execute(sa.select(search_images)):
            if last is None or row.id <= last:
                expected.update(values_of(row))
        found = {
            (row.kind, row.value.casefold()): row.images
            for row in connection.execute(
                sa.select(search_counts).where(search_counts.c.kind != "")
            )
        }
    assert found == expected


def values_of(row: Any) -> set[tuple[str, str]]:
    if not row.storage_key.startswith("compute/"):
        return set()
    facts = json.loads(row.generation or "{}")
    found = {("lora", lora["name"]) for lora in facts.get("loras", ())}
    found |= {(name, facts[name]) for name in ("model", "sampler", "tool") if name in facts}
    found.add(("day", f"{datetime.fromtimestamp(row.saved_ns // 10**9, UTC):%Y-%m-%d}"))
    return {(kind, value[:255].casefold()) for kind, value in found}


async def test_counts_are_right_after_two_processes_have_written_at_once(
    config: RowsConfig, databases: Sequence[MediaDatabase]
) -> None:
    chance = random.Random(7)
    await (await databases[0].engine()).rewrite(count_again)

    async def write(database: MediaDatabase) -> None:
        for _ in range(25):
            kind = chance.choice(["save", "save", "rebuild", "remove", "count"])
            some = [tuple(chance.randrange(6) for _ in range(3)) for _ in range(8)]
            await change(database, kind, [(one[0], one[1], one[2]) for one in some])

    await asyncio.gather(*map(write, databases))

    check(config)


async def test_values_are_listed_by_their_number_and_days_by_their_age(
    rows: SearchRows, counts: CountRows
) -> None:
    await rows.write(
        [
            _image("1.png", FACTS[2], saved_ns=FIRST_NS),
            _image("2.png", FACTS[3], saved_ns=FIRST_NS + DAY_NS),
            _image("3.png", FACTS[4], saved_ns=FIRST_NS + DAY_NS),
            _image("a/4.png", FACTS[5], saved_ns=FIRST_NS + 2 * DAY_NS),
        ]
    )

    for query in (EVERYTHING, _query("", size_from=1)):
        found = await counts.facets(query, with_tags=False)
        assert lists_of(found) == {
            "model": {"sdxl.safetensors": 2, "x" * 255: 1},
            "lora": {"ink": 2, "oil": 1, "strasse": 1},
            "sampler": {"euler a": 2, "'; drop table x; --": 1},
            "tool": {"comfyui": 2, "a1111": 1},
            "day": {"2025-11-26": 1, "2025-11-25": 2, "2025-11-24": 1},
        }
        for kind in ("model", "lora", "sampler", "tool"):
            numbers = [one.count for one in getattr(found, kind)]
            assert numbers == sorted(numbers, reverse=True)
        assert [one.value for one in found.day] == ["2025-11-26", "2025-11-25", "2025-11-24"]
        assert (found.counted, found.complete, found.tag) == (4, True, None)
    found = await counts.facets(_query("model:sdxl"), with_tags=False)
    assert (lists_of(found)["tool"], found.counted) == ({"comfyui": 2}, 2)
    found = await counts.facets(
        SearchQuery(prefix=replace(ALL, text="compute/a/")), with_tags=False
    )
    assert (lists_of(found)["day"], found.counted) == ({"2025-11-26": 1}, 1)


def lists_of(found: Facets) -> dict[str, dict[str, int]]:
    return {
        kind: {one.value.casefold(): one.count for one in getattr(found, kind)}
        for kind in ("model", "lora", "sampler", "tool", "day")
    }


async def test_of_many_matches_the_newest_are_counted(
    rows: SearchRows, counts: CountRows, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = [_image(f"{at}.png", Generation(model=f"m{at}"), saved_ns=at) for at in range(5)]
    await rows.write(made)
    monkeypatch.setattr("stillroom.features.search.count_rows._MAX_MATCHES", 3)
    monkeypatch.setattr("stillroom.features.search.count_rows._MAX_VALUES", 2)

    some = await counts.facets(_query("png"), with_tags=False)
    everything = await counts.facets(EVERYTHING, with_tags=False)

    assert (some.counted, some.complete, len(some.model)) == (3, False, 2)
    assert {one.value for one in some.model} < {"m2", "m3", "m4"}
    assert (everything.counted, everything.complete, len(everything.model)) == (5, True, 2)


async def test_tags_of_images_that_a_search_finds_are_counted(
    databases: Sequence[MediaDatabase], rows: SearchRows, counts: CountRows
) -> None:
    library = await databases[0].rows()
    kept = {"a.png": {"oil", "sea"}, "b.png": {"oil"}, "c.png": {"gone"}}
    for number, (path, names) in enumerate(kept.items()):
        await rows.write([_image(path, FACTS[number + 2])])
        resource = _recorded(path, number)
        intent = Intent(StorageKey.of_media(resource.id, "png"), IN_PLACE, resource.storage_key)
        await library.intents.write(intent, lease=LEASE)
        await library.resources.add(resource, intent=intent.media_key)
        await library.tags.change(resource.id, partial(lambda names, _: names, frozenset(names)))
    await library.resources.delete(resource.id, due_at=now())

    for query, expected in (
        (EVERYTHING, [("oil", 2), ("sea", 1)]),
        (_query("sampler:'euler"), []),
        (_query('sampler:"euler a"'), [("oil", 2), ("sea", 1)]),
        (_query("name:b"), [("oil", 1)]),
    ):
        found = await counts.facets(query, with_tags=True)
        assert [(one.value, one.count) for one in found.tag or ()] == expected


async def test_rows_from_before_the_upgrade_are_counted_in_the_background(
    config: RowsConfig, databases: Sequence[MediaDatabase], rows: SearchRows, counts: CountRows,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr("stillroom.features.search.count_rows._PAGE", 2)
    await rows.write([_image(f"{at}.png", FACTS[at], saved_ns=at) for at in range(5)])
    await (await databases[0].engine()).rewrite(count_again)
    found = await counts.facets(EVERYTHING, with_tags=False)
    assert (found.counted, found.complete) == (0, False)
    stops = iter([False, True])

    async def stops_soon(_: float) -> bool:
        return next(stops)

    scans = await databases[0].scans()
    await counts.catch_up(scans, stops_soon)
    found = await counts.facets(EVERYTHING, with_tags=False)
    assert (found.counted, found.complete) == (4, False)
    await rows.write(
        [_image("9.png", FACTS[3], saved_ns=9)], [Removed(StorageKey("compute/1.png"), 9)]
    )
    check(config)
    await counts.catch_up(scans, never_pauses)

    check(config)
    found = await counts.facets(EVERYTHING, with_tags=False)
    assert (found.counted, found.complete) == (5, True)


@pytest.mark.parametrize("many", [2, 20_000])
async def test_images_are_sorted_by_size_page_by_page(
    rows: SearchRows, many: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stillroom.features.search.rows._MANY", many)
    sizes = (30, 10, 20, 20, 20, 10**12)
    made = [_image(f"{at}.png", FACTS[2], saved_ns=at + 1) for at in range(len(sizes))]
    await rows.write(
        [
            replace(one, image=replace(one.image, size=size))
            for one, size in zip(made, sizes, strict=True)
        ]
    )
    order = ["1.png", "2.png", "3.png", "4.png", "0.png", "5.png"]

    for asked, descending, limit in itertools.product(("", "sdxl"), (True, False), (1, 2, 9)):
        after: Place | None = None
        found: list[str] = []
        while True:
            query = _query(asked, order="size", descending=descending, limit=limit, after=after)
            page = await rows.search(query)
            found += [one.image.key.text.removeprefix("compute/") for one in page.images]
            after = page.next_after
            if after is None:
                break
        assert found == (order[::-1] if descending else order)
