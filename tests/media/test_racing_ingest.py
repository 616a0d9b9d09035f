"""Ingests that race with a save, with each other and with the sweeper."""

import asyncio
import functools
import hashlib
import uuid
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from media.library import LONG_AGO, Library, is_there, key, make_due
from pictures import picture
from stillroom.errors import BackendUnavailable, ImageNotFound, ResourceConflict
from stillroom.features.database.clock import new_id, now
from stillroom.features.library import intents as media_intents
from stillroom.features.library.resource import EXPIRED, IN_PLACE, Intent, Settlement
from stillroom.features.library.rows.deletions import DeletionRows
from stillroom.features.library.rows.intents import IntentRows
from stillroom.features.library.rows.resources import ResourceRows
from stillroom.features.library.rows.tables import deletions, intents, resources
from stillroom.features.library.sweeper import Swept
from stillroom.paths import StorageKey
from waiting import eventually

STEPS = {
    "before its intent": (IntentRows, "write", False),
    "after its intent": (IntentRows, "write", True),
    "after its look at the claims": (DeletionRows, "require_unclaimed", True),
    "before its commit": (ResourceRows, "add", False),
    "after its commit": (ResourceRows, "add", True),
    "after it has found a claim": (IntentRows, "remove", True),
}
"""Where an ingest in place is held: the class, its method, and whether after it."""


def held(patch: pytest.MonkeyPatch, step: str, meanwhile: Callable[[], Awaitable[object]]) -> None:
    """Hold the next ingest at a step, once, and do something else meanwhile."""
    owner, name, is_after = STEPS[step]
    method = getattr(owner, name)

    @functools.wraps(method)
    async def holding(*args: Any, **kwargs: Any) -> Any:
        patch.setattr(owner, name, method)
        if not is_after:
            await meanwhile()
        found = await method(*args, **kwargs)
        if is_after:
            await meanwhile()
        return found

    patch.setattr(owner, name, holding)


async def save_due(library: Library, path: str = "a.png") -> None:
    """Save an image whose deletion is due."""
    rows = await library.database.rows()
    await rows.deletions.mark_save(await library.save(path, picture()), EXPIRED, now() - LONG_AGO)


@pytest.mark.pairs
async def test_a_source_that_is_saved_over_before_the_copy_is_looked_at_again(
    library: Library,
) -> None:
    async def meddle() -> None:
        library.meddled.before_copy = None
        await library.save("a.png", picture(2))

    await library.save("a.png", picture(1))
    library.meddled.before_copy = meddle

    resource = await library.ingest("a.png")

    assert resource.content_hash == hashlib.sha256(picture(2)).digest()
    assert await library.read(resource.storage_key) == picture(2)
    assert len(library.table(resources)) == 1


async def test_a_source_that_is_saved_over_after_the_copy_is_not_the_marked_one(
    library: Library,
) -> None:
    async def meddle() -> None:
        library.meddled.after_copy = None
        await library.save("a.png", picture(2))

    saved = await library.save("a.png", picture(1))
    library.meddled.after_copy = meddle

    resource = await library.ingest("a.png")

    assert await library.read(resource.storage_key) == picture(1)
    assert library.marked() == [("compute/a.png", saved.save_id)]


async def test_a_source_that_never_stays_the_same_is_given_up(library: Library) -> None:
    seeds = iter(range(2, 100))

    async def meddle() -> None:
        await library.save("a.png", picture(next(seeds)))

    await library.save("a.png", picture(1))
    library.meddled.before_copy = meddle

    with pytest.raises(BackendUnavailable, match="kept changing"):
        await library.ingest("a.png")

    assert library.table(resources) == library.marked() == []


@pytest.mark.pairs
async def test_of_two_that_race_for_one_hash_one_wins_and_the_other_gets_its_resource(
    library: Library,
) -> None:
    both = asyncio.Barrier(2)

    async def meet() -> None:
        await both.wait()

    await library.save("a.png", picture())
    await library.save("b.png", picture())
    library.meddled.after_copy = meet

    first, second = await asyncio.gather(library.ingest("a.png"), library.ingest("b.png"))

    assert first.id == second.id
    assert len(library.table(resources)) == 1
    assert len(library.marked()) == 2
    (left,) = library.table(intents)
    assert left.media_key != first.storage_key
    assert left.lease_until < left.created_at + timedelta(minutes=1)


