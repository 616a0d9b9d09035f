"""The library's rows follow its bytes, and its deletions hit what they hit where they came from."""

import dataclasses
import hashlib
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from contract.images import RULES, manifest_key
from media.library import Library, is_there, key, make_due
from pictures import picture
from services.s3 import Operator
from services.seaweedfs import BUCKET, KEY_ID, SECRET, SeaweedFS
from stillroom.errors import BackendUnavailable, ConfigurationError
from stillroom.maintenance import row_transfer
from stillroom.maintenance.migration import Migration, Target
from stillroom.maintenance.migration_report import MigrationStats
from stillroom.maintenance.rate_limiter import RateLimiter
from stillroom.maintenance.row_transfer import TransferStats, is_same, transfer_rows
from stillroom.media.config import PostgresConfig, RowsConfig, SqliteConfig
from stillroom.media.resource import Change, MediaResource, ResourceQuery, new_id, now
from stillroom.media.rows.engine import migrating
from stillroom.media.rows.tables import dead_letters, deletions, resources, run_deletions
from stillroom.media.rows.transfer import TransferOutcome
from stillroom.media.runs.deletion import RunDeletions
from stillroom.media.runs.service import Runs
from stillroom.paths import ImagePath, KeyPrefix, StorageKey
from stillroom.storage.choose import DiskConfig, R2Config, open_inspection, open_storage
from stillroom.storage.inspection import Inspection


@dataclass
class Move:
    """From one library, bytes and rows, to another."""

    source: Library
    target: Library
    inspection: Inspection
    arrived: Inspection

    def migration(self) -> Migration:
        return Migration(
            self.inspection,
            Target(self.target.meddled.storage, self.arrived),
            KeyPrefix("compute/"),
            KeyPrefix.of_library(),
            rate_limit=RateLimiter(None),
            stats=MigrationStats(),
        )

    async def run(self) -> TransferStats:
        migration = self.migration()
        await migration.run()
        return await self.rows(migration)

    async def rows(self, migration: Migration, *, dry_run: bool = False) -> TransferStats:
        transferred = TransferStats()
        given, taking = self.source.config, self.target.config
        await transfer_rows(migration, given, taking, transferred, dry_run=dry_run)
        return transferred

    async def target_has(self, resource: MediaResource) -> MediaResource:
        """As it should be there: the same, but for the save id, which is that of the copy."""
        there = await self.target.meddled.storage.stat(resource.storage_key)
        return dataclasses.replace(resource, save_id=there.save_id)


SIGNED = Path(__file__).parents[1] / "generation" / "signed"
WAYS = [
    "a disk and SQLite to a disk and SQLite",
    pytest.param("a disk and SQLite to a bucket and PostgreSQL", marks=pytest.mark.slow),
    pytest.param("a bucket and PostgreSQL to a disk and SQLite", marks=pytest.mark.slow),
]

EVERY_WAY = pytest.mark.parametrize("move", WAYS, indirect=True)


def of_disk(folder: Path) -> DiskConfig:
    return DiskConfig(folder, min_free_bytes=0, durable=False)


@pytest.fixture(params=WAYS[:2])
async def move(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Move]:
    configs: list[tuple[DiskConfig | R2Config, RowsConfig]] = []
    for number, words in enumerate(request.param.split(" to ")):
        folder = tmp_path / f"{number}"
        storage: DiskConfig | R2Config = of_disk(folder)
        rows: RowsConfig = SqliteConfig(folder / ".stillroom/library.db", durable=False)
        if "bucket" in words:
            seaweed: SeaweedFS = request.getfixturevalue("seaweed")
            storage = R2Config(seaweed.endpoint_url, KEY_ID, SECRET, BUCKET)
            rows = PostgresConfig(request.getfixturevalue("database_url"))
        configs.append((storage, rows))
    async for opened in moves(configs):
        yield opened
    if "bucket" in request.param:
        request.getfixturevalue("seaweed").empty()


async def moves(
    configs: list[tuple[DiskConfig | R2Config, RowsConfig]],
) -> AsyncIterator[Move]:
    storages = [open_storage(storage, RULES) for storage, _ in configs]
    inspections = [open_inspection(storage) for storage, _ in configs]
    libraries = [Library(one, rows) for one, (_, rows) in zip(storages, configs, strict=True)]
    await libraries[0].database.rows()
    yield Move(libraries[0], libraries[1], inspections[0], inspections[1])
    for library in libraries:
        await library.database.close()
    for inspection in inspections:
        await inspection.close()
    for storage in storages:
        await storage.close()


