"""The promises of the media library, one test each, on the pairs of a storage and a database of
`conftest.py`: on two of them, and on all four where a test is marked `pairs`.
"""

import asyncio
import dataclasses
import hashlib
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, cast

import pytest
import sqlalchemy as sa

from contract.images import read_key
from generation import carriers
from pictures import picture
from stillroom.errors import (
    BackendUnavailable,
    ImageNotFound,
    ResourceConflict,
    ResourceNotFound,
    ResourceProtected,
    StillroomError,
    StorageFull,
    UnsupportedMedia,
)
from stillroom.media import service
from stillroom.media.background import Background
from stillroom.media.config import RowsConfig
from stillroom.media.database import MediaDatabase
from stillroom.media.index.words import MAX_TEXT
from stillroom.media.resource import VIDEO, Change, Mark, MediaResource, ResourceQuery
from stillroom.media.rows.engine import migrating
from stillroom.media.rows.tables import dead_letters, deletions, healing, intents, resources
from stillroom.media.service import MediaResourceService
from stillroom.media.sweeper import Sweeper, Swept
from stillroom.paths import ImagePath, KeyPrefix, StorageKey
from stillroom.storage.port import ImageStorage
from stillroom.storage.sources import BytesSource
from stillroom.storage.values import ListQuery, StoredImage
from videos import (
    QUARTER,
    SIZE,
    Mp4,
    box,
    ebml,
    element,
    frames,
    ftyp,
    info,
    recorded,
    video_track,
    webm,
)

if TYPE_CHECKING:
    from stillroom.media.expiry import Expiry

MIB: Final = 1024**2
GRACE: Final = timedelta(hours=1)
OURS: Final = KeyPrefix("compute/ours/")


def key(path: str) -> StorageKey:
    return StorageKey.of_image(ImagePath.parse(path))


class Meddled:
    """A storage in which something happens right before or after a copy, or before a deletion."""

    def __init__(self, storage: ImageStorage) -> None:
        self.storage = storage
        self.copies = 0
        self.before_copy: Callable[[], Awaitable[object]] | None = None
        self.after_copy: Callable[[], Awaitable[object]] | None = None
        self.before_delete: Callable[[StorageKey], Awaitable[object]] | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.storage, name)

    async def copy(
        self, source: StorageKey, target: StorageKey, **which: str | None
    ) -> StoredImage:
        self.copies += 1
        if self.before_copy is not None:
            await self.before_copy()
        copied = await self.storage.copy(source, target, **which)
        if self.after_copy is not None:
            await self.after_copy()
        return copied

    async def delete(self, key: StorageKey, *, save_id: str | None = None) -> None:
        if self.before_delete is not None:
            await self.before_delete(key)
        await self.storage.delete(key, save_id=save_id)


class Library:
    """A service, and a look behind it."""

    def __init__(self, storage: ImageStorage, config: RowsConfig) -> None:
        self.meddled = Meddled(storage)
        self.config = config
        self.database = MediaDatabase(config)
        self.service = self.another()
        self.expiry: Expiry | None = None

    def another(self) -> MediaResourceService:
        return MediaResourceService(cast("ImageStorage", self.meddled), self.database, grace=GRACE)

    async def save(self, path: str, data: bytes) -> StoredImage:
        return await self.meddled.storage.save(key(path), BytesSource(data))

    async def ingest(
        self, path: str, *, relocate: bool = True, within: KeyPrefix | None = None
    ) -> MediaResource:
        return await self.service.ingest_from_storage_key(
            key(path), relocate=relocate, within=within
        )

    def sweeper(self) -> Sweeper:
        return Sweeper(cast("ImageStorage", self.meddled), self.database, expiry=self.expiry)

    def background(self) -> Background:
        return Background(self.database, self.sweeper(), expiry=self.expiry)

    async def sweep(self, progress: Callable[[Swept], None] = lambda _: None) -> Swept:
        return await self.sweeper().sweep(progress)

    async def read(self, where: StorageKey) -> bytes:
        return await read_key(self.meddled.storage, where)

    def table(self, table: sa.Table) -> list[Any]:
        with migrating(self.config) as connection:
            return list(connection.execute(sa.select(table)).all())

    def change(self, statement: sa.Update) -> None:
        with migrating(self.config) as connection:
            connection.execute(statement)

    def marked(self) -> list[tuple[str, str]]:
        return sorted((row.storage_key.text, row.save_id) for row in self.table(deletions))

    async def media_keys(self) -> list[str]:
        page = await self.meddled.storage.list(ListQuery(KeyPrefix("media/"), limit=1000))
        return list(page.entries)

    async def check(self) -> None:
        """What holds at every moment: no row without bytes, no bytes that nothing remembers.

        What a killed process has sent to a bucket may still be on its way, so that is waited for.
        """
        deadline = asyncio.get_running_loop().time() + 60
        while unknown := await self._bytes_that_nothing_remembers():
            assert asyncio.get_running_loop().time() < deadline, unknown
            await asyncio.sleep(0.1)  # until it holds; there is a deadline

    async def _bytes_that_nothing_remembers(self) -> set[str]:
        remembered = {row.media_key.text for row in self.table(intents)}
        for table in (deletions, dead_letters):
            remembered |= {row.storage_key.text for row in self.table(table)}
        for row in self.table(resources):
            data = await self.read(row.storage_key)
            assert hashlib.sha256(data).digest() == row.content_hash
            remembered.add(row.storage_key.text)
        return set(await self.media_keys()) - remembered


