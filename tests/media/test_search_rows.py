"""The rows of the search index, the same on SQLite and on PostgreSQL."""

import itertools
import re
from collections.abc import AsyncIterator
from dataclasses import fields, replace
from typing import Any, Final

import pytest

from stillroom.features.database.clock import new_id, now
from stillroom.features.database.config import RowsConfig
from stillroom.features.library.database import MediaDatabase
from stillroom.features.library.intents import LEASE
from stillroom.features.library.resource import (
    IMAGE,
    IN_PLACE,
    Change,
    Intent,
    MediaResource,
    ResourceQuery,
)
from stillroom.features.library.rows.repository import MediaRepository
from stillroom.features.search.database import search_rows
from stillroom.features.search.rows import SearchRows
from stillroom.features.search.terms import parse_terms, terms_of
from stillroom.features.search.values import IndexedImage, Place, Removed, SearchQuery
from stillroom.generation.reading import Found
from stillroom.paths import KeyPrefix, StorageKey
from stillroom.store.values import StoredImage
from stillroom.wire.generation import Generation, Lora

ALL: Final = KeyPrefix("compute/")
SAVED_NS: Final = 1_764_000_000_000_000_000
"""2025-11-24T16:00:00Z"""

FOX: Final = Generation(
    tool="ComfyUI",
    prompt="A red fox, in the snow",
    seed=2**64 - 1,
    sampler="Euler a",
    model="sd_xl_base_1.0.safetensors",
    loras=(Lora("Ink-Lines", 0.8), Lora("noise")),
)


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def config(request: pytest.FixtureRequest) -> RowsConfig:
    found: RowsConfig = request.getfixturevalue(request.param)
    return found


@pytest.fixture
async def rows(config: RowsConfig) -> AsyncIterator[SearchRows]:
    database = MediaDatabase(config)
    yield await search_rows(database)
    await database.close()


@pytest.fixture
async def library(config: RowsConfig) -> AsyncIterator[MediaRepository]:
    database = MediaDatabase(config)
    yield await database.rows()
    await database.close()


async def test_the_newest_come_first_page_by_page(rows: SearchRows) -> None:
    await rows.write([_image(f"{n}.png", saved_ns=n) for n in (3, 1, 2)])
    await rows.write([_image("4.png", saved_ns=4)])

    assert await _found(rows) == ["4.png", "3.png", "2.png", "1.png"]
    assert await _found(rows, descending=False) == ["1.png", "2.png", "3.png", "4.png"]
    assert await _found(rows, order="path") == ["4.png", "3.png", "2.png", "1.png"]
    first = await rows.search(SearchQuery(prefix=ALL, limit=3))
    assert first.next_after == 2
    assert await _found(rows, after=first.next_after) == ["1.png"]
    for query in (SearchQuery(prefix=ALL, limit=4), SearchQuery(prefix=ALL, limit=1, after=2)):
        assert (await rows.search(query)).next_after is None


async def test_images_of_one_moment_are_all_found_once(rows: SearchRows) -> None:
    names = [f"{n:03}.png" for n in range(200)]
    for some in (names[:150], names[150:]):
        await rows.write([_image(name, saved_ns=10**18) for name in some])

    seen: list[str] = []
    after: Place | None = None
    while True:
        page = await rows.search(SearchQuery(prefix=ALL, limit=7, after=after))
        seen += [one.image.key.text.removeprefix("compute/") for one in page.images]
        after = page.next_after
        if after is None:
            break
    assert sorted(seen) == names
    assert await _found(rows, saved_before_ns=10**18) == []
    assert len(await _found(rows, saved_from_ns=10**18, limit=1000)) == 200


ASKED: Final = [
    ("fox", True),
    ("FOX red", True),
    ("sno", True),
    ("now", False),
    ('"sno"', False),
    ("s", False),
    ("red_fo", True),
    ("fox -wolf", True),
    ("-wolf", True),
    ("fox -snow", False),
    ("-sno", False),
    ('-"fox red" fox', True),
    ('-"red fox"', False),
    ("-model:sdxl fox", False),
    ("foxes", False),
    ("fox wolf", False),
    ('"red fox"', True),
    ('"fox red"', False),
    ('"the snow a"', False),
    ('"snow generations"', False),
    ("sd_xl_base", True),
    ("sdxl", True),
    ("xlbase", True),
    ("base.xl", False),
    ("generations", True),
    ("ink", False),
    ('"red fox', True),
    ("fox OR wolf", False),
    ("fo*", True),
    ("NOT fox", False),
]