@EVERY_WAY
async def test_resources_are_in_the_target_as_they_are_in_the_source(move: Move) -> None:
    await move.source.save("a.png", picture(1))
    await move.source.save("b.png", picture(2))
    relocated = await move.source.ingest("a.png")
    in_place = await move.source.ingest("b.png", relocate=False)
    change = Change(
        alt_text="a cat", caption="Tom", protected=True, duration=1.25, dominant_color="#8a6d3b",
        ai_mark="both",
    )  # fmt: skip
    await move.source.service.change_tags(relocated.id, frozenset({"a", "b c"}).union)
    relocated = await move.source.service.change(relocated.id, change)
    assert relocated.tags == ("a", "b c")

    transferred = await move.run()

    assert (transferred.resources, transferred.counts, transferred.wrong) == (
        2,
        {TransferOutcome.NEW: 2},
        0,
    )
    for resource in (relocated, in_place):
        found = await move.target.service.find(resource.id)
        assert found == await move.target_has(resource)
        location = await move.target.service.locate(found)
        if not hasattr(location, "url"):
            location.close()
    await move.target.check()
    again = await move.run()
    assert (again.counts, again.marks, again.withdrawn) == ({TransferOutcome.SAME: 2}, 0, 0)


async def test_what_changes_in_the_source_follows_with_the_next_pass(move: Move) -> None:
    await move.source.save("a.png", picture(1))
    first = await move.source.ingest("a.png", relocate=False)
    await move.run()
    moved = await move.source.ingest("a.png")
    changed = await move.source.service.change(first.id, Change(caption="Tom"))
    assert moved.storage_key.is_media
    await move.target.service.change(first.id, Change(dominant_color="#8a6d3b"))  # as it heals

    transferred = await move.run()

    assert transferred.counts == {TransferOutcome.CHANGED: 1}
    there = dataclasses.replace(await move.target_has(changed), dominant_color="#8a6d3b")
    assert await move.target.service.find(first.id) == there
    await move.source.service.change_tags(first.id, frozenset({"a"}).union)
    assert (await move.run()).counts == {TransferOutcome.CHANGED: 1}
    await move.source.service.change_tags(first.id, lambda _: frozenset({"b"}))
    await move.run()
    there = dataclasses.replace(there, tags=("b",))
    assert await move.target.service.find(first.id) == there
    assert (await move.run()).counts == {TransferOutcome.SAME: 1}
    await move.target.check()


async def test_a_row_whose_bytes_are_not_there_is_never_written(move: Move) -> None:
    await move.source.save("a.png", picture(1))
    await move.source.save("b.png", picture(2))
    lost = await move.source.ingest("a.png")
    kept = await move.source.ingest("b.png")
    await move.source.meddled.storage.delete(lost.storage_key)

    transferred = await move.run()

    assert transferred.counts == {TransferOutcome.NEW: 1}
    assert [(left.resource_id, left.name) for left in transferred.left_out] == [
        (lost.id, lost.storage_key.text)
    ]
    assert [row.id for row in move.target.table(resources)] == [kept.id]
    await move.target.check()


async def test_bytes_that_came_after_the_listing_come_with_their_row(move: Move) -> None:
    await move.source.save("a.png", picture(1))
    migration = move.migration()
    await migration.run()
    late = await move.source.ingest("a.png")

    transferred = await move.rows(migration)

    assert transferred.counts == {TransferOutcome.NEW: 1}
    assert await move.target.service.find(late.id) == await move.target_has(late)
    await move.target.check()


@EVERY_WAY
async def test_a_signed_file_is_the_same_on_its_way_through_the_library_and_a_migration(
    move: Move,
) -> None:
    for name in ("a.png", "a.jpg", "a.webp", "a.avif", "a.mp4"):
        signed = (SIGNED / name).read_bytes()
        await move.source.save(name, signed)
        await move.source.save(f"kept-{name}", signed)
        resource = await move.source.ingest(name)
        assert resource.ai_mark == "c2pa"

    await move.run()

    for name in ("a.png", "a.jpg", "a.webp", "a.avif", "a.mp4"):
        signed = (SIGNED / name).read_bytes()
        (found,) = (
            await move.target.service.page(
                ResourceQuery(content_hash=hashlib.sha256(signed).digest())
            )
        ).resources
        assert found.ai_mark == "c2pa"
        assert await move.target.read(found.storage_key) == signed
        assert await move.target.read(key(f"kept-{name}")) == signed


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
        there = await Migration.holds(migration, where, sha256)
        if is_done:
            await move.target.sweep()
        else:
            rows = await move.target.database.rows()
            await rows.deletions.claim(claim, limit=10, lease=timedelta(minutes=5))
        return there

    monkeypatch.setattr(migration, "holds", sweep_then)

    transferred = await move.rows(migration)

    assert transferred.counts == {}
    ((left,),) = ([one for one in transferred.left_out if one.resource_id == resource.id],)
    assert "run it again" in left.detail
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
    values = {"id": new_id(), "storage_key": saved.key, "save_id": saved.save_id}
    values |= {"reason": "relocated", "created_at": now(), "failed_at": now(), "attempts": 12}
    with migrating(move.source.config) as connection:
        connection.execute(sa.insert(dead_letters).values(**values, last_error="no"))

    transferred = await move.run()

    assert transferred.dead_letters == 1
    (dead_letter,) = move.target.table(dead_letters)
    copy = await move.target.meddled.storage.stat(saved.key)
    assert (dead_letter.save_id, dead_letter.last_error) == (copy.save_id, "no")
    assert (await move.run()).dead_letters == 0
    await move.source.save("a.png", picture(1))
    assert (await move.run()).withdrawn == 1
    assert move.target.table(dead_letters) == []


