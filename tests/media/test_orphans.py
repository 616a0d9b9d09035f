"""The orphan scan."""

from collections.abc import AsyncIterator, Sequence
from datetime import timedelta

import pytest

from media.library import Library, bury_by_hand, is_there, key, left_copy, make_due
from pictures import picture
from stillroom.errors import BackendUnavailable, ImplausibleScan
from stillroom.features.database.clock import new_id
from stillroom.features.database.config import RowsConfig
from stillroom.features.library.resource import MediaResource
from stillroom.features.library.rows.tables import deletions, resources
from stillroom.features.library.sweeper import Swept
from stillroom.maintenance import orphans
from stillroom.maintenance.orphans import Mismatch, MismatchKind, OrphanScan, ScanStats
from stillroom.paths import StorageKey
from stillroom.store.port import ImageStorage
from stillroom.store.sources import BytesSource
from stillroom.store.values import ListQuery, Page


class Scanning:
    """A library, and a scan of it that believes in young orphans, too."""

    def __init__(self, library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(orphans, "LEASE", timedelta(0))
        self.library = library
        self.scanned = ScanStats()
        self.found: list[Mismatch] = []

    def scan(self, grace: timedelta = timedelta(0)) -> OrphanScan:
        self.scanned, self.found = ScanStats(), []
        return OrphanScan(self.library.meddled, self.library.database, grace=grace)  # type: ignore[arg-type]  # as good as one

    async def report(self, grace: timedelta = timedelta(0)) -> list[tuple[MismatchKind, str]]:
        await self.scan(grace).report(self.found.append, self.scanned)
        return sorted((finding.kind, finding.key) for finding in self.found)

    async def delete(self, max_percent: float = 100) -> None:
        scan = self.scan()
        await scan.delete(self.found.append, self.scanned, max_percent=max_percent)

    async def orphan(self, extension: str = "png") -> StorageKey:
        """Bytes that nothing remembers."""
        where = StorageKey.of_media(new_id(), extension)
        await self.library.meddled.storage.save(where, BytesSource(picture()))
        return where

    async def resource(self, seed: int, *, relocate: bool = True) -> MediaResource:
        await self.library.save(f"{seed}.png", picture(seed))
        return await self.library.ingest(f"{seed}.png", relocate=relocate)


@pytest.fixture
async def scanning(
    storage: ImageStorage, config: RowsConfig, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Scanning]:
    library = Library(storage, config)
    await library.database.rows()
    yield Scanning(library, monkeypatch)
    await library.database.close()


@pytest.mark.pairs
@pytest.mark.parametrize("page", [1, 2, 3, 1000])
async def test_both_directions_are_found_at_every_edge_of_a_page(
    scanning: Scanning, monkeypatch: pytest.MonkeyPatch, page: int
) -> None:
    for name in ("_LISTED", "_ROWS", "_CANDIDATES"):
        monkeypatch.setattr(orphans, name, page)
    expected = []
    for number in range(3):
        expected.append((MismatchKind.ORPHAN, (await scanning.orphan()).text))
        missing = await scanning.resource(10 + number)
        await scanning.library.meddled.storage.delete(missing.storage_key)
        expected.append((MismatchKind.MISSING, missing.storage_key.text))
        sound = await scanning.resource(20 + number)
    other = StorageKey.of_media(sound.id, "webp")
    await scanning.library.meddled.storage.save(other, BytesSource(picture()))
    expected.append((MismatchKind.ORPHAN, other.text))

    assert await scanning.report() == sorted(expected)

    counted = scanning.scanned
    assert (counted.objects, counted.resources) == (7, 6)
    assert (counted.orphans, counted.missing) == (4, 3)


async def test_a_sound_library_has_nothing_wrong(scanning: Scanning) -> None:
    for number in range(3):
        await scanning.resource(number)
    await scanning.library.service.delete((await scanning.resource(4)).id)

    assert await scanning.report() == []


async def test_what_an_intent_a_mark_or_a_dead_letter_remembers_is_no_orphan(
    scanning: Scanning,
) -> None:
    library = scanning.library
    await library.save("a.png", picture())
    await left_copy(library)
    bury_by_hand(library, await scanning.orphan(), "x")
    deleted = await scanning.resource(1)
    await library.service.delete(deleted.id)
    make_due(library)
    rows = await library.database.rows()
    await rows.deletions.claim(new_id(), limit=9, lease=timedelta(hours=1))
    assert library.table(resources) == []

    assert await scanning.report() == []
    assert scanning.scanned.objects == 3


async def test_what_is_young_is_no_orphan_yet(scanning: Scanning) -> None:
    where = await scanning.orphan()
    await scanning.resource(1)

    assert await scanning.report(timedelta(hours=1)) == [(MismatchKind.YOUNG, where.text)]

    scan = scanning.scan(timedelta(hours=1))
    await scan.delete(scanning.found.append, scanning.scanned, max_percent=10)
    assert await scanning.library.sweep() == Swept()
    assert await is_there(scanning.library, where)


async def test_what_the_library_has_not_made_is_said_and_never_deleted(scanning: Scanning) -> None:
    await scanning.resource(1)
    foreign = [
        "media/a-b/x.png", "media/a/x.png", "media/a.png",
        "media/00000000-0000-7000-8000-00000000000A/file.png",
        "media/ffffffff-0000-7000-8000-000000000000/other.png",
    ]  # fmt: skip
    for text in foreign:
        await scanning.library.meddled.storage.save(StorageKey(text), BytesSource(b"x"))

    assert await scanning.report() == sorted((MismatchKind.FOREIGN, text) for text in foreign)

    await scanning.delete()
    assert await scanning.library.sweep() == Swept()
    assert set(foreign) <= set(await scanning.library.media_keys())


async def test_what_was_recorded_in_place_and_saved_over_is_missing(scanning: Scanning) -> None:
    await scanning.resource(1, relocate=False)
    await scanning.resource(2, relocate=False)
    await scanning.library.save("2.png", picture(3))

    assert await scanning.report() == [(MismatchKind.MISSING, "compute/2.png")]


async def test_orphans_are_deleted_on_request_and_nothing_else_is(scanning: Scanning) -> None:
    sound = await scanning.resource(1)
    orphan = await scanning.orphan()

    await scanning.report()
    assert scanning.library.marked() == [
        row for row in scanning.library.marked() if row[0].startswith("compute/")
    ]
    await scanning.delete()

    assert await scanning.library.sweep() == Swept(deleted=1)
    assert not await is_there(scanning.library, orphan)
    assert await scanning.library.read(sound.storage_key) == picture(1)
    assert await scanning.report() == []


async def test_an_orphan_that_a_resource_has_by_then_is_not_deleted(scanning: Scanning) -> None:
    """The one key that a resource's id gives it, where a crash of long ago has left bytes."""
    library = scanning.library
    recorded = await scanning.resource(1, relocate=False)
    where = StorageKey.of_media(recorded.id, "png")
    await library.meddled.storage.copy(key("1.png"), where)
    await scanning.delete()
    assert len(library.marked()) == 1

    moved = await library.ingest("1.png")

    assert moved.storage_key == where
    assert await library.sweep() == Swept(kept=1)
    assert await library.read(where) == picture(1)


async def test_an_orphan_to_which_somebody_copies_by_then_is_not_deleted(
    scanning: Scanning,
) -> None:
    library = scanning.library
    recorded = await scanning.resource(1, relocate=False)
    where = StorageKey.of_media(recorded.id, "png")
    await library.meddled.storage.copy(key("1.png"), where)
    await scanning.delete()

    async def sweep() -> None:
        library.meddled.before_copy = library.meddled.after_copy = None
        assert await library.sweep() == Swept(kept=1)

    library.meddled.after_copy = sweep
    moved = await library.ingest("1.png")

    assert await library.read(moved.storage_key) == picture(1)


# Implausible


async def test_an_implausible_share_is_refused(scanning: Scanning) -> None:
    for number in range(8):
        await scanning.resource(number)
    for _ in range(2):
        await scanning.orphan()

    with pytest.raises(ImplausibleScan, match="2 of 10 images are orphans, 20 %"):
        await scanning.delete(max_percent=19)
    marked = [row for row in scanning.library.table(deletions) if row.reason == "orphan"]
    assert marked == []
    await scanning.delete(max_percent=20)
    assert await scanning.library.sweep() == Swept(deleted=2)


async def test_without_any_row_nothing_is_deleted(scanning: Scanning) -> None:
    await scanning.orphan()

    with pytest.raises(ImplausibleScan, match="right database"):
        await scanning.delete(max_percent=100)

    assert scanning.library.marked() == []


async def test_without_any_bytes_the_listing_is_not_believed(scanning: Scanning) -> None:
    resource = await scanning.resource(1)
    await scanning.library.meddled.storage.delete(resource.storage_key)

    with pytest.raises(ImplausibleScan, match="right bucket"):
        await scanning.report()


@pytest.mark.parametrize("fails_at", [1, 2, 3, 4, 5, 6])
async def test_a_listing_that_fails_half_way_takes_nothing_live(
    scanning: Scanning, monkeypatch: pytest.MonkeyPatch, fails_at: int
) -> None:
    monkeypatch.setattr(orphans, "_LISTED", 3)
    monkeypatch.setattr(orphans, "_CANDIDATES", 1)
    sound = [await scanning.resource(number) for number in range(5)]
    left = [await scanning.orphan() for _ in range(2)]
    storage = scanning.library.meddled.storage
    list_page, pages = storage.list, 0

    async def failing(query: ListQuery) -> Page:
        nonlocal pages
        pages += 1
        if pages == fails_at:
            raise BackendUnavailable("the listing broke off")
        return await list_page(query)

    with monkeypatch.context() as patch:
        patch.setattr(storage, "list", failing)
        with pytest.raises(BackendUnavailable):
            await scanning.delete()

    swept = await scanning.library.sweep()
    assert swept.deleted == len(left) - sum([await is_there(scanning.library, at) for at in left])
    if fails_at <= 3:  # in the first pass nothing is marked
        assert swept == Swept()
    for number, resource in enumerate(sound):
        assert await scanning.library.read(resource.storage_key) == picture(number)


async def test_a_listing_in_another_order_is_not_compared(
    scanning: Scanning, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = [(await scanning.resource(number)).storage_key.text for number in range(2)]

    async def backwards(_: ListQuery) -> Page:
        return Page(keys[::-1])

    monkeypatch.setattr(scanning.library.meddled.storage, "list", backwards)
    with pytest.raises(BackendUnavailable, match="does not list its keys in order"):
        await scanning.report()


@pytest.mark.pairs
async def test_an_ingest_while_it_scans_is_no_finding(
    scanning: Scanning, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = (await scanning.library.database.rows()).resources
    in_order = rows.in_order
    await scanning.resource(1)

    async def ingest_first(*, limit: int) -> AsyncIterator[Sequence[MediaResource]]:
        async for page in in_order(limit=limit):
            await scanning.resource(2)
            yield page

    monkeypatch.setattr(rows, "in_order", ingest_first)
    assert await scanning.report() == []
