"""Changes of fields and tags of resources."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from media.library import OURS, Library, make_due
from pictures import picture
from stillroom.errors import (
    BackendUnavailable,
    InvalidParameter,
    PreconditionFailed,
    ResourceNotFound,
)
from stillroom.features.database.clock import new_id
from stillroom.features.library.resource import Change, MediaResource, ResourceQuery
from stillroom.features.library.rows.tables import intents, resources, tags

COLOR = "#8a6d3b"
FACTS = ("alt_text", "caption", "duration", "color_profile", "dominant_color")


# Fields


async def test_what_is_unset_is_filled_and_the_rest_is_left_alone(
    library: Library, resource: MediaResource
) -> None:
    await library.service.change(resource.id, Change(caption="first"))

    change = Change(
        caption="second", alt_text="first", duration=1.5, width=1, height=1, protected=True,
        dominant_color=None,
    )  # fmt: skip
    changed = await library.service.change(resource.id, change, only_unset=True)

    assert (changed.caption, changed.alt_text, changed.duration) == ("first", "first", 1.5)
    assert (changed.width, changed.height, changed.protected) == (24, 16, False)
    assert changed == await library.service.find(resource.id)


async def test_without_that_every_fact_is_set_and_taken_away(
    library: Library, resource: MediaResource
) -> None:
    change = Change(
        duration=2.0, width=7, height=8, color_profile="sRGB", dominant_color=COLOR
    )  # fmt: skip
    changed = await library.service.change(resource.id, change)

    assert (changed.duration, changed.width, changed.height) == (2.0, 7, 8)
    assert (changed.color_profile, changed.dominant_color) == ("sRGB", COLOR)
    gone = Change(duration=None, color_profile=None, dominant_color=None)
    changed = await library.service.change(resource.id, gone)
    assert (changed.duration, changed.color_profile, changed.dominant_color) == (None,) * 3


async def test_what_is_unset_of_nothing_is_not_found(library: Library) -> None:
    for change in (Change(), Change(caption="x")):
        with pytest.raises(ResourceNotFound):
            await library.service.change(new_id(), change, only_unset=True)


async def test_of_ten_changes_of_what_was_seen_the_same_one_is_made(
    library: Library, resource: MediaResource
) -> None:
    def check(current: MediaResource) -> None:
        if current.caption is not None:
            raise PreconditionFailed

    async def change(number: int) -> bool:
        try:
            await library.service.change(resource.id, Change(caption=f"{number}"), check=check)
        except PreconditionFailed:
            return False
        return True

    assert sum(await asyncio.gather(*map(change, range(10)))) == 1


@pytest.mark.pairs
async def test_of_ten_enrichers_that_race_the_first_value_of_each_field_stands(
    library: Library, resource: MediaResource
) -> None:
    others = [Library(library.meddled.storage, library.config) for _ in range(10)]
    for other in others:
        await other.database.rows()
    start = asyncio.Barrier(10)

    async def enrich(number: int) -> MediaResource:
        await start.wait()
        service, found = others[number].service, resource
        for at in range(len(FACTS)):  # each in another order
            name = FACTS[(at + number) % len(FACTS)]
            value: object = float(number + 1) if name == "duration" else f"{number}"
            change = Change(**{name: value})
            found = await service.change(resource.id, change, only_unset=True)
            assert getattr(found, name) is not None
        await service.change_tags(resource.id, lambda tags: tags | {f"tag {number}"})
        return found

    answers = await asyncio.gather(*map(enrich, range(10)))

    after = await library.service.find(resource.id)
    for answer in answers:
        assert [getattr(answer, name) for name in FACTS] == [getattr(after, name) for name in FACTS]
    assert after.tags == tuple(f"tag {number}" for number in range(10))
    for other in others:
        await other.database.close()


# Tags


async def test_tags_are_added_replaced_and_removed(
    library: Library, resource: MediaResource
) -> None:
    async def change(wanted: Callable[[frozenset[str]], frozenset[str]]) -> list[str]:
        return list(await library.service.change_tags(resource.id, wanted))

    assert await change(lambda tags: tags | {"b", "Katze 🐈"}) == ["Katze 🐈", "b"]
    assert await change(lambda tags: tags | {"b", "a"}) == ["Katze 🐈", "a", "b"]
    assert await change(lambda tags: tags - {"a", "none"}) == ["Katze 🐈", "b"]
    assert (await library.service.find(resource.id)).tags == ("Katze 🐈", "b")
    assert await change(lambda _: frozenset("x")) == ["x"]
    assert await change(lambda _: frozenset()) == []
    assert await library.service.find(resource.id) == resource
    with pytest.raises(ResourceNotFound):
        await library.service.change_tags(new_id(), lambda tags: tags)


@pytest.mark.pairs
async def test_tags_that_are_added_at_once_are_never_too_many_and_none_is_lost(
    library: Library, resource: MediaResource
) -> None:
    async def add(number: int) -> frozenset[str]:
        added = frozenset(f"{number} {at}" for at in range(10))
        try:
            await library.service.change_tags(resource.id, lambda tags: tags | added)
        except InvalidParameter:
            return frozenset()
        return added

    added = await asyncio.gather(*map(add, range(8)))

    found = set((await library.service.find(resource.id)).tags)
    assert found == frozenset().union(*added)
    assert len(found) == 50


async def test_pages_are_filtered_by_tags(library: Library) -> None:
    made = []
    for number, has in enumerate(({"a", "b"}, {"a"}, {"b", "a b"}, set[str]())):
        await library.save("a.png", picture(number))
        made.append((await library.ingest("a.png")).id)
        await library.service.change_tags(made[-1], frozenset(has).union)

    async def found(**query: Any) -> list[int]:
        page = await library.service.page(ResourceQuery(**query))
        return sorted(made.index(one.id) for one in page.resources)

    assert await found(tags=["a"]) == [0, 1]
    assert await found(tags=["a", "b"]) == [0]
    assert await found(without_tags=["a"]) == [2, 3]
    assert await found(tags=["b"], without_tags=["a"]) == [2]
    assert await found(tags=["a"], without_tags=["a"]) == await found(tags=["none"]) == []
    assert await found(tags=["a"], limit=1) == [1]
    assert await found(tags=["a"], limit=1, after=made[1]) == [0]


async def test_tags_stay_with_a_resource_that_is_revived_and_go_with_one_that_is_swept(
    library: Library, resource: MediaResource
) -> None:
    await library.service.change_tags(resource.id, lambda _: frozenset({"a"}))
    await library.service.delete(resource.id)
    with pytest.raises(ResourceNotFound):
        await library.service.change_tags(resource.id, lambda _: frozenset())

    assert (await library.ingest("a.png")).tags == ("a",)

    await library.service.delete(resource.id)
    make_due(library)
    await library.sweep()
    assert library.table(tags) == library.table(resources) == []


async def test_a_folder_sees_nothing_that_was_added_to_anothers_resource(library: Library) -> None:
    await library.save("theirs/a.png", picture())
    theirs = await library.ingest("theirs/a.png")
    change = Change(width=1, color_profile="theirs", dominant_color=COLOR, duration=1.0)
    await library.service.change(theirs.id, change)
    await library.service.change_tags(theirs.id, lambda _: frozenset({"theirs"}))
    await library.save("ours/a.png", picture())

    seen = await library.ingest("ours/a.png", within=OURS)

    assert (seen.id, seen.width, seen.color_profile) == (theirs.id, 24, None)
    assert (seen.dominant_color, seen.duration, seen.tags) == (None, None, ())


# The deadline of an ingest


@pytest.mark.parametrize("when", ["before_copy", "after_copy"])
async def test_an_ingest_that_takes_too_long_is_given_up_and_what_it_copied_is_remembered(
    library: Library, when: str
) -> None:
    hangs = asyncio.Event()

    async def hang() -> None:
        hangs.set()
        await asyncio.Event().wait()

    await library.save("a.png", picture())
    setattr(library.meddled, when, hang)

    for patience in (0.7, 3, 12, 48):  # on a slow machine the deadline may come before that
        deadline = asyncio.get_running_loop().time() + patience
        with pytest.raises(BackendUnavailable, match="too long"):
            await library.service.ingest_from_storage_key("compute/a.png", deadline=deadline)
        if hangs.is_set():
            break
        make_due(library)
        await library.sweep()

    (intent,) = library.table(intents)
    copied = [] if when == "before_copy" else [intent.media_key.text]
    assert await library.media_keys() == copied
    assert library.marked() == library.table(resources) == []
    setattr(library.meddled, when, None)
    kept = await library.ingest("a.png")
    make_due(library)
    await library.sweep()
    assert await library.media_keys() == [kept.storage_key.text]
