"""Sweepers that die, stop or run next to others, and the intents that they clear."""

import asyncio
import uuid
from datetime import timedelta

import pytest
import sqlalchemy as sa

from media.library import LONG_AGO, Library, is_there, key, left_copy, make_due, refuse
from pictures import picture
from stillroom.errors import BackendUnavailable
from stillroom.features.database.engine import migrating
from stillroom.features.library import sweeper
from stillroom.features.library.resource import Settlement
from stillroom.features.library.rows.tables import dead_letters, deletions, intents, resources
from stillroom.features.library.sweeper import Swept
from stillroom.paths import StorageKey


@pytest.mark.pairs
async def test_two_sweepers_delete_everything_once(library: Library) -> None:
    for number in range(40):
        await library.save(f"{number}.png", picture())
        await library.ingest(f"{number}.png")
    make_due(library)

    both = await asyncio.gather(library.sweep(), library.sweep())

    assert sum(swept.deleted for swept in both) == 40
    assert sum(swept.gone + swept.kept + swept.failed for swept in both) == 0
    assert library.marked() == []


async def test_what_a_dead_sweeper_has_claimed_is_anothers_when_the_lease_is_over(
    library: Library,
) -> None:
    await library.save("a.png", picture())
    resource = await library.ingest("a.png")
    await library.service.delete(resource.id)
    make_due(library)
    rows = await library.database.rows()
    claimed, _ = await rows.deletions.claim(uuid.uuid4(), limit=10, lease=timedelta(minutes=5))
    assert len(claimed) == 2

    assert await library.sweep() == Swept()
    make_due(library)

    assert await library.sweep() == Swept(deleted=2)
    assert library.table(resources) == library.marked() == []


async def test_a_sweeper_that_wakes_up_late_changes_nothing_that_is_anothers(
    library: Library,
) -> None:
    await library.save("a.png", picture())
    await library.ingest("a.png")
    make_due(library)
    rows = await library.database.rows()
    first, second = uuid.uuid4(), uuid.uuid4()
    claimed, _ = await rows.deletions.claim(first, limit=10, lease=-LONG_AGO)
    await rows.deletions.claim(second, limit=10, lease=LONG_AGO)

    (mark,) = claimed
    await rows.deletions.settle(first, Settlement(done=[mark.id]))
    await rows.deletions.settle(first, Settlement(dead_lettered=[(mark, "x")]))

    (row,) = library.table(deletions)
    assert row.claimed_by == second
    assert library.table(dead_letters) == []


