"""Ingests: the source, equal bytes, and refused files."""

from datetime import timedelta
from typing import Final

import pytest

from generation import carriers
from media.library import GRACE, OURS, Library, key
from pictures import picture
from stillroom.errors import (
    BackendUnavailable,
    ImageNotFound,
    StillroomError,
    StorageFull,
    UnsupportedMedia,
)
from stillroom.features.library.resource import VIDEO, ResourceQuery
from stillroom.features.library.rows.tables import deletions, healing, intents, resources
from stillroom.features.search.words import MAX_TEXT
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

MIB: Final = 1024**2


@pytest.mark.pairs
async def test_a_compute_result_becomes_a_resource_and_its_source_is_marked(
    library: Library,
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


async def test_a_video_becomes_a_resource_that_says_how_it_is_shown(library: Library) -> None:
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


async def test_a_film_that_is_no_webm_or_has_no_pictures_is_refused(library: Library) -> None:
    matroska = ebml(b"matroska") + element(0x18538067, info(1.0), video_track())
    for data in (matroska, ftyp() + box(b"moov"), recorded("mp4")[:40]):
        await library.save("a", data)

        with pytest.raises(UnsupportedMedia):
            await library.ingest("a")


async def test_without_relocation_it_stays_where_it_is(library: Library) -> None:
    await library.save("a.png", picture())

    resource = await library.ingest("a.png", relocate=False)

    assert resource.storage_key == key("a.png")
    assert await library.service.find(resource.id) == resource
    assert library.marked() == []
    assert await library.media_keys() == []


async def test_a_resource_in_place_has_the_latest_save_of_its_bytes(library: Library) -> None:
    await library.save("a.png", picture())
    first = await library.ingest("a.png", relocate=False)
    saved = await library.save("a.png", picture())

    again = await library.ingest("a.png", relocate=False)

    assert (again.id, again.save_id) == (first.id, saved.save_id)
    assert await library.service.find(first.id) == again
    await library.save("b.png", picture())
    assert await library.ingest("b.png", relocate=False) == again


async def test_the_same_again_is_the_same_resource(library: Library) -> None:
    saved = await library.save("a.png", picture())
    first = await library.ingest("a.png")

    assert (await library.ingest("a.png")).id == first.id
    assert library.marked() == [("compute/a.png", saved.save_id)]
    assert library.meddled.copies == 1


async def test_how_it_was_made_is_known_without_the_index(library: Library) -> None:
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
    library: Library,
) -> None:
    await library.save("a.png", picture())
    first = await library.ingest("a.png")
    other = await library.save("b.png", picture())

    assert (await library.ingest("b.png")).id == first.id

    assert ("compute/b.png", other.save_id) in library.marked()
    assert library.meddled.copies == 1


async def test_the_same_bytes_saved_again_after_the_mark_are_another_save(library: Library) -> None:
    first_save = await library.save("a.png", picture())
    first = await library.ingest("a.png")
    second_save = await library.save("a.png", picture())

    assert library.marked() == [("compute/a.png", first_save.save_id)]
    assert (await library.ingest("a.png")).id == first.id
    assert library.marked() == sorted(
        ("compute/a.png", saved.save_id) for saved in (first_save, second_save)
    )


async def test_other_bytes_saved_after_the_mark_are_not_the_marked_ones(library: Library) -> None:
    saved = await library.save("a.png", picture(1))
    first = await library.ingest("a.png")
    await library.save("a.png", picture(2))

    assert library.marked() == [("compute/a.png", saved.save_id)]
    second = await library.ingest("a.png")
    assert first.id != second.id
    assert await library.read(second.storage_key) == picture(2)


async def test_relocating_what_was_recorded_in_place_moves_it(library: Library) -> None:
    saved = await library.save("a.png", picture())
    recorded = await library.ingest("a.png", relocate=False)

    moved = await library.ingest("a.png")

    assert moved.id == recorded.id
    assert moved.storage_key.text == f"media/{moved.id}/file.png"
    assert library.marked() == [("compute/a.png", saved.save_id)]
    assert (await library.ingest("a.png", relocate=False)).storage_key == moved.storage_key


async def test_recording_in_place_takes_an_earlier_mark_back(library: Library) -> None:
    await library.save("a.png", picture())
    await library.ingest("a.png")

    await library.ingest("a.png", relocate=False)

    assert library.marked() == []


async def test_a_resource_whose_bytes_are_gone_gets_those_of_the_source(library: Library) -> None:
    await library.save("a.png", picture())
    first = await library.ingest("a.png")
    await library.meddled.storage.delete(first.storage_key)

    again = await library.ingest("a.png")

    assert again.id == first.id
    assert await library.read(again.storage_key) == picture()


async def test_a_resource_in_place_that_was_saved_over_is_found_again_elsewhere(
    library: Library,
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
    library: Library, data: bytes
) -> None:
    await library.save("a.png", data)

    for relocate in (True, False):
        with pytest.raises(UnsupportedMedia):
            await library.ingest("a.png", relocate=relocate)

    assert library.table(resources) == library.table(intents) == library.marked() == []


async def test_a_missing_source_is_refused_and_nothing_is_left(library: Library) -> None:
    with pytest.raises(ImageNotFound):
        await library.ingest("a.png")

    assert library.table(resources) == library.table(intents) == []


@pytest.mark.parametrize("error", [ImageNotFound(), StorageFull("no room")])
async def test_a_copy_that_was_not_made_leaves_nothing(
    library: Library, error: StillroomError
) -> None:
    async def fail() -> None:
        raise error

    await library.save("a.png", picture())
    library.meddled.before_copy = fail

    with pytest.raises(type(error)):
        await library.ingest("a.png")

    assert library.table(resources) == library.table(intents) == library.marked() == []


async def test_a_copy_of_unknown_outcome_is_remembered(library: Library) -> None:
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
    library: Library,
) -> None:
    async def mark(*_: object) -> None:
        raise BackendUnavailable("the connection broke off")

    await library.save("a.png", picture())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("stillroom.features.library.rows.resources.write_mark", mark)
        with pytest.raises(BackendUnavailable):
            await library.ingest("a.png")

    assert library.table(resources) == library.marked() == []
    assert len(library.table(intents)) == 1
    await library.ingest("a.png")
    assert len(library.table(resources)) == 1
