"""The sweeper: which marked images are deleted, and which are kept."""

from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from media.library import (
    GRACE,
    LONG_AGO,
    Library,
    bury_by_hand,
    is_there,
    key,
    left_copy,
    make_due,
    mark_by_hand,
)
from pictures import picture
from stillroom.features.database.clock import now
from stillroom.features.database.engine import migrating
from stillroom.features.library.rows.tables import deletions, failed_deletions, resources
from stillroom.features.library.sweeper import Swept
from stillroom.paths import StorageKey


async def deleted_resource(library: Library) -> None:
    """One whose bytes are due; the mark of its source is not."""
    await library.save("a.png", picture())
    resource = await library.ingest("a.png")
    await library.service.delete(resource.id)
    ours = deletions.c.resource_id == resource.id
    library.change(sa.update(deletions).where(ours).values(due_at=now() - LONG_AGO))


@pytest.mark.pairs
async def test_a_source_goes_when_its_time_has_come_and_its_resource_stays(
    library: Library,
) -> None:
    await library.save("a.png", picture())
    resource = await library.ingest("a.png")

    assert await library.sweep() == Swept()
    assert await is_there(library, key("a.png"))
    make_due(library)

    assert await library.sweep() == Swept(deleted=1)
    assert not await is_there(library, key("a.png"))
    assert await library.read(resource.storage_key) == picture()
    assert library.marked() == []


async def test_what_was_ingested_and_swept_gives_the_same_id_again(library: Library) -> None:
    await library.save("a.png", picture())
    first = await library.ingest("a.png")
    make_due(library)
    await library.sweep()
    await library.save("b.png", picture())

    assert await library.ingest("b.png") == first


@pytest.mark.parametrize("data", [picture(1), picture(2)], ids=["same bytes", "other bytes"])
async def test_a_source_that_was_saved_again_after_its_mark_stays(
    library: Library, data: bytes
) -> None:
    await library.save("a.png", picture(1))
    await library.ingest("a.png")
    await library.save("a.png", data)
    make_due(library)

    assert await library.sweep() == Swept(kept=1)
    assert await library.read(key("a.png")) == data
    assert library.marked() == []


@pytest.mark.pairs
async def test_a_source_that_is_saved_again_while_it_is_swept_stays(library: Library) -> None:
    async def save_again(where: StorageKey) -> None:
        library.meddled.before_delete = None
        assert where == key("a.png")
        await library.save("a.png", picture())

    await library.save("a.png", picture())
    await library.ingest("a.png")
    make_due(library)
    library.meddled.before_delete = save_again

    assert await library.sweep() == Swept(kept=1)
    assert await library.read(key("a.png")) == picture()


async def test_a_source_that_somebody_else_deleted_is_done(library: Library) -> None:
    await library.save("a.png", picture())
    await library.ingest("a.png")
    await library.meddled.storage.delete(key("a.png"))
    make_due(library)

    assert await library.sweep() == Swept(gone=1)
    assert library.marked() == []


async def test_a_source_that_a_resource_needs_after_all_stays(library: Library) -> None:
    saved = await library.save("a.png", picture())
    await library.ingest("a.png", relocate=False)
    mark_by_hand(library, key("a.png"), saved.save_id)

    assert await library.sweep() == Swept(kept=1)
    assert await library.read(key("a.png")) == picture()
    assert library.marked() == []


async def test_a_source_whose_copy_is_gone_stays_and_a_dead_letter_says_why(
    library: Library,
) -> None:
    await library.save("a.png", picture())
    resource = await library.ingest("a.png")
    await library.meddled.storage.delete(resource.storage_key)
    make_due(library)

    assert await library.sweep() == Swept(dead_lettered=1)

    assert await library.read(key("a.png")) == picture()
    (dead_letter,) = library.table(failed_deletions)
    assert (dead_letter.storage_key, dead_letter.attempts) == (key("a.png"), 1)
    assert resource.storage_key.text in dead_letter.last_error
    assert str(resource.id) in dead_letter.last_error

    rows = await library.database.rows()
    await rows.dead_letters.retry(dead_letter.id)
    assert await library.sweep() == Swept(dead_lettered=1)
    assert await library.ingest("a.png") == await library.service.find(resource.id)
    await rows.dead_letters.retry(dead_letter.id)
    make_due(library)
    assert (await library.sweep()).deleted == 1
    assert not await is_there(library, key("a.png"))


async def test_a_source_whose_copy_has_other_bytes_stays(library: Library) -> None:
    await library.save("a.png", picture(1))
    resource = await library.ingest("a.png")
    await library.save("b.png", picture(1, "JPEG"))
    await library.meddled.storage.copy(key("b.png"), resource.storage_key)
    make_due(library)

    assert await library.sweep() == Swept(dead_lettered=1)
    assert await library.read(key("a.png")) == picture(1)
    await library.meddled.storage.copy(key("a.png"), resource.storage_key)


@pytest.mark.parametrize("lost", [False, True])
async def test_a_mark_of_an_older_version_relies_on_the_copy_too(
    library: Library, *, lost: bool
) -> None:
    await library.save("a.png", picture())
    resource = await library.ingest("a.png")
    library.change(sa.update(deletions).values(content_hash=None))
    make_due(library)
    if lost:
        await library.meddled.storage.delete(resource.storage_key)

    assert await library.sweep() == (Swept(dead_lettered=1) if lost else Swept(deleted=1))
    assert await is_there(library, key("a.png")) == lost
    if lost:
        await library.ingest("a.png")