async def test_words_and_phrases_are_searched_for(rows: SearchRows) -> None:
    await rows.write([_image("generations/1/cat.png", FOX), _image("wolf.png")])

    for asked, is_found in ASKED:
        found = await _found(rows, asked)
        assert (found == ["generations/1/cat.png"]) == is_found, asked
        assert ("generations/1/cat.png" in found) == is_found, asked


FILTERS: Final = [
    (f"seed:{2**64 - 1}", True),
    ("seed:1", False),
    ("-seed:1", True),
    ("tool:comfyui", True),
    ("tool:comfy", False),
    ("-tool:ComfyUI", False),
    ('sampler:"euler A"', True),
    ("type:image/png", True),
    ("type:image/webp", False),
    ("ai_mark:iptc", True),
    ("ai_mark:none", False),
    ("model:SD_xl_base_1.0", True),
    ("model:sdxl", True),
    ("MODEL:SDXL-b", True),
    ("model:xl.base", True),
    ("model:dxl", False),
    ("model:fox", False),
    ("-model:sdxl", False),
    ("lora:ink-lines", True),
    ("lora:inkl", True),
    ("lora:lines-ink", False),
    ("prompt:fox", True),
    ("prompt:cat", False),
    ('prompt:"red fox"', True),
    ("prompt:red prompt:snow", True),
    ("name:CA", True),
    ("name:cat.png", True),
    ("name:at", False),
    ("name:a/cat", False),
    ("-name:cat", False),
    ("size:>9B", True),
    ("size:>=10", True),
    ("size:>10", False),
    ("size:<0.1KB", True),
    ("size:<10b", False),
    ("size:<999999999999.9GB", True),  # more than a database's numbers
    ("size:>999999999999.9GB", False),
    ("size:>9 size:<11", True),
    ("size:>9 size:<11 size:<2", False),
    ("after:2025-11-24", True),
    ("after:2025-11 before:2026", True),
    ("after:2025-11-25", False),
    ("before:2025-11-24", False),
    ("before:2025-11-24T16:00:01Z", True),
    ("before:2025-11-24T17:00:00+01:00", False),
    (f"seed:{2**64 - 1} fox tool:ComfyUI", True),
    (f"seed:{2**64 - 1} wolf", False),
]

BOUNDS: Final[list[tuple[dict[str, Any], bool]]] = [
    ({"content_type": "image/png"}, True),
    ({"content_type": "image/webp"}, False),
    ({"prefix": KeyPrefix("compute/a/")}, True),
    ({"prefix": KeyPrefix("compute/a/c")}, True),
    ({"prefix": KeyPrefix("compute/a/d")}, False),
    ({"prefix": KeyPrefix("compute/a/cat.png/")}, False),
    ({"prefix": KeyPrefix("compute/%")}, False),
    ({"saved_from_ns": SAVED_NS}, True),
    ({"saved_from_ns": SAVED_NS + 1}, False),
    ({"saved_before_ns": SAVED_NS + 1}, True),
    ({"saved_before_ns": SAVED_NS}, False),
    ({"saved_from_ns": -(10**30), "saved_before_ns": 10**30}, True),
]


async def test_filters_find_what_they_say_and_nothing_else(rows: SearchRows) -> None:
    await rows.write([_image("a/cat.png", FOX)])

    for (asked, is_found), order in itertools.product(FILTERS, ("saved", "path")):
        found = await _found(rows, asked, order=order)
        assert found == (["a/cat.png"] if is_found else []), asked
    for (bounds, is_found), order in itertools.product(BOUNDS, ("saved", "path")):
        found = await _found(rows, **bounds, order=order)
        assert found == (["a/cat.png"] if is_found else []), bounds


WRONG: Final = [
    ("fox colour:red", 'no filter "colour:"'),
    ("https://example.com", 'no filter "https:"'),
    ("model:", '"model:" needs a value'),
    ('tag:" "', '"tag:" needs a value'),
    ("seed:x", '"seed:" must be a whole number'),
    (f"seed:{2**64}", '"seed:" must be a whole number'),
    ("ai_mark:yes", '"ai_mark:" must be one of c2pa'),
    ("before:tomorrow", '"before:" must be a day'),
    ("after:2026-13", '"after:" must be a day'),
    ("size:2MB", '"size:" must be a limit, such as'),
    ("-size:>2MB", "cannot be excluded"),
    ("!!!", "a letter or a digit"),
    ("a " * 33, "at most 32 words"),
]


