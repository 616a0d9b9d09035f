"""Deletions that are due hit in the target what they hit where they came from."""

import uuid
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from contract.images import manifest_key
from media.library import is_there, key, make_due
from media.moving import EVERY_WAY, Move, moves, of_disk
from pictures import picture
from services.s3 import Operator
from services.seaweedfs import BUCKET, KEY_ID, SECRET, SeaweedFS
from stillroom.features.database.clock import new_id, now
from stillroom.features.database.config import SqliteConfig
from stillroom.features.database.engine import migrating
from stillroom.features.library.resource import DELETION
from stillroom.features.library.rows.tables import (
    dead_letters,
    deletions,
    failed_deletions,
    resources,
)
from stillroom.features.library.rows.transfer import TransferOutcome
from stillroom.features.runs.database import run_rows
from stillroom.features.runs.deletion import RunDeletions
from stillroom.features.runs.service import Runs
from stillroom.features.runs.tables import run_deletions
from stillroom.maintenance.migration import Migration
from stillroom.paths import ImagePath, StorageKey
from stillroom.store.choose import R2Config


@EVERY_WAY
async def test_a_mark_deletes_the_copy_of_the_save_that_was_marked(move: Move) -> None:
    await move.source.save("a.png", picture(1))
    await move.source.save("live.png", picture(3))
    resource = await move.source.ingest("a.png")
    (mark,) = move.source.table(deletions)

    transferred = await move.run()

    copy = await move.target.meddled.storage.stat(key("a.png"))
    assert transferred.marks == 1
    assert move.target.marked() == [("compute/a.png", copy.save_id)]
    (carried,) = move.target.table(deletions)
    assert (carried.due_at, carried.reason) == (mark.due_at, mark.reason)
    assert move.source.marked() == [(mark.storage_key.text, mark.save_id)]
    make_due(move.target)
    assert (await move.target.sweep()).deleted == 1
    assert not await is_there(move.target, key("a.png"))
    assert await is_there(move.target, key("live.png"))
    assert await is_there(move.target, resource.storage_key)
    assert await is_there(move.source, key("a.png"))


async def test_what_was_saved_again_since_the_mark_is_not_marked_in_the_target(move: Move) -> None:
    await move.source.save("a.png", picture(1))
    await move.source.ingest("a.png")
    await move.source.save("a.png", picture(1))  # the same bytes, and live

    transferred = await move.run()

    assert (transferred.marks, move.target.marked()) == (0, [])


async def test_a_mark_is_taken_back_when_its_image_is_live_again_in_the_source(move: Move) -> None:
    await move.source.save("a.png", picture(1))
    await move.source.ingest("a.png")
    assert (await move.run()).marks == 1
    await move.source.save("a.png", picture(1))

    transferred = await move.run()

    assert (transferred.marks, transferred.withdrawn) == (0, 1)
    assert move.target.marked() == []
    assert await is_there(move.target, key("a.png"))


async def test_what_the_targets_own_clients_have_saved_is_not_marked(move: Move) -> None:
    await move.source.save("a.png", picture(1))
    await move.source.ingest("a.png")
    await move.target.save("a.png", picture(1))  # equal bytes, but nobody's copy

    transferred = await move.run()

    assert (transferred.marks, move.target.marked()) == (0, [])


@EVERY_WAY
async def test_a_deletion_that_is_due_is_due_in_the_target_and_can_be_cancelled_there(
    move: Move,
) -> None:
    for number in (1, 2):
        await move.source.save(f"{number}.png", picture(number))
    doomed, skipped = [await move.source.ingest(f"{number}.png") for number in (1, 2)]
    await move.run()
    for resource in (doomed, skipped):
        await move.source.service.delete(resource.id)

    transferred = await move.run()

    assert (transferred.counts, transferred.marks) == ({TransferOutcome.CHANGED: 2}, 2)
    assert all(row.deleted_at for row in move.target.table(resources))
    assert (await move.target.ingest("2.png")).id == skipped.id
    make_due(move.target)
    await move.target.sweep()
    assert [row.id for row in move.target.table(resources)] == [skipped.id]
    assert not await is_there(move.target, doomed.storage_key)
    assert await is_there(move.target, skipped.storage_key)


async def test_a_deletion_that_the_source_has_begun_is_due_in_the_target(move: Move) -> None:
    await move.source.save("a.png", picture(1))
    resource = await move.source.ingest("a.png")
    await move.run()
    await move.source.service.delete(resource.id)
    move.source.change(sa.update(deletions).values(due_at=now()))
    rows = await move.source.database.rows()
    await rows.deletions.claim(new_id(), limit=10, lease=timedelta(minutes=5))
    assert move.source.table(resources) == []

    await move.run()

    (row,) = move.target.table(resources)
    assert row.deleted_at is not None
    make_due(move.target)
    await move.target.sweep()
    assert move.target.table(resources) == []
    assert not await is_there(move.target, resource.storage_key)