class MediaLibraryContract:
    """Subclass this, in a file that pytest collects."""

    @pytest.fixture
    async def library(self, storage: ImageStorage, config: RowsConfig) -> AsyncIterator[Library]:
        library = Library(storage, config)
        await library.database.rows()
        yield library
        await library.check()
        await library.database.close()

    # Ingest

    @pytest.mark.pairs
    async def test_a_compute_result_becomes_a_resource_and_its_source_is_marked(
        self, library: Library
    ) -> None:
        data = picture()
        saved = await library.save("run/1.bin", data)

        resource = await library.ingest("run/1.bin")

        assert resource.storage_key.text == f"media/{resource.id}/file.png"
        assert resource.id.version == 7
        assert (resource.content_hash, resource.file_size) == (saved.sha256, len(data))
        assert (resource.content_type, resource.extension) == ("image/png", "png")
        assert (resource.width, resource.height, resource.color_profile) == (24, 16, None)
        assert await library.read(resource.storage_key) == data
        assert await library.service.find(resource.id) == resource
        assert library.marked() == [("compute/run/1.bin", saved.save_id)]
        assert library.table(intents) == []
        (mark,) = library.table(deletions)
        assert mark.due_at - mark.created_at == pytest.approx(GRACE, abs=timedelta(minutes=1))

    async def test_a_video_becomes_a_resource_that_says_how_it_is_shown(
        self, library: Library
    ) -> None:
        videos = {
            "front": (Mp4(frames()).file(moov_first=True), "video/mp4", "mp4", SIZE),
            "turned": (Mp4(frames(), matrix=QUARTER).file(), "video/mp4", "mp4", SIZE[::-1]),
            "end": (Mp4(frames()).file(before=MIB, brand=b"qt  "), "video/quicktime", "mov", SIZE),
            "web": (webm(frames()), "video/webm", "webm", SIZE),
        }
        for path, (data, content_type, extension, size) in videos.items():
            await library.save(path, data)

            resource = await library.ingest(path)

            assert resource.storage_key.text == f"media/{resource.id}/file.{extension}"
            assert (resource.content_type, resource.extension) == (content_type, extension)
            assert (resource.width, resource.height) == size
            assert resource.resource_type == VIDEO
            assert resource.duration == Mp4(frames()).length_ms / 1000
            assert await library.read(resource.storage_key) == data
            assert await library.service.find(resource.id) == resource
        page = await library.service.page(ResourceQuery(resource_type=VIDEO))
        assert len(page.resources) == len(videos)
        assert len(library.table(healing)) == len(videos), "each may have a poster"

    async def test_a_film_that_is_no_webm_or_has_no_pictures_is_refused(
        self, library: Library
    ) -> None:
        matroska = ebml(b"matroska") + element(0x18538067, info(1.0), video_track())
        for data in (matroska, ftyp() + box(b"moov"), recorded("mp4")[:40]):
            await library.save("a", data)

            with pytest.raises(UnsupportedMedia):
                await library.ingest("a")

    async def test_without_relocation_it_stays_where_it_is(self, library: Library) -> None:
        await library.save("a.png", picture())

        resource = await library.ingest("a.png", relocate=False)

        assert resource.storage_key == key("a.png")
        assert await library.service.find(resource.id) == resource
        assert library.marked() == []
        assert await library.media_keys() == []

    async def test_the_same_again_is_the_same_resource(self, library: Library) -> None:
        saved = await library.save("a.png", picture())
        first = await library.ingest("a.png")

        assert (await library.ingest("a.png")).id == first.id
        assert library.marked() == [("compute/a.png", saved.save_id)]
        assert library.meddled.copies == 1

    async def test_how_it_was_made_is_known_without_the_index(self, library: Library) -> None:
        data = carriers.png({"parameters": f"{'a fox ' * 4000}\nSteps: 20, Seed: 7, Model: m"})
        for path in ("a.png", "ours/b.png"):
            await library.save(path, data)

        for made in (
            await library.ingest("a.png"),
            await library.ingest("a.png"),
            await library.ingest("ours/b.png", within=OURS),
        ):
            assert made.generation is not None
            assert (made.generation.seed, made.generation.raw) == (7, None)
            assert len(made.generation.prompt or "") == MAX_TEXT

    async def test_equal_bytes_under_another_key_are_the_same_resource_and_not_copied(
        self, library: Library
    ) -> None:
        await library.save("a.png", picture())
        first = await library.ingest("a.png")
        other = await library.save("b.png", picture())

        assert (await library.ingest("b.png")).id == first.id

        assert ("compute/b.png", other.save_id) in library.marked()
        assert library.meddled.copies == 1

    async def test_the_same_bytes_saved_again_after_the_mark_are_another_save(
        self, library: Library
    ) -> None:
        first_save = await library.save("a.png", picture())
        first = await library.ingest("a.png")
        second_save = await library.save("a.png", picture())

        assert library.marked() == [("compute/a.png", first_save.save_id)]
        assert (await library.ingest("a.png")).id == first.id
        assert library.marked() == sorted(
            ("compute/a.png", saved.save_id) for saved in (first_save, second_save)
        )

    async def test_other_bytes_saved_after_the_mark_are_not_the_marked_ones(
        self, library: Library
    ) -> None:
        saved = await library.save("a.png", picture(1))
        first = await library.ingest("a.png")
        await library.save("a.png", picture(2))

        assert library.marked() == [("compute/a.png", saved.save_id)]
        second = await library.ingest("a.png")
        assert first.id != second.id
        assert await library.read(second.storage_key) == picture(2)

    async def test_relocating_what_was_recorded_in_place_moves_it(self, library: Library) -> None:
        saved = await library.save("a.png", picture())
        recorded = await library.ingest("a.png", relocate=False)

        moved = await library.ingest("a.png")

        assert moved.id == recorded.id
        assert moved.storage_key.text == f"media/{moved.id}/file.png"
        assert library.marked() == [("compute/a.png", saved.save_id)]
        assert (await library.ingest("a.png", relocate=False)).storage_key == moved.storage_key

    async def test_recording_in_place_takes_an_earlier_mark_back(self, library: Library) -> None:
        await library.save("a.png", picture())
        await library.ingest("a.png")

        await library.ingest("a.png", relocate=False)

        assert library.marked() == []

    async def test_a_resource_whose_bytes_are_gone_gets_those_of_the_source(
        self, library: Library
    ) -> None:
        await library.save("a.png", picture())
        first = await library.ingest("a.png")
        await library.meddled.storage.delete(first.storage_key)

        again = await library.ingest("a.png")

        assert again.id == first.id
        assert await library.read(again.storage_key) == picture()

    async def test_a_resource_in_place_that_was_saved_over_is_found_again_elsewhere(
        self, library: Library
    ) -> None:
        await library.save("a.png", picture(1))
        first = await library.ingest("a.png", relocate=False)
        await library.save("a.png", picture(2))
        with pytest.raises(ImageNotFound):
            await library.service.locate(first)

        second = await library.ingest("a.png", relocate=False)
        await library.save("b.png", picture(1))
        again = await library.ingest("b.png", relocate=False)

        assert second.id != first.id == again.id
        assert again.storage_key == key("b.png")

    # What is refused

    @pytest.mark.parametrize(
        "data",
        [
            b"no image",
            b"<svg xmlns='http://www.w3.org/2000/svg'/>",
            b"\x89PNG\r\n\x1a\n" + bytes(24),
            picture()[:20],
            picture(form="JPEG")[:20],
        ],
    )
    async def test_what_is_no_raster_image_is_refused_and_nothing_is_left(
        self, library: Library, data: bytes
    ) -> None:
        await library.save("a.png", data)

        for relocate in (True, False):
            with pytest.raises(UnsupportedMedia):
                await library.ingest("a.png", relocate=relocate)

        assert library.table(resources) == library.table(intents) == library.marked() == []

    async def test_a_missing_source_is_refused_and_nothing_is_left(self, library: Library) -> None:
        with pytest.raises(ImageNotFound):
            await library.ingest("a.png")

        assert library.table(resources) == library.table(intents) == []

    @pytest.mark.parametrize("error", [ImageNotFound(), StorageFull("no room")])
    async def test_a_copy_that_was_not_made_leaves_nothing(
        self, library: Library, error: StillroomError
    ) -> None:
        async def fail() -> None:
            raise error

        await library.save("a.png", picture())
        library.meddled.before_copy = fail

        with pytest.raises(type(error)):
            await library.ingest("a.png")

        assert library.table(resources) == library.table(intents) == library.marked() == []

    async def test_a_copy_of_unknown_outcome_is_remembered(self, library: Library) -> None:
        async def fail() -> None:
            raise BackendUnavailable("the outcome is unknown")

        await library.save("a.png", picture())
        library.meddled.after_copy = fail

        with pytest.raises(BackendUnavailable):
            await library.ingest("a.png")

        (intent,) = library.table(intents)
        assert await library.media_keys() == [intent.media_key.text]
        library.meddled.after_copy = None
        assert await library.read((await library.ingest("a.png")).storage_key) == picture()

    async def test_a_transaction_that_is_rolled_back_after_the_copy_changes_nothing(
        self, library: Library
    ) -> None:
        async def mark(*_: object) -> None:
            raise BackendUnavailable("the connection broke off")

        await library.save("a.png", picture())
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("stillroom.media.rows.resources.write_mark", mark)
            with pytest.raises(BackendUnavailable):
                await library.ingest("a.png")

        assert library.table(resources) == library.marked() == []
        assert len(library.table(intents)) == 1
        await library.ingest("a.png")
        assert len(library.table(resources)) == 1

    # Ingests that are confined to a folder

    async def test_a_resource_remembers_the_first_key_that_it_came_from(
        self, library: Library
    ) -> None:
        await library.save("run/a cat.png", picture())
        resource = await library.ingest("run/a cat.png", relocate=False)
        await library.save("b.png", picture())

        assert resource.source_key == key("run/a cat.png")
        assert (await library.ingest("b.png")).source_key == key("run/a cat.png")

    @pytest.mark.parametrize("in_place", [False, True])
    @pytest.mark.parametrize("relocate", [False, True])
    async def test_a_folder_gets_the_id_of_anothers_resource_and_changes_nothing_of_it(
        self, library: Library, *, in_place: bool, relocate: bool
    ) -> None:
        await library.save("theirs/a.png", picture())
        theirs = await library.ingest("theirs/a.png", relocate=not in_place)
        await library.service.change(
            theirs.id, Change(caption="theirs", alt_text="theirs", protected=True)
        )
        before = library.table(resources)
        ours = await library.save("ours/a.png", picture())

        got = await library.ingest("ours/a.png", relocate=relocate, within=OURS)

        assert (got.id, got.content_hash) == (theirs.id, theirs.content_hash)
        assert (got.caption, got.alt_text, got.protected, got.source_key) == (
            None, None, False, None,
        )  # fmt: skip
        assert got.storage_key == (key("ours/a.png") if in_place else theirs.storage_key)
        assert library.table(resources) == before
        marked = (ours.key.text, ours.save_id) in library.marked()
        assert marked == (relocate and not in_place)

    @pytest.mark.parametrize("relocate", [False, True])
    async def test_a_folder_neither_revives_nor_mends_what_others_have(
        self, library: Library, *, relocate: bool
    ) -> None:
        await library.save("theirs/a.png", picture(1))
        await library.save("theirs/b.png", picture(2))
        deleted = await library.ingest("theirs/a.png")
        await library.ingest("theirs/b.png", relocate=False)
        await library.save("theirs/b.png", picture(3))
        await library.service.delete(deleted.id)
        before = library.table(resources), library.marked()

        for number in (1, 2):
            await library.save("ours/a.png", picture(number))
            with pytest.raises(ResourceConflict):
                await library.ingest("ours/a.png", relocate=relocate, within=OURS)

        assert (library.table(resources), library.marked()) == before
        await library.save("theirs/b.png", picture(2))

    async def test_a_resource_that_is_deleted_while_a_folder_ingests_its_bytes_stays_deleted(
        self, library: Library, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await library.save("theirs/a.png", picture())
        theirs = await library.ingest("theirs/a.png")
        await library.save("ours/a.png", picture())
        rows = await library.database.rows()
        keep = rows.resources.keep

        async def delete_first(*asked: Any, **more: Any) -> MediaResource | None:
            monkeypatch.undo()
            await library.service.delete(theirs.id)
            return await keep(*asked, **more)

        monkeypatch.setattr(rows.resources, "keep", delete_first)

        with pytest.raises(ResourceConflict):
            await library.ingest("ours/a.png", within=OURS)

        with pytest.raises(ResourceNotFound):
            await library.service.find(theirs.id)

    async def test_a_folder_moves_and_revives_what_came_from_it(self, library: Library) -> None:
        await library.save("ours/a.png", picture())
        recorded = await library.ingest("ours/a.png", relocate=False, within=OURS)
        await library.service.change(recorded.id, Change(caption="ours"))

        moved = await library.ingest("ours/a.png", within=OURS)
        assert (moved.id, moved.caption, moved.storage_key.is_media) == (recorded.id, "ours", True)
        await library.service.delete(moved.id)
        assert await library.ingest("ours/a.png", within=OURS) == moved

    # Races

    @pytest.mark.pairs
    async def test_a_source_that_is_saved_over_before_the_copy_is_looked_at_again(
        self, library: Library
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
        self, library: Library
    ) -> None:
        async def meddle() -> None:
            library.meddled.after_copy = None
            await library.save("a.png", picture(2))

        saved = await library.save("a.png", picture(1))
        library.meddled.after_copy = meddle

        resource = await library.ingest("a.png")

        assert await library.read(resource.storage_key) == picture(1)
        assert library.marked() == [("compute/a.png", saved.save_id)]

    async def test_a_source_that_never_stays_the_same_is_given_up(self, library: Library) -> None:
        seeds = iter(range(2, 100))

        async def meddle() -> None:
            await library.save("a.png", picture(next(seeds)))

        await library.save("a.png", picture(1))
        library.meddled.before_copy = meddle

        with pytest.raises(BackendUnavailable, match="again and again"):
            await library.ingest("a.png")

        assert library.table(resources) == library.marked() == []

    @pytest.mark.pairs
    async def test_of_two_that_race_for_one_hash_one_wins_and_the_other_gets_its_resource(
        self, library: Library
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
    async def test_two_that_move_the_same_resource_move_it_once(self, library: Library) -> None:
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
        self, library: Library, *, lost: bool
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
        self, library: Library, *, dies: bool
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
    async def test_many_at_once_are_one_resource(self, library: Library) -> None:
        paths = [f"{number}.png" for number in range(8)]
        for path in paths:
            await library.save(path, picture())

        found = await asyncio.gather(*(library.ingest(path) for path in paths * 2))

        assert len({resource.id for resource in found}) == 1
        assert len(library.marked()) == 8

    async def test_an_intent_that_the_sweeper_took_is_not_relied_on(self, library: Library) -> None:
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
        self, library: Library, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(service, "LEASE", timedelta(seconds=0.6))

        async def renewed() -> None:
            (first,) = library.table(intents)
            while library.table(intents) == [first]:  # noqa: ASYNC110  (no event: it is a row)
                await asyncio.sleep(0.05)  # until it holds; there is a deadline

        await library.save("a.png", picture())
        library.meddled.before_copy = renewed

        await library.ingest("a.png")

        assert library.table(intents) == []

    async def test_nothing_is_recorded_where_the_sweeper_is_deleting(
        self, library: Library
    ) -> None:
        await library.save("a.png", picture(1))
        await library.ingest("a.png")
        library.change(sa.update(deletions).values(claimed_by=uuid.uuid4()))

        with pytest.raises(BackendUnavailable):
            await library.ingest("a.png", relocate=False)

    # Deleting

    async def test_a_deleted_resource_is_out_of_the_library_and_its_bytes_are_marked(
        self, library: Library
    ) -> None:
        await library.save("a.png", picture())
        resource = await library.ingest("a.png")

        await library.service.delete(resource.id)

        for again in (library.service.find, library.service.delete):
            with pytest.raises(ResourceNotFound):
                await again(resource.id)
        assert (await library.service.page(ResourceQuery())).resources == []
        assert (resource.storage_key.text, resource.save_id) in library.marked()
        assert await library.read(resource.storage_key) == picture()

    @pytest.mark.pairs
    async def test_equal_bytes_cancel_a_deletion_that_is_due(self, library: Library) -> None:
        await library.save("a.png", picture())
        resource = await library.ingest("a.png")
        await library.service.delete(resource.id)

        again = await library.ingest("a.png")

        assert again == resource
        assert await library.service.find(resource.id) == resource
        assert [marked for marked, _ in library.marked()] == ["compute/a.png"]

    async def test_a_deletion_that_the_sweeper_has_begun_is_not_cancelled(
        self, library: Library
    ) -> None:
        await library.save("a.png", picture())
        resource = await library.ingest("a.png")
        await library.service.delete(resource.id)
        ours = deletions.c.resource_id == resource.id
        with migrating(library.config) as connection:  # as the sweeper does it: docs/adr/0012
            connection.execute(sa.update(deletions).where(ours).values(claimed_by=uuid.uuid4()))
            connection.execute(sa.delete(resources).where(resources.c.id == resource.id))

        again = await library.ingest("a.png")

        assert again.id != resource.id
        assert (resource.storage_key.text, resource.save_id) in library.marked()
        await library.meddled.storage.delete(resource.storage_key)

    async def test_what_was_recorded_in_place_only_leaves_the_library(
        self, library: Library
    ) -> None:
        await library.save("a.png", picture())
        resource = await library.ingest("a.png", relocate=False)

        await library.service.delete(resource.id)

        assert library.table(resources) == library.marked() == []
        assert await library.read(key("a.png")) == picture()

    async def test_a_protected_resource_is_not_deleted(self, library: Library) -> None:
        await library.save("a.png", picture())
        resource = await library.ingest("a.png")
        await library.service.change(resource.id, Change(protected=True))

        with pytest.raises(ResourceProtected):
            await library.service.delete(resource.id)

        await library.service.change(resource.id, Change(protected=False))
        await library.service.delete(resource.id)

    # Reading and changing

    async def test_only_what_a_change_names_is_changed(self, library: Library) -> None:
        await library.save("a.png", picture())
        resource = await library.ingest("a.png")

        await library.service.change(resource.id, Change(caption="Kätzchen 🐈", alt_text="a"))
        changed = await library.service.change(resource.id, Change(alt_text=None))

        assert changed == dataclasses.replace(resource, caption="Kätzchen 🐈")
        assert await library.service.change(resource.id, Change()) == changed
        with pytest.raises(ResourceNotFound):
            await library.service.change(uuid.uuid4(), Change(caption="x"))

    async def test_pages_are_newest_first_and_complete(self, library: Library) -> None:
        made = []
        for number in range(5):
            await library.save("a.png", picture(number))
            made.append(await library.ingest("a.png"))

        seen: list[MediaResource] = []
        after, more = None, True
        while more:
            page = await library.service.page(ResourceQuery(after=after, limit=2))
            seen += page.resources
            after, more = seen[-1].id, page.more

        assert seen == sorted(made, key=lambda resource: resource.id, reverse=True)

    async def test_pages_are_filtered(self, library: Library) -> None:
        await library.save("a", picture(1))
        await library.save("b", picture(1, "JPEG"))
        png, jpeg = await library.ingest("a"), await library.ingest("b")

        async def found(query: ResourceQuery) -> list[MediaResource]:
            return list((await library.service.page(query)).resources)

        assert await found(ResourceQuery(content_type="image/jpeg")) == [jpeg]
        assert await found(ResourceQuery(content_hash=png.content_hash)) == [png]
        assert await found(ResourceQuery(resource_type="video")) == []
        assert await found(ResourceQuery(source_keys=[key("a")])) == [png]
        assert await found(ResourceQuery(source_keys=[key("b"), key("a")])) == [jpeg, png]
        assert await found(ResourceQuery(source_keys=[key("c")])) == []
        assert await found(ResourceQuery(created_before=jpeg.created_at)) == [png]
        assert await found(ResourceQuery(created_from=jpeg.created_at)) == [jpeg]

    async def test_the_same_save_is_marked_once(self, library: Library) -> None:
        rows = await library.database.rows()
        await library.save("a.png", picture())
        first = await library.ingest("a.png")
        (mark,) = library.table(deletions)

        again = Mark(key("a.png"), mark.save_id, "relocated", mark.due_at + GRACE)
        await rows.resources.keep(
            first, storage_key=first.storage_key, save_id=first.save_id, source=again
        )

        assert [row.due_at for row in library.table(deletions)] == [mark.due_at]