async def test_another_resource_with_the_same_bytes_stays_and_is_told(move: Move) -> None:
    await move.source.save("a.png", picture(1))
    await move.target.save("theirs.png", picture(1))
    ours = await move.source.ingest("a.png")
    theirs = await move.target.ingest("theirs.png")

    transferred = await move.run()

    assert transferred.counts == {}
    assert [left.resource_id for left in transferred.left_out] == [ours.id]
    assert f"{theirs.id} has the same bytes" in transferred.left_out[0].detail
    assert [row.id for row in move.target.table(resources)] == [theirs.id]


async def test_rows_that_break_off_go_on(move: Move, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_transfer, "_PAGE", 1)
    for number in range(6):
        await move.source.save(f"{number}.png", picture(number))
        await move.source.ingest(f"{number}.png")
    migration = move.migration()
    await migration.run()
    looks = iter(range(100))

    async def breaks(where: StorageKey, sha256: bytes) -> object:
        if next(looks) == 3:
            raise BackendUnavailable("gone")
        return await Migration.holds(migration, where, sha256)

    monkeypatch.setattr(migration, "holds", breaks)
    with pytest.raises(BackendUnavailable):
        await move.rows(migration)
    assert len(move.target.table(resources)) == 3
    assert move.target.table(deletions) == []

    assert (await move.run()).counts == {TransferOutcome.SAME: 3, TransferOutcome.NEW: 3}
    assert len(move.target.marked()) == 6
    await move.target.check()


async def test_a_dry_run_counts_and_writes_nothing(move: Move) -> None:
    for number in (1, 2):
        await move.source.save(f"{number}.png", picture(number))
        await move.source.ingest(f"{number}.png")

    transferred = await move.rows(move.migration(), dry_run=True)

    assert (transferred.counts, transferred.wrong) == ({TransferOutcome.NEW: 2}, 0)
    config = move.target.config
    assert not isinstance(config, SqliteConfig) or not config.file.exists()


async def test_a_library_that_nobody_has_begun_has_no_rows_and_is_not_made(tmp_path: Path) -> None:
    configs: list[tuple[DiskConfig | R2Config, RowsConfig]] = [
        (of_disk(tmp_path / name), SqliteConfig(tmp_path / name / "library.db"))
        for name in ("a", "b")
    ]
    async for move in moves(configs):
        await move.source.database.close()
        (tmp_path / "a/library.db").unlink()
        assert await move.run() == TransferStats()
    assert not (tmp_path / "a/library.db").exists()
    assert not (tmp_path / "b/library.db").exists()


async def test_tables_of_an_older_form_are_not_changed_but_told(tmp_path: Path) -> None:
    configs: list[tuple[DiskConfig | R2Config, RowsConfig]] = [
        (of_disk(tmp_path / name), SqliteConfig(tmp_path / name / "library.db"))
        for name in ("a", "b")
    ]
    async for move in moves(configs):
        with migrating(move.source.config) as connection:
            connection.execute(sa.text("UPDATE alembic_version SET version_num = '0001'"))
        with pytest.raises(ConfigurationError, match="stillroom media migrate"):
            await move.run()
        with migrating(move.source.config) as connection:
            form = connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar()
        assert form == "0001"


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


def test_one_database_by_two_names_is_one_database(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "data")
    url = "postgresql://a@b/c"

    assert is_same(SqliteConfig(tmp_path / "data/x"), SqliteConfig(tmp_path / "link/x"))
    assert not is_same(SqliteConfig(tmp_path / "data/x"), SqliteConfig(tmp_path / "x"))
    assert is_same(PostgresConfig(url), PostgresConfig(url))
    assert not is_same(PostgresConfig(url), SqliteConfig(tmp_path / "x"))


async def test_a_run_whose_deletion_is_under_way_is_deleted_in_the_target_too(move: Move) -> None:
    for number in range(2):
        await move.source.save(f"runs/7/{number}.png", picture(number))
    rows, claim = await move.source.database.rows(), uuid.uuid4()
    lease = timedelta(minutes=5)
    begun = await rows.run_deletions.begin("compute/runs/7/", claim, saved_until=now(), lease=lease)
    assert begun is not None

    for _ in range(2):
        await move.run()

    (row,) = move.target.table(run_deletions)
    assert (row.folder, row.claimed_by, row.after) == ("compute/runs/7/", None, "")
    storage = move.target.meddled.storage
    deleting = RunDeletions(storage, move.target.database, grace=timedelta(0))
    await deleting.go_on(lambda: False)
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