@pytest.mark.parametrize("is_done", [False, True], ids=["begun", "done"])
@EVERY_WAY
async def test_a_row_whose_bytes_the_targets_sweeper_deletes_meanwhile_is_left_out(
    move: Move, monkeypatch: pytest.MonkeyPatch, *, is_done: bool
) -> None:
    await move.source.save("a.png", picture(1))
    resource = await move.source.ingest("a.png")
    await move.source.service.delete(resource.id)
    await move.run()
    await move.source.ingest("a.png")  # cancels it
    make_due(move.target)
    migration = move.migration()
    await migration.run()
    claim = uuid.uuid4()

    async def sweep_then(where: StorageKey, sha256: bytes) -> object:
        there = await Migration.find_copy(migration, where, sha256)
        if is_done:
            await move.target.sweep()
        else:
            rows = await move.target.database.rows()
            await rows.deletions.claim(claim, limit=10, lease=timedelta(minutes=5))
        return there

    monkeypatch.setattr(migration, "find_copy", sweep_then)

    transferred = await move.rows(migration)

    assert transferred.counts == {}
    ((left,),) = ([one for one in transferred.left_out if one.resource_id == resource.id],)
    assert "migrate again" in left.detail
    assert move.target.table(resources) == []
    make_due(move.target)
    await move.target.sweep()
    assert (await move.run()).counts == {TransferOutcome.NEW: 1}
    await move.target.check()


async def test_a_deletion_that_was_cancelled_in_the_source_is_cancelled_in_the_target(
    move: Move,
) -> None:
    await move.source.save("a.png", picture(1))
    resource = await move.source.ingest("a.png", relocate=True)
    await move.source.service.delete(resource.id)
    await move.run()
    await move.source.ingest("a.png", relocate=True)

    transferred = await move.run()

    assert transferred.withdrawn == 1
    assert (await move.target.service.find(resource.id)).deleted_at is None
    make_due(move.target)
    await move.target.sweep()
    await move.target.check()
    assert await is_there(move.target, resource.storage_key)


async def test_dead_letters_follow_as_marks_do(move: Move) -> None:
    saved = await move.source.save("a.png", picture(1))
    payload = {"storage_key": saved.key.text, "save_id": saved.save_id, "reason": "relocated"}
    values = {"id": new_id(), "kind": DELETION, "payload": {**payload, "content_hash": None}}
    values |= {"created_at": now(), "failed_at": now(), "attempts": 12}
    with migrating(move.source.config) as connection:
        connection.execute(sa.insert(dead_letters).values(**values, last_error="no"))

    transferred = await move.run()

    assert transferred.dead_letters == 1
    (dead_letter,) = move.target.table(failed_deletions)
    copy = await move.target.meddled.storage.stat(saved.key)
    assert (dead_letter.save_id, dead_letter.last_error) == (copy.save_id, "no")
    assert (await move.run()).dead_letters == 0
    await move.source.save("a.png", picture(1))
    assert (await move.run()).withdrawn == 1
    assert move.target.table(failed_deletions) == []


@pytest.mark.slow
async def test_with_one_database_for_both_the_rows_stay_and_marks_of_the_copies_join_them(
    seaweed: SeaweedFS, operator: Operator, tmp_path: Path
) -> None:
    """What a server has that gets a bucket, and keeps its data directory."""
    rows = SqliteConfig(tmp_path / ".stillroom/library.db", durable=False)
    bucket = R2Config(seaweed.endpoint_url, KEY_ID, SECRET, BUCKET)
    async for move in moves([(of_disk(tmp_path), rows), (bucket, rows)]):
        for number in (1, 2):
            await move.source.save(f"{number}.png", picture(number))
        marked = await move.source.ingest("1.png")
        deleted = await move.source.ingest("2.png")
        await move.source.service.delete(deleted.id)
        before = move.source.table(resources)

        transferred = await move.run()

        assert (transferred.counts, transferred.marks) == ({TransferOutcome.SAME: 2}, 3)
        assert move.source.table(resources) == before
        assert (await move.run()).marks == 0
        make_due(move.target)
        swept = await move.target.sweep()
        assert (swept.deleted, swept.failed) == (3, 0)
        assert operator.keys() == [marked.storage_key.text]
        for name in ("1.png", "2.png"):
            assert await is_there(move.source, key(name))
        assert await is_there(move.source, deleted.storage_key)
    seaweed.empty()


async def test_a_run_whose_deletion_is_under_way_is_deleted_in_the_target_too(move: Move) -> None:
    for number in range(2):
        await move.source.save(f"runs/7/{number}.png", picture(number))
    rows, claim = await run_rows(move.source.database), uuid.uuid4()
    lease = timedelta(minutes=5)
    begun = await rows.begin("compute/runs/7/", claim, saved_until=now(), lease=lease)
    assert begun is not None

    for _ in range(2):
        await move.run()

    (row,) = move.target.table(run_deletions)
    assert (row.folder, row.claimed_by, row.after) == ("compute/runs/7/", None, "")
    storage = move.target.meddled.storage
    deleting = RunDeletions(storage, move.target.database, grace=timedelta(0))
    await deleting.resume(lambda: False)
    assert len(move.target.marked()) == 2
    assert move.target.table(run_deletions) == []


@EVERY_WAY
async def test_of_a_run_that_was_deleted_between_two_passes_the_manifest_is_taken_back(
    move: Move,
) -> None:
    source, target = move.source, move.target
    runs = Runs(source.meddled.storage, source.database)
    for run in (7, 8):
        for number in range(2):
            await source.save(f"runs/{run}/{number}.png", picture(number))
        (await runs.publish(ImagePath(f"runs/{run}"), 2)).close()
    await move.run()
    deleting = RunDeletions(source.meddled.storage, source.database, grace=timedelta(hours=1))
    await deleting.delete(ImagePath("runs/7"))

    await move.run()

    assert not await is_there(target, manifest_key("runs/7"))
    assert await is_there(target, manifest_key("runs/8"))
    assert [name for name, _ in target.marked()] == [f"compute/runs/7/{n}.png" for n in range(2)]
