"""The promises of the sweeper, one test each, on the pairs of a storage and a database of
`conftest.py`: on two of them, and on all four where a test is marked `pairs`.
"""

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from media.suite import GRACE, Library, key
from pictures import picture
from stillroom.errors import BackendUnavailable, DeadLetterNotFound, ImageNotFound
from stillroom.media import sweeper
from stillroom.media.config import RowsConfig
from stillroom.media.resource import Intent, Settlement, new_id, now
from stillroom.media.rows.engine import migrating
from stillroom.media.rows.tables import dead_letters, deletions, intents, resources
from stillroom.media.sweeper import MAX_ATTEMPTS, Swept
from stillroom.paths import StorageKey
from stillroom.storage.port import ImageStorage

LONG_AGO = timedelta(days=1)


def make_due(library: Library) -> None:
    """As if the grace period were over, and every lease."""
    then = now() - LONG_AGO
    library.change(sa.update(deletions).values(due_at=then))
    library.change(
        sa.update(deletions).where(deletions.c.lease_until > then).values(lease_until=then)
    )
    library.change(sa.update(intents).values(lease_until=then))


async def is_there(library: Library, where: StorageKey) -> bool:
    try:
        await library.meddled.storage.stat(where)  # `locate` may remember what others deleted
    except ImageNotFound:
        return False
    return True


async def left_copy(
    library: Library, resource_id: uuid.UUID | None = None, *, source: str = "a.png"
) -> StorageKey:
    """What an ingest leaves that dies between the copy and its commit."""
    media_key = StorageKey.of_media(resource_id or new_id(), "png")
    rows = await library.database.rows()
    lease = now() + timedelta(minutes=15)
    await rows.intents.write(Intent(media_key, resource_id or new_id(), key(source), lease))
    await library.meddled.storage.copy(key(source), media_key)
    return media_key


def refuse(error: Exception) -> Callable[[StorageKey], Awaitable[None]]:
    async def before(_: StorageKey) -> None:
        raise error

    return before