async def test_a_source_without_any_resource_stays(library: Library) -> None:
    """As with rows that were restored from before the ingest, or are another library's."""
    await library.save("a.png", picture())
    resource = await library.ingest("a.png")
    make_due(library)
    with migrating(library.config) as connection:
        connection.execute(sa.delete(resources))

    assert await library.sweep() == Swept(dead_lettered=1)
    assert await library.read(key("a.png")) == picture()
    (dead_letter,) = library.table(failed_deletions)
    assert "no resource of the library has these bytes" in dead_letter.last_error
    await library.meddled.storage.delete(resource.storage_key)


async def test_a_source_goes_after_its_resource_was_deleted_and_swept(library: Library) -> None:
    await deleted_resource(library)
    assert await library.sweep() == Swept(deleted=1)
    make_due(library)

    assert await library.sweep() == Swept(deleted=1)
    assert library.table(failed_deletions) == []


async def test_a_source_that_was_ingested_anew_relies_on_the_new_copy(library: Library) -> None:
    await deleted_resource(library)
    await library.sweep()
    again = await library.ingest("a.png")
    await library.meddled.storage.delete(again.storage_key)
    make_due(library)

    assert await library.sweep() == Swept(dead_lettered=1)
    assert await library.read(key("a.png")) == picture()
    await library.ingest("a.png")


async def test_a_deleted_resource_goes_with_its_bytes(library: Library) -> None:
    await library.save("a.png", picture())
    resource = await library.ingest("a.png")
    await library.service.delete(resource.id)
    make_due(library)

    assert await library.sweep() == Swept(deleted=2)
    assert library.table(resources) == library.table(deletions) == []
    assert not await is_there(library, resource.storage_key)


async def test_a_resource_that_is_ingested_again_while_its_deletion_is_due_stays(
    library: Library,
) -> None:
    await library.save("a.png", picture())
    resource = await library.ingest("a.png")
    await library.service.delete(resource.id)
    make_due(library)
    await library.save("b.png", picture())

    assert await library.ingest("b.png") == resource
    assert await library.sweep() == Swept(deleted=1)
    assert await library.read(resource.storage_key) == picture()


@pytest.mark.pairs
async def test_equal_bytes_that_come_while_a_resource_is_swept_are_another_resource(
    library: Library,
) -> None:
    again: list[Any] = []

    async def ingest(where: StorageKey) -> None:
        if where.is_media and not again:
            again.append(await library.ingest("b.png"))

    await library.save("a.png", picture())
    resource = await library.ingest("a.png")
    await library.save("b.png", picture())
    await library.service.delete(resource.id)
    make_due(library)
    library.meddled.before_delete = ingest

    await library.sweep()

    assert again[0].id != resource.id
    assert await library.read(again[0].storage_key) == picture()
    assert not await is_there(library, resource.storage_key)


async def test_a_late_second_copy_goes_with_a_deleted_resource(library: Library) -> None:
    await library.save("a.png", picture())
    resource = await library.ingest("a.png")
    await library.meddled.storage.copy(key("a.png"), resource.storage_key)
    await library.service.delete(resource.id)
    make_due(library)

    assert await library.sweep() == Swept(deleted=2)
    assert not await is_there(library, resource.storage_key)


async def test_many_are_swept_in_one_go(library: Library) -> None:
    for number in range(40):
        await library.save(f"{number}.png", picture())
        await library.ingest(f"{number}.png")
    make_due(library)
    seen: list[int] = []

    swept = await library.sweep(lambda swept: seen.append(swept.deleted))

    assert swept == Swept(deleted=40)
    assert seen == [32, 40, 40]  # and at the end


# The queue


async def test_the_numbers_say_what_waits(library: Library) -> None:
    rows = await library.database.rows()
    empty = await rows.queue_metrics()
    assert (empty.marks, empty.due, empty.oldest_due) == (0, 0, timedelta(0))
    await library.save("a.png", picture())
    await left_copy(library)
    await library.ingest("a.png")
    bury_by_hand(library, key("x.png"), "x")
    assert (await rows.queue_metrics()).due == 0
    make_due(library)

    metrics = await rows.queue_metrics()

    assert (metrics.marks, metrics.due, metrics.intents, metrics.dead_letters) == (1, 1, 1, 1)
    assert LONG_AGO <= metrics.oldest_due < LONG_AGO + GRACE


async def test_what_is_due_is_listed_in_pages(library: Library) -> None:
    rows = await library.database.rows()
    for number in range(3):
        await library.save(f"{number}.png", picture())
        await library.ingest(f"{number}.png")
    assert [page async for page in rows.deletions.due(limit=9)] == []
    make_due(library)

    pages = [page async for page in rows.deletions.due(limit=2)]

    assert [len(page) for page in pages] == [2, 1]
    assert sorted(mark.storage_key.text for page in pages for mark in page) == [
        f"compute/{number}.png" for number in range(3)
    ]
