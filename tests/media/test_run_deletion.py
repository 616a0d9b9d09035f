"""A run that is deleted goes as a whole, by marks, on the pairs of `conftest.py`."""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any, cast

import pytest
import sqlalchemy as sa

from contract.images import document, manifest_key
from media.library import GRACE, Library, is_there, key, make_due
from pictures import picture
from stillroom.errors import BackendUnavailable, RunConflict, RunNotFound
from stillroom.features.database.clock import now
from stillroom.features.database.config import RowsConfig
from stillroom.features.library.resource import EXPIRED
from stillroom.features.library.rows.tables import deletions
from stillroom.features.library.sweeper import Sweeper, Swept
from stillroom.features.runs import deletion
from stillroom.features.runs.database import run_rows
from stillroom.features.runs.deletion import RunDeletions
from stillroom.features.runs.service import Runs
from stillroom.features.runs.tables import run_deletions
from stillroom.paths import ImagePath, StorageKey
from stillroom.store.port import ImageStorage
from stillroom.store.sources import ImageSource
from stillroom.store.values import Condition, EntryPage, ListQuery, StoredImage

RUN = ImagePath.parse("runs/7")


class RunLibrary(Library):
    """A library, and the runs of its storage."""

    def __init__(self, storage: ImageStorage, config: RowsConfig) -> None:
        super().__init__(storage, config)
        self.runs = Runs(cast("ImageStorage", self.meddled), self.database)
        self.deleting = RunDeletions(cast("ImageStorage", self.meddled), self.database, grace=GRACE)

    def sweeper(self) -> Sweeper:
        return Sweeper(
            cast("ImageStorage", self.meddled), self.database, resume=self.deleting.resume
        )

    async def filled(self, count: int = 4, folder: str = "runs/7") -> list[str]:
        paths = [f"{folder}/{number}.png" for number in range(count)]
        for number, path in enumerate(paths):
            await self.save(path, picture(number))
        return paths

    async def publish(self, folder: ImagePath = RUN) -> None:
        (await self.runs.publish(folder, None)).close()

    async def delete(self, folder: ImagePath = RUN) -> tuple[int, int, int]:
        deleted = await self.deleting.delete(folder)
        return deleted.marked, deleted.kept, deleted.newer


