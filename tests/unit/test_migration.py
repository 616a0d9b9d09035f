"""What becomes of each image, from one store to another, whatever the two do."""

import asyncio
import hashlib
import os
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest

from contract.images import PNG, RULES, document, everything, key, manifest_key, read
from stillroom.errors import BackendUnavailable, ImageNotFound, PathConflict, StorageFull
from stillroom.maintenance.inspection.choose import open_inspection
from stillroom.maintenance.inspection.port import Inspected, Inspection
from stillroom.maintenance.migration import Migration, Target
from stillroom.maintenance.migration_report import MigrationOutcome, MigrationStats, ProgressEvent
from stillroom.maintenance.rate_limiter import RateLimiter
from stillroom.paths import KeyPrefix, StorageKey
from stillroom.store.choose import EVERY_IMAGE, DiskConfig, R2Config, open_storage
from stillroom.store.sources import BytesSource
from stillroom.store.values import Condition, StoredImage

if TYPE_CHECKING:
    from stillroom.store.port import ImageStorage


class Store:
    """A data directory, as those who save there and as its operator see it."""

    def __init__(self, folder: Path) -> None:
        config = DiskConfig(folder, min_free_bytes=0, durable=False)
        self.folder = folder
        self.storage = open_storage(config, RULES)
        self.inspection = open_inspection(config)

    async def save(self, path: str, data: bytes, *, age_s: float = 0) -> StoredImage:
        """Save it as if it had been that long ago; its hash is unknown then."""
        saved = await self.storage.save(key(path), BytesSource(data))
        if age_s:
            then = time.time() - age_s
            os.utime(self.folder / "compute" / path, (then, then))
            saved = await self.storage.stat(key(path))
        return saved

    @property
    def target(self) -> Target:
        return Target(self.storage, self.inspection)

    async def close(self) -> None:
        await self.inspection.close()
        await self.storage.close()


class Meddled:
    """A store of which some calls are another's."""

    def __init__(self, store: object, **calls: object) -> None:
        self._store = store
        self._calls = calls

    def __getattr__(self, name: str) -> Any:
        return self._calls.get(name) or getattr(self._store, name)


@pytest.fixture
async def source(tmp_path: Path) -> AsyncIterator[Store]:
    store = Store(tmp_path / "source")
    yield store
    await store.close()


@pytest.fixture
async def target(tmp_path: Path) -> AsyncIterator[Store]:
    store = Store(tmp_path / "target")
    yield store
    assert os.listdir(store.folder / ".stillroom/staging") == []
    await store.close()


async def migrated(
    source: Inspection, target: Target | None, *, overwrite: bool = False, dry_run: bool = False
) -> MigrationStats:
    stats = MigrationStats()
    migration = Migration(
        source,
        target,
        [everything(), KeyPrefix.of_library()],
        rate_limit=RateLimiter(None),
        stats=stats,
        overwrite=overwrite,
        dry_run=dry_run,
    )
    await migration.run()
    return stats


async def test_an_image_arrives_with_its_type_its_time_and_its_hash(
    source: Store, target: Store
) -> None:
    saved = await source.save("a/b.png", PNG)
    by_hand = await source.save("old.txt", b"text", age_s=1000)
    media = StorageKey("media/019a/file.png")
    await source.storage.copy(key("a/b.png"), media)

    stats = await migrated(source.inspection, target.target)

    assert stats.counts == {MigrationOutcome.COPIED: 3}
    assert stats.size == 2 * len(PNG) + 4
    arrived = await target.storage.stat(key("a/b.png"))
    assert (arrived.size, arrived.content_type, arrived.sha256) == (
        len(PNG),
        "image/png",
        hashlib.sha256(PNG).digest(),
    )
    assert arrived.modified_ns // 1000 == saved.modified_ns // 1000
    old = await target.storage.stat(key("old.txt"))
    assert old.modified_ns // 1000 == by_hand.modified_ns // 1000
    assert (by_hand.sha256, old.sha256) == (None, hashlib.sha256(b"text").digest())
    assert (await target.storage.stat(media)).sha256 == hashlib.sha256(PNG).digest()


async def test_what_is_there_by_its_hash_is_not_touched(source: Store, target: Store) -> None:
    await source.save("a.png", PNG)
    await source.save("b.png", b"text", age_s=10)
    await migrated(source.inspection, target.target)
    before = [await target.storage.stat(key(name)) for name in ("a.png", "b.png")]
    os.removexattr(target.folder / "compute/b.png", "user.stillroom")

    again = await migrated(source.inspection, target.target)

    assert again.counts == {MigrationOutcome.SAME: 2}
    assert again.size == 0
    for image in before:
        assert (await target.storage.stat(image.key)).save_id == image.save_id


