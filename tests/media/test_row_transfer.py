"""The library's rows follow its bytes to another storage and another database."""

import dataclasses
import hashlib
from pathlib import Path

import pytest
import sqlalchemy as sa

from media.library import Library, key
from media.moving import EVERY_WAY, Move, Place, moves, of_disk
from pictures import picture
from stillroom.errors import BackendUnavailable, ConfigurationError
from stillroom.features.database.config import PostgresConfig, SqliteConfig
from stillroom.features.database.engine import migrating
from stillroom.features.library.resource import Change, ResourceQuery
from stillroom.features.library.rows.tables import deletions, resources
from stillroom.features.library.rows.transfer import TransferOutcome
from stillroom.features.search.database import search_rows
from stillroom.features.search.values import IndexedImage
from stillroom.generation.reading import Found
from stillroom.maintenance import row_transfer
from stillroom.maintenance.migration import Migration
from stillroom.maintenance.row_transfer import TransferStats, is_same
from stillroom.paths import StorageKey
from stillroom.wire.generation import Generation

SIGNED = Path(__file__).parents[1] / "generation" / "signed"


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
    await _index(move.source, relocated.storage_key)  # the target's server has not indexed it yet
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


async def test_another_resource_with_the_same_bytes_stays_and_is_told(move: Move) -> None:
    await move.source.save("a.png", picture(1))
    await move.target.save("theirs.png", picture(1))
    ours = await move.source.ingest("a.png")
    theirs = await move.target.ingest("theirs.png")

    transferred = await move.run()

    assert transferred.counts == {}
    assert [left.resource_id for left in transferred.left_out] == [ours.id]
    assert f"{theirs.id} in the target has identical bytes" in transferred.left_out[0].detail
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
        return await Migration.find_copy(migration, where, sha256)

    monkeypatch.setattr(migration, "find_copy", breaks)
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

    transferred = await move.rows(move.migration(dry_run=True))

    assert (transferred.counts, transferred.wrong) == ({TransferOutcome.NEW: 2}, 0)
    config = move.target.config
    assert not isinstance(config, SqliteConfig) or not config.file.exists()


async def test_a_library_that_nobody_has_begun_has_no_rows_and_is_not_made(tmp_path: Path) -> None:
    configs: list[Place] = [
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
    configs: list[Place] = [
        (of_disk(tmp_path / name), SqliteConfig(tmp_path / name / "library.db"))
        for name in ("a", "b")
    ]
    async for move in moves(configs):
        with migrating(move.source.config) as connection:
            connection.execute(sa.text("UPDATE alembic_version SET version_num = '0011'"))
        with pytest.raises(ConfigurationError, match="stillroom media migrate"):
            await move.run()
        with migrating(move.source.config) as connection:
            form = connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar()
        assert form == "0011"


def test_one_database_by_two_names_is_one_database(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "data")
    url = "postgresql://a@b/c"

    assert is_same(SqliteConfig(tmp_path / "data/x"), SqliteConfig(tmp_path / "link/x"))
    assert not is_same(SqliteConfig(tmp_path / "data/x"), SqliteConfig(tmp_path / "x"))
    assert is_same(PostgresConfig(url), PostgresConfig(url))
    assert not is_same(PostgresConfig(url), SqliteConfig(tmp_path / "x"))


async def _index(library: Library, where: StorageKey) -> None:
    image = await library.meddled.storage.stat(where)
    indexed = IndexedImage.of(image, Found(Generation(prompt="a fox"), ai_mark="none"))
    await (await search_rows(library.database)).write([indexed], [])