@pytest.fixture
async def library(
    storage: ImageStorage, config: RowsConfig, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[RunLibrary]:
    monkeypatch.setattr(deletion, "PAGE", 3)
    library = RunLibrary(storage, config)
    await library.database.rows()
    yield library
    await library.check()
    await library.database.close()


def end_leases(library: Library) -> None:
    library.change(sa.update(run_deletions).values(lease_until=now() - timedelta(seconds=1)))


@pytest.mark.pairs
async def test_the_manifest_goes_at_once_and_the_images_when_the_grace_is_over(
    library: RunLibrary,
) -> None:
    paths = await library.filled(8)
    await library.save("runs/70/other.png", picture())
    await library.publish()

    assert await library.delete() == (8, 0, 0)

    assert not await is_there(library, manifest_key("runs/7"))
    assert [name for name, _ in library.marked()] == sorted(key(path).text for path in paths)
    (mark, *_) = library.table(deletions)
    assert mark.due_at - mark.created_at == pytest.approx(GRACE, abs=timedelta(minutes=1))
    assert library.table(run_deletions) == []
    assert await library.sweep() == Swept()
    make_due(library)
    assert await library.sweep() == Swept(deleted=8)
    assert await is_there(library, key("runs/70/other.png"))
    with pytest.raises(RunNotFound):
        await library.delete()


async def test_an_open_run_is_deleted_and_again_with_the_same_answer(library: RunLibrary) -> None:
    await library.filled(4)

    assert await library.delete() == (4, 0, 0)
    marks = library.table(deletions)
    assert await library.delete() == (4, 0, 0)
    assert library.table(deletions) == marks


async def test_what_is_marked_can_be_ingested_for_a_minute_at_least(library: RunLibrary) -> None:
    await library.filled(1)
    storage, began = cast("ImageStorage", library.meddled), now()

    await RunDeletions(storage, library.database, grace=timedelta(0)).delete(RUN)

    (mark,) = library.table(deletions)
    assert mark.due_at >= began + timedelta(minutes=1)


async def test_what_the_library_has_recorded_in_place_stays_and_is_counted(
    library: RunLibrary,
) -> None:
    paths = await library.filled(4)
    recorded = await library.ingest(paths[1], relocate=False)

    assert await library.delete() == (3, 1, 0)
    await library.ingest(paths[2], relocate=False)  # in the hour of grace
    make_due(library)

    assert await library.sweep() == Swept(deleted=2)
    assert await library.read(recorded.storage_key) == picture(1)
    assert await is_there(library, key(paths[2]))


@pytest.mark.pairs
async def test_names_are_marked_and_kept_whatever_letters_they_have(library: RunLibrary) -> None:
    paths = [f"runs/7/{name}.png" for name in ('"a"', "%(b)s {0} $1", "c é", "d 🦊", "e'')--")]
    for number, path in enumerate(paths):
        await library.save(path, picture(number))
    for path in paths[2:4]:
        await library.ingest(path, relocate=False)

    assert await library.delete() == (3, 2, 0)

    gone = [paths[0], paths[1], paths[4]]
    assert [name for name, _ in library.marked()] == sorted(key(path).text for path in gone)
    make_due(library)
    assert await library.sweep() == Swept(deleted=3)


async def test_what_is_saved_again_stays(library: RunLibrary) -> None:
    paths = await library.filled(2)
    await library.delete()
    await library.save(paths[0], picture(0))
    make_due(library)

    assert await library.sweep() == Swept(deleted=1, kept=1)
    assert await is_there(library, key(paths[0]))


async def test_an_image_that_would_go_later_goes_with_its_run(library: RunLibrary) -> None:
    saved = await library.save("runs/7/a.png", picture())
    rows = await library.database.rows()
    await rows.deletions.mark_save(saved, EXPIRED, now() + timedelta(days=7))

    await library.delete()
    (mark,) = library.table(deletions)
    assert mark.due_at < now() + 2 * GRACE
    await rows.deletions.mark_save(saved, EXPIRED, now() + timedelta(days=7))

    assert library.table(deletions) == [mark]


async def test_what_is_saved_after_the_deletion_was_asked_for_stays(library: RunLibrary) -> None:
    paths = await library.filled(2)
    entries = library.meddled.storage.entries
    saved_later: list[str] = []

    async def later(query: ListQuery) -> EntryPage:
        if not saved_later:
            await asyncio.sleep(1.1 - time.time() % 1)  # a bucket's times have whole seconds
            saved_later.append((await library.save("runs/7/later.png", picture())).save_id)
        return await entries(query)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(library.meddled.storage, "entries", later)
        assert await library.delete() == (2, 0, 1)

    assert [name for name, _ in library.marked()] == [key(path).text for path in paths]


async def test_a_manifest_that_is_written_while_its_run_is_deleted_goes(
    library: RunLibrary,
) -> None:
    await library.filled(2)
    entries = library.meddled.storage.entries

    async def written_meanwhile(query: ListQuery) -> EntryPage:
        await library.meddled.storage.save(manifest_key("runs/7"), document(b"{}"))
        return await entries(query)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(library.meddled.storage, "entries", written_meanwhile)
        assert await library.delete() == (2, 0, 0)

    assert not await is_there(library, manifest_key("runs/7"))


async def test_a_deletion_that_breaks_off_is_gone_on_with_by_the_sweeper(
    library: RunLibrary,
) -> None:
    await library.filled(8)
    await library.publish()
    entries = library.meddled.storage.entries
    pages: list[str] = []

    async def breaks(query: ListQuery) -> EntryPage:
        pages.append(query.after)
        if len(pages) in (2, 3):
            raise BackendUnavailable("the listing broke off")
        return await entries(query)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(library.meddled.storage, "entries", breaks)
        with pytest.raises(BackendUnavailable):
            await library.delete()
        assert len(library.marked()) == 3
        assert not await is_there(library, manifest_key("runs/7"))
        with pytest.raises(RunConflict, match="being deleted"):
            await library.publish()
        await library.sweep()  # fails, too
        await library.sweep()  # the lease of the one that failed
        assert len(pages) == 3
        end_leases(library)
        await library.sweep()

    assert pages == ["", "compute/runs/7/2.png", "compute/runs/7/2.png", *pages[3:]]
    assert pages[3] == "compute/runs/7/2.png"
    assert len(library.marked()) == 8
    assert library.table(run_deletions) == []


async def test_one_process_at_a_time_deletes_a_run(library: RunLibrary) -> None:
    await library.filled(1)
    rows = await run_rows(library.database)
    claim, other = uuid.uuid4(), uuid.uuid4()
    lease = timedelta(minutes=5)
    until = now()
    begun = await rows.begin("compute/runs/7/", claim, saved_until=until, lease=lease)
    assert begun is not None

    with pytest.raises(BackendUnavailable, match="another request"):
        await library.delete()
    assert await rows.claim(other, lease=lease) is None
    end_leases(library)
    taken = await rows.claim(other, lease=lease)
    assert taken is not None
    late: dict[str, Any] = {"newer": 0, "due_at": now(), "after": "x", "lease": lease}
    assert not await rows.mark(claim, [], **late)
    assert await rows.end(claim) is None
    (row,) = library.table(run_deletions)
    assert (row.after, row.claimed_by) == ("", other)
    await rows.release(other)
    earlier = until - timedelta(days=1)
    again = await rows.begin("compute/runs/7/", claim, saved_until=earlier, lease=lease)
    assert again is not None
    assert again.saved_until == until
    await rows.release(claim)

    assert await library.delete() == (1, 0, 0)


async def test_a_folder_with_a_published_run_in_it_is_not_deleted(library: RunLibrary) -> None:
    await library.filled(2)
    await library.filled(2, "runs/7/inner")
    await library.publish(ImagePath.parse("runs/7/inner"))

    with pytest.raises(RunConflict, match="published run 'runs/7/inner'"):
        await library.delete()

    assert library.marked() == library.table(run_deletions) == []
    assert await is_there(library, manifest_key("runs/7/inner"))


async def test_a_run_whose_images_are_about_to_go_is_not_published(library: RunLibrary) -> None:
    paths = await library.filled(4)
    await library.delete()

    with pytest.raises(RunConflict, match="4 images of the run will be deleted soon"):
        await library.publish()
    for number, path in enumerate(paths):
        await library.save(path, picture(number))
    await library.publish()
    make_due(library)

    assert await library.sweep() == Swept(kept=4)


async def test_a_run_that_is_deleted_while_it_is_published_is_deleted(library: RunLibrary) -> None:
    await library.filled(2)
    save = library.meddled.storage.save

    async def after_the_deletion(
        where: StorageKey, source: ImageSource, condition: Condition
    ) -> StoredImage:
        data = b"".join([chunk async for chunk in source])
        assert await library.delete() == (2, 0, 0)
        return await save(where, document(data), condition)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(library.meddled.storage, "save", after_the_deletion)
        with pytest.raises(RunConflict, match="will be deleted soon"):
            await library.publish()

    assert not await is_there(library, manifest_key("runs/7"))
    assert len(library.marked()) == 2
