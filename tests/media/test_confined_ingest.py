"""Ingests that are confined to a folder."""

from typing import Any

import pytest

from media.library import OURS, Library, key
from pictures import picture
from stillroom.errors import ResourceConflict, ResourceNotFound
from stillroom.features.library.resource import Change, MediaResource
from stillroom.features.library.rows.tables import resources


async def test_a_resource_remembers_the_first_key_that_it_came_from(library: Library) -> None:
    await library.save("run/a cat.png", picture())
    resource = await library.ingest("run/a cat.png", relocate=False)
    await library.save("b.png", picture())

    assert resource.source_key == key("run/a cat.png")
    assert (await library.ingest("b.png")).source_key == key("run/a cat.png")


@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize("relocate", [False, True])
async def test_a_folder_gets_the_id_of_anothers_resource_and_changes_nothing_of_it(
    library: Library, *, in_place: bool, relocate: bool
) -> None:
    await library.save("theirs/a.png", picture())
    theirs = await library.ingest("theirs/a.png", relocate=not in_place)
    await library.service.change(
        theirs.id, Change(caption="theirs", alt_text="theirs", protected=True)
    )
    before = library.table(resources)
    ours = await library.save("ours/a.png", picture())

    got = await library.ingest("ours/a.png", relocate=relocate, within=OURS)

    assert (got.id, got.content_hash) == (theirs.id, theirs.content_hash)
    assert (got.caption, got.alt_text, got.protected, got.source_key) == (
        None, None, False, None,
    )  # fmt: skip
    assert got.storage_key == (key("ours/a.png") if in_place else theirs.storage_key)
    assert library.table(resources) == before
    marked = (ours.key.text, ours.save_id) in library.marked()
    assert marked == (relocate and not in_place)


@pytest.mark.parametrize("relocate", [False, True])
async def test_a_folder_neither_revives_nor_mends_what_others_have(
    library: Library, *, relocate: bool
) -> None:
    await library.save("theirs/a.png", picture(1))
    await library.save("theirs/b.png", picture(2))
    deleted = await library.ingest("theirs/a.png")
    await library.ingest("theirs/b.png", relocate=False)
    await library.save("theirs/b.png", picture(3))
    await library.service.delete(deleted.id)
    before = library.table(resources), library.marked()

    for number in (1, 2):
        await library.save("ours/a.png", picture(number))
        with pytest.raises(ResourceConflict):
            await library.ingest("ours/a.png", relocate=relocate, within=OURS)

    assert (library.table(resources), library.marked()) == before
    await library.save("theirs/b.png", picture(2))


async def test_a_resource_that_is_deleted_while_a_folder_ingests_its_bytes_stays_deleted(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    await library.save("theirs/a.png", picture())
    theirs = await library.ingest("theirs/a.png")
    await library.save("ours/a.png", picture())
    rows = await library.database.rows()
    keep = rows.resources.keep

    async def delete_first(*asked: Any, **more: Any) -> MediaResource | None:
        monkeypatch.undo()
        await library.service.delete(theirs.id)
        return await keep(*asked, **more)

    monkeypatch.setattr(rows.resources, "keep", delete_first)

    with pytest.raises(ResourceConflict):
        await library.ingest("ours/a.png", within=OURS)

    with pytest.raises(ResourceNotFound):
        await library.service.find(theirs.id)


async def test_a_folder_moves_and_revives_what_came_from_it(library: Library) -> None:
    await library.save("ours/a.png", picture())
    recorded = await library.ingest("ours/a.png", relocate=False, within=OURS)
    await library.service.change(recorded.id, Change(caption="ours"))

    moved = await library.ingest("ours/a.png", within=OURS)
    assert (moved.id, moved.caption, moved.storage_key.is_media) == (recorded.id, "ours", True)
    await library.service.delete(moved.id)
    assert await library.ingest("ours/a.png", within=OURS) == moved