async def test_an_older_one_is_replaced_and_a_newer_one_is_left_alone(
    source: Store, target: Store
) -> None:
    await source.save("old.png", b"source", age_s=100)
    await source.save("new.png", b"source", age_s=100)
    await target.save("old.png", b"target", age_s=200)
    await target.save("new.png", b"target")

    stats = await migrated(source.inspection, target.target)

    assert stats.counts == {MigrationOutcome.REPLACED: 1, MigrationOutcome.DIFFERS: 1}
    assert [event.name for event in stats.problems] == ["compute/new.png"]
    assert await read(target.storage, "old.png") == b"source"
    assert await read(target.storage, "new.png") == b"target"
    forced = await migrated(source.inspection, target.target, overwrite=True)
    assert forced.counts == {MigrationOutcome.SAME: 1, MigrationOutcome.REPLACED: 1}
    assert await read(target.storage, "new.png") == b"source"


async def test_what_is_replaced_in_the_source_follows_with_the_next_pass(
    source: Store, target: Store
) -> None:
    await source.save("a.png", b"one", age_s=10)
    await migrated(source.inspection, target.target)
    await source.save("a.png", b"two")

    assert (await migrated(source.inspection, target.target)).counts == {
        MigrationOutcome.REPLACED: 1
    }
    assert await read(target.storage, "a.png") == b"two"


async def test_a_dry_run_says_what_would_be_done_and_does_nothing(
    source: Store, target: Store
) -> None:
    for name in ("new.png", "same.png", "replaced.png"):
        await source.save(name, name.encode(), age_s=5)
    await target.save("same.png", b"same.png")
    await target.save("replaced.png", b"older", age_s=50)

    stats = await migrated(source.inspection, target.target, dry_run=True)
    nowhere = await migrated(source.inspection, None, dry_run=True)

    assert stats.counts == {
        MigrationOutcome.COPIED: 1,
        MigrationOutcome.SAME: 1,
        MigrationOutcome.REPLACED: 1,
    }
    assert nowhere.counts == {MigrationOutcome.COPIED: 3}
    assert await read(target.storage, "replaced.png") == b"older"
    with pytest.raises(ImageNotFound):
        await target.storage.stat(key("new.png"))


async def test_what_is_damaged_in_the_source_does_not_arrive(source: Store, target: Store) -> None:
    await source.save("a.png", PNG)
    await source.save("bad.png", PNG)
    file = source.folder / "compute/bad.png"
    status = file.stat()
    file.write_bytes(b"X" + PNG[1:])
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))

    stats = await migrated(source.inspection, target.target)

    assert stats.counts == {MigrationOutcome.COPIED: 1, MigrationOutcome.FAILED: 1}
    (event,) = stats.problems
    assert event.name == "compute/bad.png"
    assert hashlib.sha256(PNG).hexdigest() in event.detail
    with pytest.raises(ImageNotFound):
        await target.storage.stat(key("bad.png"))


async def test_what_arrives_damaged_is_noticed_there_and_removed(
    source: Store, target: Store
) -> None:
    await source.save("a.png", PNG)
    await source.save("bad.png", PNG)

    async def save(where: StorageKey, given: Any, condition: Condition) -> StoredImage:
        saved = await target.storage.save(where, given, condition)
        if where == key("bad.png"):  # a medium that lies: other bytes, and all else as it was
            file = target.folder / where.text
            status = file.stat()
            with file.open("r+b") as opened:
                opened.write(b"X")
            os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
        return saved

    storage = cast("ImageStorage", Meddled(target.storage, save=save))
    stats = await migrated(source.inspection, Target(storage, target.inspection))

    assert stats.counts == {MigrationOutcome.COPIED: 1, MigrationOutcome.FAILED: 1}
    assert "the copy in the target had the SHA-256" in stats.problems[0].detail
    assert not (target.folder / "compute/bad.png").exists()


async def test_a_bad_line_is_tried_again_and_blames_no_image(source: Store, target: Store) -> None:
    for number in range(40):
        await source.save(f"{number:02}.png", b"%d" % number)
    asked: Counter[StorageKey] = Counter()

    async def opened(where: StorageKey) -> Inspected:
        asked[where] += 1
        if asked[where] < 3:
            raise BackendUnavailable("the line is bad")
        return await source.inspection.open(where)

    bad = cast("Inspection", Meddled(source.inspection, open=opened))
    assert (await migrated(bad, target.target)).counts == {MigrationOutcome.COPIED: 40}


