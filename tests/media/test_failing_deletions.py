"""Deletions that fail, and dead letters."""

import uuid
from datetime import timedelta

import pytest
import sqlalchemy as sa

from media.library import Library, bury_by_hand, is_there, key, make_due, refuse
from pictures import picture
from stillroom.errors import BackendUnavailable, DeadLetterNotFound
from stillroom.features.database.clock import now
from stillroom.features.library.rows.tables import dead_letters, deletions, failed_deletions
from stillroom.features.library.sweeper import MAX_ATTEMPTS, Swept
from stillroom.paths import StorageKey


async def test_a_deletion_that_fails_is_tried_later_each_time_later_still(library: Library) -> None:
    await library.save("a.png", picture())
    await library.ingest("a.png")
    pauses = []
    library.meddled.before_delete = refuse(BackendUnavailable("403"))
    for _ in range(4):
        make_due(library)
        assert await library.sweep() == Swept(failed=1)
        assert await library.sweep() == Swept()
        (mark,) = library.table(deletions)
        pauses.append(mark.due_at - now())
        assert (mark.claimed_by, mark.lease_until, mark.last_error) == (None, None, "403")

    assert mark.attempts == 4
    assert pauses == sorted(pauses)
    assert pauses[0] > timedelta(seconds=40)
    library.meddled.before_delete = None
    make_due(library)
    assert await library.sweep() == Swept(deleted=1)


@pytest.mark.parametrize("error", [BackendUnavailable("403"), ValueError("a bug")])
async def test_one_that_never_works_stops_no_other_and_ends_as_a_dead_letter(
    library: Library, error: Exception
) -> None:
    async def refuse_one(where: StorageKey) -> None:
        if where == key("bad.png"):
            raise error

    saved = await library.save("bad.png", picture())
    await library.ingest("bad.png")
    library.meddled.before_delete = refuse_one
    for number in range(MAX_ATTEMPTS):
        await library.save(f"{number}.png", picture())
        await library.ingest(f"{number}.png")
        make_due(library)
        swept = await library.sweep()
        assert swept.deleted == 1

    assert swept.dead_lettered == 1
    assert library.marked() == []
    (dead_letter,) = library.table(failed_deletions)
    assert dead_letter.storage_key == key("bad.png")
    assert (dead_letter.save_id, dead_letter.reason) == (saved.save_id, "relocated")
    assert (dead_letter.attempts, dead_letter.last_error) == (MAX_ATTEMPTS, str(error))
    assert await is_there(library, key("bad.png"))


async def test_a_mark_that_kills_its_sweeper_each_time_ends_as_a_dead_letter(
    library: Library,
) -> None:
    await library.save("a.png", picture())
    await library.ingest("a.png")
    rows = await library.database.rows()
    for _ in range(MAX_ATTEMPTS):
        make_due(library)
        await rows.deletions.claim(uuid.uuid4(), limit=10, lease=timedelta(minutes=5))
    make_due(library)

    assert await library.sweep() == Swept(dead_lettered=1)
    (dead_letter,) = library.table(failed_deletions)
    assert (
        dead_letter.last_error
        == "no result from the previous attempts; their worker may have crashed"
    )


async def test_a_source_whose_deletion_failed_can_be_recorded_in_place(library: Library) -> None:
    await library.save("a.png", picture())
    resource = await library.ingest("a.png")
    library.meddled.before_delete = refuse(BackendUnavailable("403"))
    make_due(library)
    await library.sweep()
    library.meddled.before_delete = None

    assert await library.ingest("a.png", relocate=False) == resource
    assert library.marked() == []


async def test_a_resource_whose_deletion_failed_is_not_found_again(library: Library) -> None:
    await library.save("a.png", picture())
    resource = await library.ingest("a.png")
    await library.service.delete(resource.id)
    library.meddled.before_delete = refuse(BackendUnavailable("403"))
    make_due(library)
    await library.sweep()
    library.meddled.before_delete = None

    again = await library.ingest("a.png")

    assert again.id != resource.id
    make_due(library)
    await library.sweep()
    assert not await is_there(library, resource.storage_key)
    assert await library.read(again.storage_key) == picture()


# Dead letters


async def test_a_dead_letter_is_listed_retried_and_dropped(library: Library) -> None:
    rows = await library.database.rows()
    made = []
    for number in range(3):
        saved = await library.save(f"{number}.png", picture(number))
        made.append(bury_by_hand(library, key(f"{number}.png"), saved.save_id))

    listed = await rows.dead_letters.page(after=None, limit=2)
    listed = [*listed, *await rows.dead_letters.page(after=listed[-1].id, limit=2)]
    assert [dead_letter.id for dead_letter in listed] == made[::-1]

    retried, dropped = await rows.dead_letters.retry(made[0]), await rows.dead_letters.drop(made[1])
    assert retried.payload["storage_key"] == "compute/0.png"
    assert dropped.payload["storage_key"] == "compute/1.png"
    for gone in made[:2]:
        with pytest.raises(DeadLetterNotFound):
            await rows.dead_letters.retry(gone)
        with pytest.raises(DeadLetterNotFound):
            await rows.dead_letters.drop(gone)
    assert await library.sweep() == Swept(deleted=1)
    assert not await is_there(library, key("0.png"))
    assert await is_there(library, key("1.png"))
    assert [
        dead_letter.id for dead_letter in await rows.dead_letters.page(after=None, limit=9)
    ] == [made[2]]


async def test_dead_letters_of_a_kind_that_a_newer_version_added_are_left_to_it(
    library: Library,
) -> None:
    newer = bury_by_hand(library, key("a.png"), "x")
    library.change(sa.update(dead_letters).values(kind="newer", payload={"other": 1}))
    rows = (await library.database.rows()).dead_letters

    assert await rows.page(after=None, limit=9) == []
    for change in (rows.retry, rows.drop):
        with pytest.raises(DeadLetterNotFound):
            await change(newer)
    assert [row.payload for row in library.table(dead_letters)] == [{"other": 1}]


async def test_a_retried_dead_letter_deletes_nothing_that_was_saved_since(library: Library) -> None:
    saved = await library.save("a.png", picture())
    dead_letter = bury_by_hand(library, key("a.png"), saved.save_id)
    await library.save("a.png", picture())

    await (await library.database.rows()).dead_letters.retry(dead_letter)

    assert await library.sweep() == Swept(kept=1)
    assert await is_there(library, key("a.png"))