async def test_a_lease_that_is_nearly_over_deletes_nothing(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    await library.save("a.png", picture())
    await library.ingest("a.png")
    await left_copy(library)
    make_due(library)
    monkeypatch.setattr(sweeper, "_MARGIN", sweeper.LEASE)

    assert await library.sweep() == Swept()

    assert await is_there(library, key("a.png"))
    (mark,) = library.table(deletions)
    assert (mark.attempts, mark.claimed_by) == (0, None)


async def test_a_sweep_that_is_cancelled_is_made_good_by_the_next(library: Library) -> None:
    reached = asyncio.Event()

    async def stall(_: StorageKey) -> None:
        reached.set()
        await asyncio.Event().wait()

    await library.save("a.png", picture())
    await library.ingest("a.png")
    make_due(library)
    library.meddled.before_delete = stall
    sweeping = asyncio.create_task(library.sweep())
    await reached.wait()
    sweeping.cancel()
    await asyncio.gather(sweeping, return_exceptions=True)

    library.meddled.before_delete = None
    make_due(library)
    assert await library.sweep() == Swept(deleted=1)


async def test_a_stop_finishes_what_has_begun_and_leaves_the_rest_to_others(
    library: Library,
) -> None:
    reached, go_on = asyncio.Event(), asyncio.Event()

    async def stall(_: StorageKey) -> None:
        reached.set()
        await go_on.wait()

    for number in range(20):
        await library.save(f"{number}.png", picture())
        await library.ingest(f"{number}.png")
    make_due(library)
    library.meddled.before_delete = stall
    async with library.background(every_s=0.01, stop_within_s=60):
        await reached.wait()
        asyncio.get_running_loop().call_later(0.2, go_on.set)

    left = library.table(deletions)
    assert len(left) == 12  # eight at once
    assert {(row.claimed_by, row.lease_until, row.attempts) for row in left} == {(None, None, 0)}


async def test_a_stop_does_not_wait_for_a_deletion_that_hangs(library: Library) -> None:
    reached = asyncio.Event()

    async def hang(_: StorageKey) -> None:
        reached.set()
        await asyncio.Event().wait()

    await library.save("a.png", picture())
    await library.ingest("a.png")
    make_due(library)
    library.meddled.before_delete = hang
    async with library.background(every_s=0.01, stop_within_s=0.1):
        await reached.wait()

    library.meddled.before_delete = None
    make_due(library)
    assert await library.sweep() == Swept(deleted=1)


# Intents


async def test_the_copy_of_an_ingest_that_died_goes_when_its_lease_is_over(
    library: Library,
) -> None:
    await library.save("a.png", picture())
    media_key = await left_copy(library)

    assert await library.sweep() == Swept()
    assert await is_there(library, media_key)
    make_due(library)

    assert await library.sweep() == Swept(copies=1)
    assert not await is_there(library, media_key)
    assert library.table(intents) == []


async def test_an_intent_without_a_copy_goes(library: Library) -> None:
    await library.save("a.png", picture())
    await library.meddled.storage.delete(await left_copy(library))
    make_due(library)

    assert await library.sweep() == Swept(copies=1)
    assert library.table(intents) == []


async def test_a_copy_that_a_resource_has_is_not_cleared_away(library: Library) -> None:
    await library.save("a.png", picture())
    resource = await library.ingest("a.png")
    assert await left_copy(library, resource.id) == resource.storage_key
    make_due(library)

    assert await library.sweep() == Swept(deleted=1)
    assert library.table(intents) == []
    assert await library.read(resource.storage_key) == picture()


@pytest.mark.pairs
async def test_a_copy_that_is_being_cleared_away_is_not_relied_on(library: Library) -> None:
    """A move to the one key that a resource's id gives it, while the sweeper has that key."""
    await library.save("a.png", picture())
    recorded = await library.ingest("a.png", relocate=False)
    media_key = await left_copy(library, recorded.id)
    make_due(library)

    async def ingest(_: StorageKey) -> None:
        library.meddled.before_delete = None
        with pytest.raises(BackendUnavailable):
            await library.ingest("a.png")

    library.meddled.before_delete = ingest
    assert await library.sweep() == Swept(copies=1)

    assert not await is_there(library, media_key)
    moved = await library.ingest("a.png")
    assert (moved.id, moved.storage_key) == (recorded.id, media_key)
    assert await library.read(media_key) == picture()


async def test_a_copy_that_cannot_be_cleared_away_stays_remembered(library: Library) -> None:
    await library.save("a.png", picture())
    media_key = await left_copy(library)
    make_due(library)
    library.meddled.before_delete = refuse(BackendUnavailable("403"))

    assert await library.sweep() == Swept()
    assert [row.media_key for row in library.table(intents)] == [media_key]
    library.meddled.before_delete = None
    make_due(library)
    assert await library.sweep() == Swept(copies=1)


async def test_an_ingest_that_lost_its_intent_clears_its_own_copy_away(library: Library) -> None:
    async def swept() -> None:
        library.meddled.after_copy = None
        with migrating(library.config) as connection:
            connection.execute(sa.delete(intents))

    await library.save("a.png", picture())
    library.meddled.after_copy = swept

    resource = await library.ingest("a.png")

    assert await library.media_keys() == [resource.storage_key.text]