def test_a_filter_that_is_wrong_gets_a_sentence() -> None:
    for asked, said in WRONG:
        with pytest.raises(ValueError, match=re.escape(said)):
            parse_terms(asked)


def test_a_doubled_quotation_mark_is_one_in_the_value_of_a_filter() -> None:
    for asked, tag in (
        ('tag:"12"" disc" more', '12" disc'),
        ('tag:""""', '"'),
        ('tag:"unclosed"" one', 'unclosed" one'),
    ):
        assert parse_terms(asked).terms[0].words == (tag,), asked
    assert len(parse_terms('"red""fox"').terms) == 2
    with pytest.raises(ValueError, match="needs a value"):
        parse_terms('tag:"" fox')


@pytest.mark.parametrize("name", ["model", "lora"])
def test_a_blank_name_is_wrong_and_no_filter_that_everything_passes(name: str) -> None:
    with pytest.raises(ValueError, match="a letter or a digit"):
        terms_of(name, " ")


NAMES: Final = [
    ("b c d e f", True),
    ("a b c d e f g", True),
    ("g", True),
    ("b d", False),
    ("a b c d f", False),
    ("g h", False),  # in two names
    ("h i", True),
]


async def test_phrases_of_any_length_are_found_in_names(rows: SearchRows) -> None:
    loras = (Lora("A-b_c d.e f/G"), Lora("h i"))
    await rows.write([_image("a.png", Generation(loras=loras)), _image("b.png")])

    for asked, is_found in NAMES:
        found = await _found(rows, f'lora:"{asked}"')
        assert found == (["a.png"] if is_found else []), asked


async def test_names_of_megabytes_are_cut(rows: SearchRows) -> None:
    loras = tuple(Lora(" ".join(f"w{n}x{at}" for at in range(100))) for n in range(1000))
    await rows.write([_image("a.png", Generation(model="fox " * 10**6, loras=loras))])

    assert await _found(rows, "lora:w0x0-w0x1") == ["a.png"]
    assert await _found(rows, "lora:w999x0") == []


@pytest.mark.parametrize("reach", [1, 64])
async def test_pages_of_a_phrase_are_whole_however_rare_it_is(
    rows: SearchRows, monkeypatch: pytest.MonkeyPatch, reach: int
) -> None:
    has_it = {n * n: n % 10 == 0 or n > 40 for n in range(60)}
    texts = {n: "snow red fox" if has_it[n] else "fox red snow" for n in has_it}
    monkeypatch.setattr("stillroom.features.search.rows._NEAR", 8)
    monkeypatch.setattr("stillroom.features.search.rows._REACH", reach)
    await rows.write(
        [_image(f"{n}.png", Generation(prompt=text), saved_ns=n) for n, text in texts.items()]
    )

    for limit, descending, times in itertools.product((1, 3, 50), (True, False), TIMES):
        since, before = times
        query = SearchQuery(
            prefix=ALL, terms=parse_terms('"red fox"').terms, limit=limit,
            descending=descending, saved_from_ns=since, saved_before_ns=before,
        )  # fmt: skip
        wanted = [n for n in has_it if has_it[n] and (since or 0) <= n < (before or 10**6)]
        pages = [await rows.search(query)]
        while (after := pages[-1].next_after) is not None:
            pages.append(await rows.search(replace(query, after=after)))
        found = [one.image.modified_ns for page in pages for one in page.images]
        assert found == (wanted[::-1] if descending else wanted)


TIMES: Final = [(None, None), (100, None), (None, 401), (100, 401), (5000, 6000)]


async def test_case_accents_and_scripts_do_not_matter(rows: SearchRows) -> None:
    texts = ["Füchse im Schnee", "ΟΔΟΣ", "Straße", "красная лиса", "赤い狐が雪の中"]
    await rows.write([_image(f"{n}.png", Generation(prompt=text)) for n, text in enumerate(texts)])

    for asked, at in (
        ("fuchse SCHNEE", 0),
        ("οδος", 1),
        ("STRASSE", 2),
        ("ЛИСА", 3),
        ("狐", 4),
        ("雪の", 4),
    ):
        assert await _found(rows, asked) == [f"{at}.png"], asked


async def test_what_was_stored_comes_back(rows: SearchRows) -> None:
    stored = _image("a.png", replace(FOX, raw={"x": 1}))
    await rows.write([stored])

    (found,) = (await rows.search(SearchQuery(prefix=ALL))).images

    assert found == stored
    assert found.metadata.generation is not None
    assert found.metadata.generation.raw is None


