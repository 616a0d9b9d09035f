"""Expiration of images by rules."""

import asyncio
import dataclasses
import time
import uuid
from datetime import timedelta
from typing import Any

import pytest

from contract.images import Chunks, document
from media.expiring import OLD_AT_ONCE, expiring, let_it_be_time
from media.library import Library, bury_by_hand, is_there, key, make_due
from pictures import picture
from stillroom.errors import BackendUnavailable
from stillroom.features.database.clock import now
from stillroom.features.database.tables import scans
from stillroom.features.library.rows.tables import deletions
from stillroom.features.library.sweeper import Swept
from stillroom.features.retention import expiry
from stillroom.features.retention.evaluator import expiry_rows
from stillroom.features.retention.expiry import SCAN, never_stops
from stillroom.features.runs.manifest import manifest_key
from stillroom.features.runs.service import Runs
from stillroom.paths import ImagePath, StorageKey, is_reserved
from stillroom.store.sources import DescribedSource
from stillroom.store.values import EntryPage, ListQuery, StoredImage
from waiting import until


@pytest.fixture(autouse=True)
def in_small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(expiry, "_PAUSE_S", 0.01)
    monkeypatch.setattr(expiry, "_PAGE", 2)


async def test_what_nobody_ingested_goes_through_the_queue(library: Library) -> None:
    for number in range(5):
        await library.save(f"{number}.png", picture(number))

    assert await expiring(library).mark_expired(never_stops) == 5

    assert {row.reason for row in library.table(deletions)} == {"rule"}
    assert await library.sweep() == Swept()  # there is a minute of grace
    make_due(library)
    assert await library.sweep() == Swept(deleted=5)


async def test_what_is_young_stays(library: Library) -> None:
    await library.save("a.png", picture())

    assert await expiring(library, timedelta(hours=1)).mark_expired(never_stops) == 0
    assert library.marked() == []


async def test_what_is_recorded_in_place_stays_also_if_that_comes_later(library: Library) -> None:
    await library.save("a.png", picture(1))
    await library.ingest("a.png", relocate=False)
    await library.save("b.png", picture(2))

    assert await expiring(library).mark_expired(never_stops) == 1
    await library.ingest("b.png", relocate=False)
    make_due(library)

    assert await library.sweep() == Swept()
    for path in ("a.png", "b.png"):
        assert await is_there(library, key(path))


@pytest.mark.pairs
async def test_a_published_run_goes_as_one_by_the_time_of_its_manifest(library: Library) -> None:
    storage = library.meddled.storage
    runs = Runs(storage, library.database)
    for path in ("7/-0.png", "7/1.png", "7/in/2.png", "7/3.png", "8.png"):
        await library.save(path, picture())
    await library.ingest("7/3.png", relocate=False)
    (await runs.publish(ImagePath("7"), None)).close()
    stat = storage.stat

    async def young(where: StorageKey, **how: Any) -> StoredImage:
        found = await stat(where, **how)
        if is_reserved(where.text):
            return dataclasses.replace(found, modified_ns=2 * found.modified_ns)
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(storage, "stat", young)
        assert await expiring(library).mark_expired(never_stops) == 1
    assert [name for name, _ in library.marked()] == ["compute/8.png"]
    let_it_be_time(library)

    assert await expiring(library).mark_expired(never_stops) == 3

    assert not await is_there(library, manifest_key(ImagePath("7")))
    make_due(library)
    assert await library.sweep() == Swept(deleted=4)
    assert await is_there(library, key("7/3.png"))


async def test_what_was_saved_into_an_old_run_since_stays_as_long_as_any_other(
    library: Library,
) -> None:
    storage, days = library.meddled.storage, 86_400 * 10**9
    for name, age in (("7/old.png", 10), ("7/new.png", 0)):
        made = await library.save("made.png", picture(age))
        assert made.sha256 is not None
        then = dataclasses.replace(made, modified_ns=time.time_ns() - age * days)
        chunks = aiter(Chunks(picture(age)))
        await storage.save(key(name), DescribedSource.of_image(then, made.sha256, chunks))
    manifest = document(b"{}")
    manifest.modified_ns = time.time_ns() - 9 * days
    await storage.save(manifest_key(ImagePath("7")), manifest)

    assert await expiring(library, timedelta(days=1)).mark_expired(never_stops) == 1

    assert [name for name, _ in library.marked()] == ["compute/7/old.png"]
    assert not await is_there(library, manifest_key(ImagePath("7")))