@pytest.mark.pairs
async def test_two_that_move_the_same_resource_move_it_once(library: Library) -> None:
    both = asyncio.Barrier(2)

    async def meet() -> None:
        await both.wait()

    await library.save("a.png", picture())
    recorded = await library.ingest("a.png", relocate=False)
    library.meddled.after_copy = meet

    moved = await asyncio.gather(library.ingest("a.png"), library.ingest("a.png"))

    assert {resource.id for resource in moved} == {recorded.id}
    assert len(library.marked()) == 1
    (left,) = library.table(intents)  # until its lease is over: a third one may be copying
    assert left.media_key == moved[0].storage_key
    library.change(sa.update(intents).values(lease_until=left.created_at))
    assert await library.sweep() == Swept()
    assert library.table(intents) == []
    assert await library.read(moved[0].storage_key) == picture()


@pytest.mark.pairs
@pytest.mark.parametrize("lost", [False, True], ids=["in place", "bytes lost"])
async def test_a_slow_mover_whose_source_was_saved_over_leaves_the_moved_bytes_alone(
    library: Library, *, lost: bool
) -> None:
    seen: list[bytes] = []

    async def moved_and_saved_over() -> None:
        library.meddled.before_copy = None
        moved = await library.ingest("a.png")
        assert moved.id == known.id
        await library.save("a.png", picture(2))
        library.meddled.after_copy = look

    async def look() -> None:
        seen.append(await library.read(StorageKey.of_media(known.id, "png")))

    await library.save("a.png", picture(1))
    known = await library.ingest("a.png", relocate=lost)
    if lost:
        await library.meddled.storage.delete(known.storage_key)
    library.meddled.before_copy = moved_and_saved_over

    other = await library.ingest("a.png")

    assert other.id != known.id
    assert await library.read(other.storage_key) == picture(2)
    moved = await library.service.find(known.id)
    assert moved.storage_key.is_media
    assert await library.read(moved.storage_key) == picture(1)
    assert set(seen) == {picture(1)}


@pytest.mark.parametrize("dies", [False, True], ids=["in its time", "at its copy"])
async def test_what_a_slow_mover_of_a_deleted_resource_copies_is_remembered(
    library: Library, *, dies: bool
) -> None:
    async def moved_deleted_and_swept() -> None:
        library.meddled.before_copy = None
        moved = await library.ingest("a.png")
        await library.service.delete(moved.id)
        ours = deletions.c.resource_id == moved.id
        library.change(sa.update(deletions).where(ours).values(due_at=moved.created_at))
        assert await library.sweep() == Swept(deleted=1)
        if dies:
            library.meddled.after_copy = die

    async def die() -> None:
        library.meddled.after_copy = None
        raise BackendUnavailable("as a crash would be")

    await library.save("a.png", picture())
    recorded = await library.ingest("a.png", relocate=False)
    library.meddled.before_copy = moved_deleted_and_swept

    if dies:
        with pytest.raises(BackendUnavailable):
            await library.ingest("a.png")
    else:
        again = await library.ingest("a.png")
        assert again.id != recorded.id

    copy = StorageKey.of_media(recorded.id, "png")
    assert copy.text in await library.media_keys()
    await library.check()  # nothing lies there that nothing remembers
    (left,) = library.table(intents)
    library.change(sa.update(intents).values(lease_until=left.created_at))
    assert (await library.sweep()).copies == 1
    assert copy.text not in await library.media_keys()


@pytest.mark.pairs
async def test_many_at_once_are_one_resource(library: Library) -> None:
    paths = [f"{number}.png" for number in range(8)]
    for path in paths:
        await library.save(path, picture())

    found = await asyncio.gather(*(library.ingest(path) for path in paths * 2))

    assert len({resource.id for resource in found}) == 1
    assert len(library.marked()) == 8


async def test_an_intent_that_the_sweeper_took_is_not_relied_on(library: Library) -> None:
    async def swept() -> None:
        library.meddled.after_copy = None
        library.change(sa.update(intents).values(sweeping=True))

    await library.save("a.png", picture())
    library.meddled.after_copy = swept

    resource = await library.ingest("a.png")

    (taken,) = library.table(intents)
    assert taken.media_key != resource.storage_key
    assert await library.read(resource.storage_key) == picture()