async def test_a_prompt_of_megabytes_is_cut(rows: SearchRows) -> None:
    await rows.write([_image("a.png", Generation(prompt="fox " * 10**6 + "wolf"))])

    (found,) = (await rows.search(_query("fox"))).images

    assert found.metadata.generation is not None
    assert len(found.metadata.generation.prompt or "") == 16 * 1024
    assert await _found(rows, "wolf") == []


async def test_the_later_save_of_a_path_stays_whatever_comes_first(rows: SearchRows) -> None:
    new, old = (_image("a.png", Generation(prompt=word), saved_ns=n) for word, n in NEW_AND_OLD)
    for order in ([new, old], [old, new], [old], [new]):
        for image in order:
            await rows.write([image])
        assert await _found(rows, "new") == ["a.png"]
        assert await _found(rows, "old") == []

    await rows.write([old], certain=True)
    assert await _found(rows, "old") == ["a.png"]
    assert await _found(rows, "new") == []


NEW_AND_OLD: Final = (("new", 2), ("old", 1))


async def test_a_removal_takes_what_was_saved_before_it(rows: SearchRows) -> None:
    await rows.write([_image("a.png", FOX, saved_ns=10)])

    await rows.write([], [Removed(StorageKey("compute/a.png"), 9)])
    assert await _found(rows) == ["a.png"]
    await rows.write([], [Removed(StorageKey("compute/a.png"), 11)])
    assert await _found(rows) == []
    assert await _found(rows, "fox") == []
    await rows.write([], [Removed(StorageKey("compute/a.png"), 11)])


async def test_resources_are_found_by_the_facts_of_their_very_save(
    rows: SearchRows, library: MediaRepository
) -> None:
    resources = library.resources
    await rows.write([_image("a/cat.png", FOX), _image("b.png", FOX, saved_ns=7), _image("c.png")])
    for number, path in enumerate(("a/cat.png", "b.png", "c.png", "d.png"), 2):
        recorded, intent = _recorded(path, number), StorageKey.of_media(new_id(), "png")
        await library.intents.write(Intent(intent, IN_PLACE, recorded.storage_key), lease=LEASE)
        await resources.add(recorded, intent=intent)

    page = await resources.page(ResourceQuery())
    assert [one.generation for one in page.resources] == [None, None, None, FOX]
    for asked, is_found in FILTERS:
        found = await resources.page(ResourceQuery(facts=parse_terms(asked)))
        shown = {one.storage_key.text for one in found.resources}
        assert ("compute/a/cat.png" in shown, "compute/b.png" in shown) == (is_found, False), asked
    assert (await resources.page(ResourceQuery(facts=parse_terms("c")))).resources


SAID: Final = [
    ("storm", True),
    ("stor", True),
    ("at-sea", True),
    ("lighthouse", True),
    ('"oil on canvas"', True),
    ('"sea lighthouse"', False),  # in two texts
    ("fox storm", True),
    ("fox -storm", False),
    ("tag:OIL", True),
    ('tag:"oil on canvas"', False),
    ("tag:canvas", False),
    ("-tag:oil", False),
    ("-tag:draft fox", True),
    ("prompt:storm", False),
]


@pytest.mark.parametrize("is_indexed_first", [True, False])
async def test_captions_alt_texts_and_tags_are_found_until_they_change(
    rows: SearchRows, library: MediaRepository, *, is_indexed_first: bool
) -> None:
    resource = _recorded("a.png", 1)
    if is_indexed_first:
        await rows.write([_image("a.png", FOX)])
    await library.intents.write(Intent(MEDIA_KEY, IN_PLACE, resource.storage_key), lease=LEASE)
    await library.resources.add(resource, intent=MEDIA_KEY)
    texts = Change(caption="Storm at sea", alt_text="A lighthouse. Oil on canvas")
    await library.resources.change(resource.id, texts)
    await library.tags.change(resource.id, lambda _: frozenset({"oil", "deep sea"}))
    if not is_indexed_first:
        await rows.write([_image("a.png", FOX)])

    for asked, is_found in SAID:
        page = await library.resources.page(ResourceQuery(facts=parse_terms(asked)))
        assert len(page.resources) == is_found, asked
        assert await _found(rows, asked) == ["a.png"] * is_found, asked
    assert await _found(rows, "storm", sees_library=False) == []
    assert await _found(rows, "fox -storm", sees_library=False) == ["a.png"]

    await library.resources.change(resource.id, Change(caption="Calm"))
    await library.tags.change(resource.id, lambda _: frozenset())
    for asked, is_found in (("storm", False), ("calm", True), ("tag:oil", False), ("fox", True)):
        assert await _found(rows, asked) == ["a.png"] * is_found, asked
    for other in (OTHER, None):
        await rows.write([_image("a.png", FOX, saved_ns=SAVED_NS + 1, sha256=other)])
        assert await _found(rows, "calm") == []  # it is another save