@pytest.mark.parametrize("gone", ["source", "target"])
async def test_a_store_that_goes_away_ends_it_and_the_next_pass_brings_the_rest(
    source: Store, target: Store, gone: str
) -> None:
    for number in range(60):
        await source.save(f"{number:02}.png", b"%d" % number)
    calls = iter(range(200))

    def until_it_goes(call: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def limited(*given: Any) -> Any:
            if next(calls) > 30:
                raise BackendUnavailable("gone")
            return await call(*given)

        return limited

    async def check() -> None:
        raise BackendUnavailable("gone")

    inspection, storage = source.inspection, target.storage
    if gone == "source":
        meddled = Meddled(inspection, open=until_it_goes(inspection.open), check=check)
        inspection = cast("Inspection", meddled)
    else:
        meddled = Meddled(storage, save=until_it_goes(storage.save), check=check)
        storage = cast("ImageStorage", meddled)
    stats = MigrationStats()
    with pytest.raises(BackendUnavailable, match="gone"):
        await Migration(
            inspection,
            Target(storage, target.inspection),
            [everything()],
            rate_limit=RateLimiter(None),
            stats=stats,
        ).run()
    assert stats.problems == []
    assert 0 < stats.images < 60

    rest = await migrated(source.inspection, target.target)
    assert sum(rest.counts.values()) == 60
    assert set(rest.counts) == {MigrationOutcome.COPIED, MigrationOutcome.SAME}


async def test_a_full_target_ends_it(source: Store, target: Store) -> None:
    await source.save("a.png", PNG)

    async def save(*_: object) -> StoredImage:
        raise StorageFull("no room")

    with pytest.raises(StorageFull):
        await migrated(
            source.inspection,
            Target(cast("ImageStorage", Meddled(target.storage, save=save)), target.inspection),
        )


async def test_whoever_saves_into_the_target_meanwhile_is_not_overwritten(
    source: Store, target: Store
) -> None:
    for number in range(20):  # enough to send without asking
        await source.save(f"{number:02}.png", b"%d" % number)
    await target.save("15.png", b"theirs")

    async def save(where: StorageKey, given: Any, condition: Condition) -> StoredImage:
        if where == key("18.png"):
            await target.save("18.png", b"theirs")
        return await target.storage.save(where, given, condition)

    storage = cast("ImageStorage", Meddled(target.storage, save=save))
    stats = await migrated(source.inspection, Target(storage, target.inspection))

    assert stats.counts == {MigrationOutcome.COPIED: 18, MigrationOutcome.DIFFERS: 2}
    assert await read(target.storage, "15.png") == b"theirs"
    assert await read(target.storage, "18.png") == b"theirs"


async def test_an_image_deleted_or_replaced_while_it_is_copied_is_no_failure(
    source: Store, target: Store
) -> None:
    await source.save("gone.png", PNG)
    await source.save("replaced.png", b"x" * 3, age_s=9)
    replaced = asyncio.Event()

    async def opened(where: StorageKey) -> Inspected:
        if where == key("gone.png"):
            await source.storage.delete(where)
        elif not replaced.is_set():
            replaced.set()
            found = await source.inspection.open(where)
            await source.save("replaced.png", b"new")
            return found
        return await source.inspection.open(where)

    stats = await migrated(
        cast("Inspection", Meddled(source.inspection, open=opened)), target.target
    )

    assert stats.counts == {MigrationOutcome.COPIED: 1}
    assert await read(target.storage, "replaced.png") == b"new"


async def test_a_file_where_a_folder_must_be_is_a_failure_of_that_image_alone(
    source: Store, target: Store
) -> None:
    await source.save("a/b.png", PNG)
    await source.save("c.png", PNG)
    await target.save("a", PNG)

    stats = await migrated(source.inspection, target.target)

    assert stats.counts == {MigrationOutcome.COPIED: 1, MigrationOutcome.FAILED: 1}
    assert "because an image has its name" in stats.problems[0].detail


async def test_strays_are_told_and_are_no_problem(source: Store, target: Store) -> None:
    await source.save("a.png", PNG)
    (source.folder / "compute/link.png").symlink_to("/etc/passwd")

    stats = await migrated(source.inspection, target.target)

    assert stats.counts == {MigrationOutcome.COPIED: 1, MigrationOutcome.STRAY: 1}
    assert (stats.images, stats.wrong) == (1, 0)
    assert not (target.folder / "compute/link.png").exists()


async def test_what_only_the_target_has_is_named_and_stays(source: Store, target: Store) -> None:
    for number in range(40):
        await source.save(f"{number:02}.png", b"%d" % number)
    await migrated(source.inspection, target.target)
    await source.storage.delete(key("07.png"))
    await target.save("z.png", PNG)

    stats = MigrationStats()
    migration = Migration(
        source.inspection, target.target, [everything()], rate_limit=RateLimiter(None), stats=stats
    )
    await migration.run()
    await migration.find_extras()

    assert stats.counts == {MigrationOutcome.SAME: 39, MigrationOutcome.EXTRA: 2}
    assert sorted(event.name for event in stats.problems) == ["compute/07.png", "compute/z.png"]
    assert (stats.images, stats.wrong) == (39, 0)
    assert await read(target.storage, "07.png") == b"7"


def test_problems_beyond_ten_thousand_are_counted() -> None:
    stats = MigrationStats()
    for number in range(10_500):
        stats.note(ProgressEvent(MigrationOutcome.FAILED, str(number)))
    stats.note(ProgressEvent(MigrationOutcome.FAILED, "1"))

    assert (stats.wrong, len(stats.problems)) == (10_500, 10_000)


async def test_every_store_takes_what_any_other_may_hold() -> None:
    config = R2Config("http://127.0.0.1:1", "key", "secret", "bucket")
    storage = open_storage(config, EVERY_IMAGE)
    await storage.close()


def test_one_store_by_two_names_is_one_store(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "data")
    bucket = R2Config("https://r2.example.com", "key", "secret", "images")

    assert DiskConfig(tmp_path / "data").place == DiskConfig(tmp_path / "link").place
    assert DiskConfig(tmp_path / "data").place != DiskConfig(tmp_path / "other").place
    assert bucket.place == R2Config("https://r2.example.com", "other", "token", "images").place
    assert bucket.place != R2Config("https://r2.example.com", "key", "secret", "b").place
    assert bucket.place != DiskConfig(tmp_path).place


def test_the_name_of_a_store_is_equal_for_all_spellings_and_has_no_secrets(tmp_path: Path) -> None:
    bucket = R2Config("https://r2.example.com", "key-id", "hidden", "images")

    assert bucket.name == "the bucket 'images' at r2.example.com/images"
    assert R2Config("https://other.example.com", "key-id", "hidden", "images").name != bucket.name
    assert R2Config("https://R2.example.com:443/", "other", "other", "images").name == bucket.name
    (tmp_path / "link").symlink_to(tmp_path / "Füchse")
    disk = DiskConfig(tmp_path / "Füchse").name
    assert disk == DiskConfig(tmp_path / "link").name != DiskConfig(tmp_path).name
    assert disk.isascii()


async def test_the_manifest_of_a_run_comes_after_all_of_its_images(
    source: Store, target: Store
) -> None:
    for run in ("runs/7", "runs/8"):
        await source.storage.save(manifest_key(run), document(b"{}"))
        for number in range(3):
            await source.save(f"{run}/{number}.png", PNG)
    arrived: list[str] = []
    save = target.storage.save

    async def watched(where: StorageKey, *given: Any) -> StoredImage:
        if where.text.endswith("8/1.png"):
            raise PathConflict("a folder in this path cannot be created")
        saved = await save(where, *given)
        arrived.append(where.text)
        return saved

    storage = cast("ImageStorage", Meddled(target.storage, save=watched))
    stats = await migrated(source.inspection, Target(storage, target.inspection))

    assert arrived[-1] == "compute/runs/7/.run.json"
    assert sorted(arrived[:-1]) == [
        "compute/runs/7/0.png", "compute/runs/7/1.png", "compute/runs/7/2.png",
        "compute/runs/8/0.png", "compute/runs/8/2.png",
    ]  # fmt: skip
    assert stats.counts[MigrationOutcome.FAILED] == 2
    copied = await target.storage.stat(manifest_key("runs/7"))
    original = await source.storage.stat(manifest_key("runs/7"))
    assert (copied.sha256, copied.content_type) == (original.sha256, "application/json")

    stats = await migrated(source.inspection, target.target)

    assert stats.counts == {MigrationOutcome.COPIED: 2, MigrationOutcome.SAME: 6}
    assert (await target.storage.stat(manifest_key("runs/8"))).content_type == "application/json"