async def test_a_copy_that_takes_long_is_not_taken_for_dead(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(media_intents, "LEASE", timedelta(seconds=0.6))

    async def renewed() -> None:
        (first,) = library.table(intents)
        await eventually(lambda: library.table(intents) != [first])

    await library.save("a.png", picture())
    library.meddled.before_copy = renewed

    await library.ingest("a.png")

    assert library.table(intents) == []


# In place, while a deletion of the image is due


@pytest.mark.pairs
@pytest.mark.parametrize("step", [*STEPS][:5])
async def test_what_is_recorded_in_place_is_there_wherever_a_sweep_falls(
    library: Library, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    await save_due(library)
    held(monkeypatch, step, library.sweep)

    if step == "before its intent":
        with pytest.raises(ImageNotFound):
            await library.ingest("a.png", relocate=False)
        assert library.table(resources) == library.marked() == []
    else:
        await library.ingest("a.png", relocate=False)
        assert await library.sweep() == Swept()
        assert await library.read(key("a.png")) == picture()
        assert library.marked() == []
    assert library.table(intents) == []


@pytest.mark.pairs
async def test_what_is_ingested_in_place_a_second_time_stays_as_well(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its bytes are a resource's, whose copy has another key."""
    await library.save("b.png", picture())
    known = await library.ingest("b.png")
    await save_due(library)
    held(monkeypatch, "after its intent", library.sweep)

    again = await library.ingest("a.png", relocate=False)

    assert again.id == known.id
    assert await is_there(library, key("a.png"))
    assert [where for where, _ in library.marked()] == ["compute/b.png"]
    assert library.table(intents) == []


@pytest.mark.pairs
@pytest.mark.parametrize("is_deleted", [True, False], ids=["deleted", "left"])
async def test_an_ingest_in_place_waits_for_a_claim_that_was_there_before(
    library: Library, monkeypatch: pytest.MonkeyPatch, *, is_deleted: bool
) -> None:
    await save_due(library)
    rows, claim = await library.database.rows(), uuid.uuid4()
    claimed, _ = await rows.deletions.claim(claim, limit=1, lease=timedelta(minutes=5))

    async def settle() -> None:
        settlement = Settlement(left=[*claimed])
        if is_deleted:
            await library.meddled.storage.delete(key("a.png"))
            settlement = Settlement(done=[mark.id for mark in claimed])
        await rows.deletions.settle(claim, settlement)

    held(monkeypatch, "after it has found a claim", settle)

    if is_deleted:
        with pytest.raises(ImageNotFound):
            await library.ingest("a.png", relocate=False)
        assert library.table(resources) == []
    else:
        await library.ingest("a.png", relocate=False)
        assert await library.sweep() == Swept()
        assert await library.read(key("a.png")) == picture()
    assert library.marked() == library.table(intents) == []


async def test_an_image_whose_deletion_stays_claimed_is_refused(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    await save_due(library)
    rows, claim = await library.database.rows(), uuid.uuid4()
    claimed, _ = await rows.deletions.claim(claim, limit=1, lease=timedelta(minutes=5))

    async def delete() -> None:
        await library.meddled.storage.delete(key("a.png"))
        await rows.deletions.settle(claim, Settlement(done=[claimed[0].id]))

    held(monkeypatch, "before its commit", delete)  # it must not come so far

    with pytest.raises(ResourceConflict, match="being deleted"):
        await library.ingest("a.png", relocate=False)

    assert library.table(resources) == library.table(intents) == []


@pytest.mark.pairs
async def test_an_ingest_in_place_that_outlives_its_intent_relies_on_nothing(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def its_lease_ends() -> None:
        make_due(library)
        assert await library.sweep() == Swept(copies=1, deleted=1)

    await save_due(library)
    held(monkeypatch, "before its commit", its_lease_ends)

    with pytest.raises(ImageNotFound):
        await library.ingest("a.png", relocate=False)

    assert library.table(resources) == library.table(intents) == []


@pytest.mark.pairs
async def test_an_ingest_in_place_that_dies_delays_a_deletion_until_its_lease_is_over(
    library: Library,
) -> None:
    await save_due(library)
    await library.save("live.png", picture())
    rows = await library.database.rows()
    for path in ("a.png", "live.png"):
        intent = StorageKey.of_media(new_id(), "png")
        lease = timedelta(minutes=15)
        await rows.intents.write(Intent(intent, IN_PLACE, key(path)), lease=lease)

    assert await library.sweep() == Swept()
    assert await is_there(library, key("a.png"))
    make_due(library)

    assert await library.sweep() == Swept(copies=2, deleted=1)
    assert not await is_there(library, key("a.png"))
    assert await is_there(library, key("live.png")), "its intent is no deletion"


async def test_a_source_that_is_saved_again_before_it_is_recorded_is_read_again(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    await library.save("a.png", picture(1))
    held(monkeypatch, "after its intent", lambda: library.save("a.png", picture(2)))

    resource = await library.ingest("a.png", relocate=False)

    assert resource.content_hash == hashlib.sha256(picture(2)).digest()
    assert library.table(intents) == []
