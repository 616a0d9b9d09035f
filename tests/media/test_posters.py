"""Posters: which are moved into the library with their videos, and which stay."""

import asyncio

import pytest

from media.library import OURS, Library, key
from pictures import picture
from stillroom.errors import StorageFull
from stillroom.features.library import service
from stillroom.features.library.resource import ResourceQuery
from videos import Mp4, frames


async def test_a_video_takes_its_poster_along_when_it_is_moved(library: Library) -> None:
    video = await library.save("a.mp4", Mp4(frames()).file())
    poster = await library.save("a.mp4.poster.webp", picture())
    await library.save("b.mp4", Mp4(frames()).file(before=8))
    await library.save("b.mp4.poster.webp", Mp4(frames()).file(before=9))  # no picture
    await library.save("c.png", picture(size=(9, 9)))
    await library.save("c.png.poster.webp", picture(size=(9, 8)))  # not of a video

    stays = await library.ingest("a.mp4", relocate=False)
    assert (stays.storage_key, library.marked()) == (key("a.mp4"), [])
    for path in ("a.mp4", "b.mp4", "c.png"):
        await library.ingest(path)

    found = {one.source_key: one for one in (await library.service.page(ResourceQuery())).resources}
    assert set(found) == {*map(key, ("a.mp4", "a.mp4.poster.webp", "b.mp4", "c.png"))}
    assert found[key("a.mp4.poster.webp")].storage_key.is_media
    marked = library.marked()
    for moved in (video, poster):
        assert (moved.key.text, moved.save_id) in marked
    assert len(marked) == 4


async def test_a_video_is_moved_also_where_its_poster_cannot_be(library: Library) -> None:
    await library.save("a.mp4", Mp4(frames()).file())
    poster = await library.save("a.mp4.poster.webp", picture())
    copies = 0

    async def fail_at_the_second() -> None:
        nonlocal copies
        copies += 1
        if copies > 1:
            raise StorageFull

    library.meddled.before_copy = fail_at_the_second
    resource = await library.ingest("a.mp4")

    assert resource.storage_key.is_media
    assert poster.key.text not in dict(library.marked())
    library.meddled.leave_alone()
    assert (await library.ingest("a.mp4")).id == resource.id  # again: with its poster
    assert poster.key.text in dict(library.marked())


async def sources(library: Library) -> set[str]:
    page = await library.service.page(ResourceQuery())
    return {
        one.source_key.text.removeprefix("compute/") for one in page.resources if one.source_key
    }


async def test_a_poster_stays_beside_a_video_that_is_not_moved(library: Library) -> None:
    video = Mp4(frames()).file()
    await library.save("theirs/a.mp4", video)
    await library.ingest("theirs/a.mp4", relocate=False)
    await library.save("ours/a.mp4", video)
    await library.save("ours/a.mp4.poster.webp", picture())

    assert (await library.ingest("ours/a.mp4", within=OURS)).storage_key == key("ours/a.mp4")

    assert await sources(library) == {"theirs/a.mp4"}
    assert library.marked() == []


async def test_a_poster_stays_if_it_could_not_be_found_in_the_library(library: Library) -> None:
    for number, name in enumerate(("a.mp4", "b.mp4")):
        await library.save(name, Mp4(frames()).file(before=8 + number))
        await library.save(f"{name}.poster.webp", picture())  # the same bytes
        await library.ingest(name)
    await library.save("again.mp4", Mp4(frames()).file(before=8))  # the same bytes as a.mp4
    await library.save("again.mp4.poster.webp", picture(size=(9, 9)))
    await library.ingest("again.mp4")

    assert await sources(library) == {"a.mp4", "a.mp4.poster.webp", "b.mp4"}
    marked = {where for where, _ in library.marked()}
    moved = ("a.mp4", "a.mp4.poster.webp", "b.mp4", "again.mp4")
    assert marked == {key(path).text for path in moved}


async def test_a_poster_that_takes_too_long_does_not_fail_its_video(
    library: Library, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(service, "_POSTER_S", 0.1)
    await library.save("a.mp4", Mp4(frames()).file())
    await library.save("a.mp4.poster.webp", picture())

    async def stop_at_the_second() -> None:
        if library.meddled.copies > 1:
            await asyncio.Event().wait()

    library.meddled.before_copy = stop_at_the_second
    resource = await library.service.ingest_from_storage_key(
        key("a.mp4"), deadline=asyncio.get_running_loop().time() + 60
    )

    assert resource.storage_key.is_media
    assert "cannot ingest the poster of the video compute/a.mp4: TimeoutError" in caplog.text