class SweepingContract:
    """Subclass this, in a file that pytest collects."""

    @pytest.fixture
    async def library(self, storage: ImageStorage, config: RowsConfig) -> AsyncIterator[Library]:
        library = Library(storage, config)
        await library.database.rows()
        yield library
        library.meddled.before_delete = None
        await library.check()
        await library.database.close()

    # Marks

    @pytest.mark.pairs
    async def test_a_source_goes_when_its_time_has_come_and_its_resource_stays(
        self, library: Library
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

    async def test_what_was_ingested_and_swept_gives_the_same_id_again(
        self, library: Library
    ) -> None:
        await library.save("a.png", picture())
        first = await library.ingest("a.png")
        make_due(library)
        await library.sweep()
        await library.save("b.png", picture())

        assert await library.ingest("b.png") == first

    @pytest.mark.parametrize("data", [picture(1), picture(2)], ids=["same bytes", "other bytes"])
    async def test_a_source_that_was_saved_again_after_its_mark_stays(
        self, library: Library, data: bytes
    ) -> None:
        await library.save("a.png", picture(1))
        await library.ingest("a.png")
        await library.save("a.png", data)
        make_due(library)

        assert await library.sweep() == Swept(kept=1)
        assert await library.read(key("a.png")) == data
        assert library.marked() == []

    @pytest.mark.pairs
    async def test_a_source_that_is_saved_again_while_it_is_swept_stays(
        self, library: Library
    ) -> None:
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

    async def test_a_source_that_somebody_else_deleted_is_done(self, library: Library) -> None:
        await library.save("a.png", picture())
        await library.ingest("a.png")
        await library.meddled.storage.delete(key("a.png"))
        make_due(library)

        assert await library.sweep() == Swept(gone=1)
        assert library.marked() == []

    async def test_a_source_that_a_resource_needs_after_all_stays(self, library: Library) -> None:
        saved = await library.save("a.png", picture())
        await library.ingest("a.png", relocate=False)
        mark_by_hand(library, key("a.png"), saved.save_id)

        assert await library.sweep() == Swept(kept=1)
        assert await library.read(key("a.png")) == picture()
        assert library.marked() == []

    async def test_a_source_whose_copy_is_gone_stays_and_a_dead_letter_says_why(
        self, library: Library
    ) -> None:
        await library.save("a.png", picture())
        resource = await library.ingest("a.png")
        await library.meddled.storage.delete(resource.storage_key)
        make_due(library)

        assert await library.sweep() == Swept(dead_lettered=1)

        assert await library.read(key("a.png")) == picture()
        (dead_letter,) = library.table(dead_letters)
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

    async def test_a_source_whose_copy_has_other_bytes_stays(self, library: Library) -> None:
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
        self, library: Library, *, lost: bool
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

    async def test_a_source_without_any_resource_stays(self, library: Library) -> None:
        """As with rows that were restored from before the ingest, or are another library's."""
        await library.save("a.png", picture())
        resource = await library.ingest("a.png")
        make_due(library)
        with migrating(library.config) as connection:
            connection.execute(sa.delete(resources))

        assert await library.sweep() == Swept(dead_lettered=1)
        assert await library.read(key("a.png")) == picture()
        (dead_letter,) = library.table(dead_letters)
        assert "no resource of the library has these bytes" in dead_letter.last_error
        await library.meddled.storage.delete(resource.storage_key)

    async def test_a_source_goes_after_its_resource_was_deleted_and_swept(
        self, library: Library
    ) -> None:
        await library.save("a.png", picture())
        resource = await library.ingest("a.png")
        await library.service.delete(resource.id)
        ours = deletions.c.resource_id == resource.id
        library.change(sa.update(deletions).where(ours).values(due_at=now() - LONG_AGO))
        assert await library.sweep() == Swept(deleted=1)
        make_due(library)

        assert await library.sweep() == Swept(deleted=1)
        assert library.table(dead_letters) == []

    async def test_a_source_that_was_ingested_anew_relies_on_the_new_copy(
        self, library: Library
    ) -> None:
        await library.save("a.png", picture())
        resource = await library.ingest("a.png")
        await library.service.delete(resource.id)
        ours = deletions.c.resource_id == resource.id
        library.change(sa.update(deletions).where(ours).values(due_at=now() - LONG_AGO))
        await library.sweep()
        again = await library.ingest("a.png")
        await library.meddled.storage.delete(again.storage_key)
        make_due(library)

        assert await library.sweep() == Swept(dead_lettered=1)
        assert await library.read(key("a.png")) == picture()
        await library.ingest("a.png")

    async def test_a_deleted_resource_goes_with_its_bytes(self, library: Library) -> None:
        await library.save("a.png", picture())
        resource = await library.ingest("a.png")
        await library.service.delete(resource.id)
        make_due(library)

        assert await library.sweep() == Swept(deleted=2)
        assert library.table(resources) == library.table(deletions) == []
        assert not await is_there(library, resource.storage_key)

    async def test_a_resource_that_is_ingested_again_while_its_deletion_is_due_stays(
        self, library: Library
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
        self, library: Library
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

    async def test_a_late_second_copy_goes_with_a_deleted_resource(self, library: Library) -> None:
        await library.save("a.png", picture())
        resource = await library.ingest("a.png")
        await library.meddled.storage.copy(key("a.png"), resource.storage_key)
        await library.service.delete(resource.id)
        make_due(library)

        assert await library.sweep() == Swept(deleted=2)
        assert not await is_there(library, resource.storage_key)

    async def test_many_are_swept_in_one_go(self, library: Library) -> None:
        for number in range(40):
            await library.save(f"{number}.png", picture())
            await library.ingest(f"{number}.png")
        make_due(library)
        seen: list[int] = []

        swept = await library.sweep(lambda swept: seen.append(swept.deleted))

        assert swept == Swept(deleted=40)
        assert seen == [32, 40, 40]  # and at the end

    # Sweepers that die, and several

    @pytest.mark.pairs
    async def test_two_sweepers_delete_everything_once(self, library: Library) -> None:
        for number in range(40):
            await library.save(f"{number}.png", picture())
            await library.ingest(f"{number}.png")
        make_due(library)

        both = await asyncio.gather(library.sweep(), library.sweep())

        assert sum(swept.deleted for swept in both) == 40
        assert sum(swept.gone + swept.kept + swept.failed for swept in both) == 0
        assert library.marked() == []

    async def test_what_a_dead_sweeper_has_claimed_is_anothers_when_the_lease_is_over(
        self, library: Library
    ) -> None:
        await library.save("a.png", picture())
        resource = await library.ingest("a.png")
        await library.service.delete(resource.id)
        make_due(library)
        rows = await library.database.rows()
        claimed = await rows.deletions.claim(uuid.uuid4(), limit=10, lease=timedelta(minutes=5))
        assert len(claimed.marks) == 2

        assert await library.sweep() == Swept()
        make_due(library)

        assert await library.sweep() == Swept(deleted=2)
        assert library.table(resources) == library.marked() == []

    async def test_a_sweeper_that_wakes_up_late_changes_nothing_that_is_anothers(
        self, library: Library
    ) -> None:
        await library.save("a.png", picture())
        await library.ingest("a.png")
        make_due(library)
        rows = await library.database.rows()
        first, second = uuid.uuid4(), uuid.uuid4()
        claimed = await rows.deletions.claim(first, limit=10, lease=-LONG_AGO)
        await rows.deletions.claim(second, limit=10, lease=LONG_AGO)

        (mark,) = claimed.marks
        await rows.deletions.settle(first, Settlement(done=[mark.id]))
        await rows.deletions.settle(first, Settlement(dead_lettered=[(mark, "x")]))

        (row,) = library.table(deletions)
        assert row.claimed_by == second
        assert library.table(dead_letters) == []

    async def test_a_lease_that_is_nearly_over_deletes_nothing(
        self, library: Library, monkeypatch: pytest.MonkeyPatch
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

    async def test_a_sweep_that_is_cancelled_is_made_good_by_the_next(
        self, library: Library
    ) -> None:
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
        self, library: Library
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
        async with library.background().running(every_s=0.01, stop_within_s=60):
            await reached.wait()
            asyncio.get_running_loop().call_later(0.2, go_on.set)

        left = library.table(deletions)
        assert len(left) == 12  # eight at once
        assert {(row.claimed_by, row.lease_until, row.attempts) for row in left} == {
            (None, None, 0)
        }

    async def test_a_stop_does_not_wait_for_a_deletion_that_hangs(self, library: Library) -> None:
        reached = asyncio.Event()

        async def hang(_: StorageKey) -> None:
            reached.set()
            await asyncio.Event().wait()

        await library.save("a.png", picture())
        await library.ingest("a.png")
        make_due(library)
        library.meddled.before_delete = hang
        async with library.background().running(every_s=0.01, stop_within_s=0.1):
            await reached.wait()

        library.meddled.before_delete = None
        make_due(library)
        assert await library.sweep() == Swept(deleted=1)

    # Failures

    async def test_a_deletion_that_fails_is_tried_later_each_time_later_still(
        self, library: Library
    ) -> None:
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
        self, library: Library, error: Exception
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
        (dead_letter,) = library.table(dead_letters)
        assert dead_letter.storage_key == key("bad.png")
        assert (dead_letter.save_id, dead_letter.reason) == (saved.save_id, "relocated")
        assert (dead_letter.attempts, dead_letter.last_error) == (MAX_ATTEMPTS, str(error))
        assert await is_there(library, key("bad.png"))

    async def test_a_mark_that_kills_its_sweeper_each_time_ends_as_a_dead_letter(
        self, library: Library
    ) -> None:
        await library.save("a.png", picture())
        await library.ingest("a.png")
        rows = await library.database.rows()
        for _ in range(MAX_ATTEMPTS):
            make_due(library)
            await rows.deletions.claim(uuid.uuid4(), limit=10, lease=timedelta(minutes=5))
        make_due(library)

        assert await library.sweep() == Swept(dead_lettered=1)
        (dead_letter,) = library.table(dead_letters)
        assert (
            dead_letter.last_error
            == "no result from the previous attempts; their worker may have crashed"
        )

    async def test_a_source_whose_deletion_failed_can_be_recorded_in_place(
        self, library: Library
    ) -> None:
        await library.save("a.png", picture())
        resource = await library.ingest("a.png")
        library.meddled.before_delete = refuse(BackendUnavailable("403"))
        make_due(library)
        await library.sweep()
        library.meddled.before_delete = None

        assert await library.ingest("a.png", relocate=False) == resource
        assert library.marked() == []

    async def test_a_resource_whose_deletion_failed_is_not_found_again(
        self, library: Library
    ) -> None:
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

    async def test_a_dead_letter_is_listed_retried_and_dropped(self, library: Library) -> None:
        rows = await library.database.rows()
        made = []
        for number in range(3):
            saved = await library.save(f"{number}.png", picture(number))
            made.append(bury_by_hand(library, key(f"{number}.png"), saved.save_id))

        listed = await rows.dead_letters.page(after=None, limit=2)
        listed = [*listed, *await rows.dead_letters.page(after=listed[-1].id, limit=2)]
        assert [dead_letter.id for dead_letter in listed] == made[::-1]

        assert (await rows.dead_letters.retry(made[0])).storage_key == key("0.png")
        assert (await rows.dead_letters.drop(made[1])).storage_key == key("1.png")
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

    async def test_a_retried_dead_letter_deletes_nothing_that_was_saved_since(
        self, library: Library
    ) -> None:
        saved = await library.save("a.png", picture())
        dead_letter = bury_by_hand(library, key("a.png"), saved.save_id)
        await library.save("a.png", picture())

        await (await library.database.rows()).dead_letters.retry(dead_letter)

        assert await library.sweep() == Swept(kept=1)
        assert await is_there(library, key("a.png"))

    # Intents

    async def test_the_copy_of_an_ingest_that_died_goes_when_its_lease_is_over(
        self, library: Library
    ) -> None:
        await library.save("a.png", picture())
        media_key = await left_copy(library)

        assert await library.sweep() == Swept()
        assert await is_there(library, media_key)
        make_due(library)

        assert await library.sweep() == Swept(copies=1)
        assert not await is_there(library, media_key)
        assert library.table(intents) == []

    async def test_an_intent_without_a_copy_goes(self, library: Library) -> None:
        await library.save("a.png", picture())
        await library.meddled.storage.delete(await left_copy(library))
        make_due(library)

        assert await library.sweep() == Swept(copies=1)
        assert library.table(intents) == []

    async def test_a_copy_that_a_resource_has_is_not_cleared_away(self, library: Library) -> None:
        await library.save("a.png", picture())
        resource = await library.ingest("a.png")
        assert await left_copy(library, resource.id) == resource.storage_key
        make_due(library)

        assert await library.sweep() == Swept(deleted=1)
        assert library.table(intents) == []
        assert await library.read(resource.storage_key) == picture()

    @pytest.mark.pairs
    async def test_a_copy_that_is_being_cleared_away_is_not_relied_on(
        self, library: Library
    ) -> None:
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

    async def test_a_copy_that_cannot_be_cleared_away_stays_remembered(
        self, library: Library
    ) -> None:
        await library.save("a.png", picture())
        media_key = await left_copy(library)
        make_due(library)
        library.meddled.before_delete = refuse(BackendUnavailable("403"))

        assert await library.sweep() == Swept()
        assert [row.media_key for row in library.table(intents)] == [media_key]
        library.meddled.before_delete = None
        make_due(library)
        assert await library.sweep() == Swept(copies=1)

    async def test_an_ingest_that_lost_its_intent_clears_its_own_copy_away(
        self, library: Library
    ) -> None:
        async def swept() -> None:
            library.meddled.after_copy = None
            with migrating(library.config) as connection:
                connection.execute(sa.delete(intents))

        await library.save("a.png", picture())
        library.meddled.after_copy = swept

        resource = await library.ingest("a.png")

        assert await library.media_keys() == [resource.storage_key.text]

    # Numbers

    async def test_the_numbers_say_what_waits(self, library: Library) -> None:
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

    async def test_what_is_due_is_listed_in_pages(self, library: Library) -> None:
        rows = await library.database.rows()
        for number in range(3):
            await library.save(f"{number}.png", picture())
            await library.ingest(f"{number}.png")
        assert await rows.deletions.due(after=None, limit=9) == []
        make_due(library)

        page = await rows.deletions.due(after=None, limit=2)
        page = [*page, *await rows.deletions.due(after=page[-1], limit=2)]

        assert sorted(mark.storage_key.text for mark in page) == [
            f"compute/{number}.png" for number in range(3)
        ]


def mark_by_hand(library: Library, where: StorageKey, save_id: str) -> None:
    then = now() - LONG_AGO
    with migrating(library.config) as connection:
        connection.execute(
            sa.insert(deletions).values(
                id=new_id(),
                storage_key=where,
                save_id=save_id,
                reason="relocated",
                created_at=then,
                due_at=then,
            )
        )


def bury_by_hand(library: Library, where: StorageKey, save_id: str) -> uuid.UUID:
    dead_letter_id = new_id()
    with migrating(library.config) as connection:
        connection.execute(
            sa.insert(dead_letters).values(
                id=dead_letter_id,
                storage_key=where,
                save_id=save_id,
                reason="expired",
                created_at=now(),
                failed_at=now(),
                attempts=MAX_ATTEMPTS,
                last_error="403",
            )
        )
    return dead_letter_id