async def test_an_image_saved_again_is_still_described_by_its_resource(
    rows: SearchRows, library: MediaRepository
) -> None:
    resource = _recorded("a.png", 1)
    await rows.write([_image("a.png", FOX), _image("b.png", FOX)])
    await library.intents.write(Intent(MEDIA_KEY, IN_PLACE, resource.storage_key), lease=LEASE)
    await library.resources.add(resource, intent=MEDIA_KEY)
    await library.resources.change(resource.id, Change(caption="storm"))
    await library.tags.change(resource.id, lambda _: frozenset({"oil"}))

    async def check(*, is_described: bool) -> None:
        for asked in ("storm", "tag:oil"):
            assert await _found(rows, asked) == ["a.png"] * is_described, asked
        made = FOX if is_described else None
        (shown,) = (await library.resources.page(ResourceQuery())).resources
        assert shown.generation == made
        assert (await library.resources.find(resource.id)).generation == made
        page = await library.resources.page(ResourceQuery(facts=parse_terms("fox storm")))
        assert len(page.resources) == is_described

    same, unhashed = (
        _image("a.png", FOX, saved_ns=SAVED_NS + number, sha256=sha256)
        for number, sha256 in ((1, resource.content_hash), (3, None))
    )
    await check(is_described=True)
    await rows.write([same])
    await check(is_described=True)
    await library.tags.change(resource.id, lambda _: frozenset({"oil", "new"}))
    await check(is_described=True)
    await rows.write([_image("a.png", FOX, saved_ns=SAVED_NS + 2, sha256=OTHER)])
    await check(is_described=False)
    await rows.write([unhashed])
    await check(is_described=False)
    assert await library.resources.keep(resource, file=unhashed.image)
    await check(is_described=True)


async def test_what_leaves_the_library_is_not_found_by_what_was_said_of_it(
    rows: SearchRows, library: MediaRepository
) -> None:
    resource = _recorded("a.png", 1)
    await rows.write([_image("a.png", FOX)])
    await library.intents.write(Intent(MEDIA_KEY, IN_PLACE, resource.storage_key), lease=LEASE)
    await library.resources.add(resource, intent=MEDIA_KEY)
    await library.resources.change(resource.id, Change(caption="storm"))
    assert await _found(rows, "storm") == ["a.png"]

    await library.resources.delete(resource.id, due_at=now())

    assert await _found(rows, "storm") == []
    assert await _found(rows, "fox") == ["a.png"]


MEDIA_KEY: Final = StorageKey.of_media(new_id(), "png")
SHA256: Final = b"\1" * 32
OTHER: Final = b"\0" * 32


def _recorded(path: str, number: int) -> MediaResource:
    return MediaResource(
        id=new_id(), resource_type=IMAGE, storage_key=StorageKey(f"compute/{path}"),
        save_id="1764000000000000000", content_hash=bytes([number]) * 32, extension="png",
        content_type="image/png", file_size=10, width=1, height=1, color_profile=None,
        protected=False, alt_text=None, caption=None, created_at=now(),
    )  # fmt: skip


def _image(
    path: str,
    generation: Generation | None = None,
    *,
    saved_ns: int = SAVED_NS,
    sha256: bytes | None = SHA256,
) -> IndexedImage:
    image = StoredImage(
        key=StorageKey(f"compute/{path}"),
        size=10,
        etag='"1"',
        modified_ns=saved_ns,
        content_type="image/png",
        sha256=sha256,
        save_id=f"{saved_ns}",
    )
    return IndexedImage.of(image, Found(generation, ai_mark="iptc"))


async def _found(rows: SearchRows, asked: str = "", **bounds: Any) -> list[str]:
    page = await rows.search(_query(asked, **bounds))
    return [one.image.key.text.removeprefix("compute/") for one in page.images]


def _query(asked: str, **bounds: Any) -> SearchQuery:
    found = parse_terms(asked)
    facts = {one.name: getattr(found, one.name) for one in fields(found)}
    return SearchQuery(**{"prefix": ALL, **facts, **bounds})