async def test_a_manifest_without_images_expires(library: Library) -> None:
    runs = Runs(library.meddled.storage, library.database)
    (await runs.publish(ImagePath("7"), 0)).close()

    assert await expiring(library).mark_expired(never_stops) == 0

    assert not await is_there(library, manifest_key(ImagePath("7")))


async def test_what_is_saved_again_is_young_again(library: Library) -> None:
    await library.save("a.png", picture())
    await expiring(library).mark_expired(never_stops)
    await library.save("a.png", picture())
    make_due(library)

    assert await library.sweep() == Swept(kept=1)
    assert await library.read(key("a.png")) == picture()


async def test_a_source_that_is_marked_already_keeps_its_time(library: Library) -> None:
    await library.save("a.png", picture())
    await library.ingest("a.png")
    (before,) = library.table(deletions)

    assert await expiring(library).mark_expired(never_stops) == 0
    assert library.table(deletions) == [before]


async def test_what_could_not_be_deleted_is_not_marked_again_and_again(library: Library) -> None:
    saved = await library.save("a.png", picture())
    bury_by_hand(library, key("a.png"), saved.save_id)

    assert await expiring(library).mark_expired(never_stops) == 0


async def test_the_library_itself_never_expires(library: Library) -> None:
    await library.save("a.png", picture())
    resource = await library.ingest("a.png")
    await expiring(library).mark_expired(never_stops)
    make_due(library)
    await library.sweep()

    assert await library.read(resource.storage_key) == picture()


@pytest.mark.pairs
async def test_it_is_done_when_it_is_time_by_one_at_a_time(library: Library) -> None:
    for number in range(5):
        await library.save(f"{number}.png", picture())

    both = await asyncio.gather(
        *(expiring(library, OLD_AT_ONCE).mark_expired(never_stops) for _ in range(2))
    )
    assert sorted(both) == [0, 5]
    (row,) = library.table(scans)
    assert (row.after, row.claimed_by, row.lease_until) == ("", None, None)
    await library.save("late.png", picture())
    let_it_be_time(library)
    await expiring(library, timedelta(days=1)).mark_expired(never_stops)
    rows = sorted(library.table(scans))
    assert await expiring(library, timedelta(days=1)).mark_expired(never_stops) == 0
    assert sorted(library.table(scans)) == rows
    # A rule that is shorter does not wait for what a longer one has put off.
    assert await expiring(library).mark_expired(never_stops) == 1


async def test_one_that_stops_or_dies_is_gone_on_with_where_it_was(library: Library) -> None:
    for number in range(6):
        await library.save(f"{number}.png", picture())
    pages: list[str] = []
    entries = library.meddled.storage.entries

    async def watched(query: ListQuery) -> EntryPage:
        pages.append(query.after)
        if len(pages) == 2:
            raise BackendUnavailable("the listing broke off")
        return await entries(query)

    async def stops(_: float) -> bool:
        return len(pages) == 3

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(library.meddled.storage, "entries", watched)
        with pytest.raises(BackendUnavailable):
            await expiring(library).mark_expired(stops)
        assert await expiring(library).mark_expired(stops) == 0  # there is a lease
        let_it_be_time(library)
        assert await expiring(library).mark_expired(stops) == 2
        assert await expiring(library).mark_expired(stops) == 2

    assert pages == ["", "compute/1.png", "compute/1.png", "compute/3.png"]
    assert len(library.marked()) == 6


async def test_one_that_wakes_up_late_marks_nothing(library: Library) -> None:
    saved = await library.save("a.png", picture())
    scans_of = await library.database.scans()
    first, second = uuid.uuid4(), uuid.uuid4()
    lease = timedelta(minutes=5)
    assert await scans_of._claim(first, SCAN, -lease, lease) == ""
    assert await scans_of._claim(second, SCAN, lease, lease) == ""

    expiring = await expiry_rows(library.database)
    marked = await expiring.mark_expired(first, [saved], due_at=now(), after="x", lease=lease)
    await scans_of.end(first, next_at=now())

    assert marked is None
    assert library.marked() == []
    (row,) = library.table(scans)
    assert (row.claimed_by, row.after) == (second, "")


@pytest.mark.pairs
async def test_it_runs_beside_a_server(library: Library) -> None:
    for number in range(5):
        await library.save(f"{number}.png", picture())
    library.expiry = expiring(library)

    async with library.background(every_s=0.05, stop_within_s=5):
        # In a thread: SQLite would make the loop wait for a transaction that runs on it.
        await asyncio.to_thread(until, lambda: len(library.marked()) >= 5)
