"""Healing: properties that a resource lacks are found from its bytes, in the background."""

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from generation import carriers
from media.library import Library, make_due
from pictures import picture
from stillroom.errors import BackendUnavailable, ImageNotFound, StillroomError, UnsupportedMedia
from stillroom.features.database.clock import new_id, now
from stillroom.features.library.healing import MAX_ATTEMPTS, Healer, Outcome
from stillroom.features.library.resource import Change, MediaResource, ResourceQuery
from stillroom.features.library.rows.tables import healing, resources
from stillroom.store.values import OpenedImage
from videos import Mp4, frames

COLOR = "#8a6d3b"
SIGNED = Path(__file__).parents[1] / "generation" / "signed"


class Painter:
    """Finds the same colour in everything, or fails."""

    def __init__(self, *failures: StillroomError) -> None:
        self.failures = list(failures)
        self.asked = 0

    def decodes(self, content_type: str) -> bool:
        return content_type not in ("image/heic", "video/mp4")

    async def dominant_color(self, original: OpenedImage) -> str | None:
        self.asked += 1
        assert [chunk async for chunk in original.chunks(0, 4)]
        if self.failures:
            raise self.failures.pop(0)
        return COLOR


def healer(library: Library, painter: Painter | None = None) -> Healer:
    storage: Any = library.meddled
    return Healer(storage, library.database, painter or Painter())


def let_healing_be_due(library: Library) -> None:
    library.change(sa.update(healing).values(due_at=now() - timedelta(days=1)))


async def test_an_ingest_asks_for_the_colour_and_does_not_wait_for_it(
    library: Library, resource: MediaResource
) -> None:
    assert resource.dominant_color is None
    assert await healer(library).waiting() == 1

    assert await healer(library).heal() == {Outcome.FILLED: 1}

    assert (await library.service.find(resource.id)).dominant_color == COLOR
    assert library.table(healing) == []
    assert await healer(library).ask() == 0


async def test_a_colour_that_was_set_meanwhile_stands(
    library: Library, resource: MediaResource
) -> None:
    class Slow(Painter):
        async def dominant_color(self, original: OpenedImage) -> str | None:
            change = Change(dominant_color="#000000")
            await library.service.change(resource.id, change, only_unset=True)
            return await super().dominant_color(original)

    assert await healer(library, Slow()).heal() == {Outcome.FILLED: 1}

    assert (await library.service.find(resource.id)).dominant_color == "#000000"


async def test_what_cannot_be_decoded_is_tried_again_only_if_it_is_asked_for(
    library: Library, resource: MediaResource
) -> None:
    painter = Painter(UnsupportedMedia("broken"))

    assert await healer(library, painter).heal() == {Outcome.UNFILLED: 1}
    assert await healer(library, painter).heal() == {}
    assert (library.table(healing), painter.asked) == ([], 1)

    assert await healer(library, painter).ask([resource.id, new_id()]) == 1
    assert await healer(library, painter).heal() == {Outcome.FILLED: 1}


async def test_a_type_that_is_never_decoded_costs_no_read(
    library: Library, resource: MediaResource
) -> None:
    library.change(sa.update(resources).values(content_type="image/heic"))
    await library.meddled.storage.delete(resource.storage_key)  # so that a read would fail
    painter = Painter()

    assert await healer(library, painter).heal() == {Outcome.UNFILLED: 1}

    assert painter.asked == 0
    await library.service.delete(resource.id)
    make_due(library)
    await library.sweep()


async def test_what_fails_is_tried_again_later_and_given_up_in_the_end(
    library: Library, resource: MediaResource
) -> None:
    painter = Painter(*[BackendUnavailable("away")] * MAX_ATTEMPTS)

    for attempt in range(1, MAX_ATTEMPTS):
        assert await healer(library, painter).heal() == {Outcome.RETRIED: 1}
        assert await healer(library, painter).heal() == {}, "not before its time"
        (row,) = library.table(healing)
        assert row.attempts == attempt
        let_healing_be_due(library)
    assert await healer(library, painter).heal() == {Outcome.GIVEN_UP: 1}

    assert library.table(healing) == []
    assert (await library.service.find(resource.id)).dominant_color is None


async def test_a_process_that_died_leaves_its_work_to_others_for_so_many_times(
    library: Library, resource: MediaResource
) -> None:
    rows = (await library.database.rows()).healing
    for attempt in range(1, MAX_ATTEMPTS + 1):
        claimed = await rows.claim(limit=10, lease=timedelta(minutes=10))
        assert [(job.resource.id, job.attempts) for job in claimed] == [(resource.id, attempt)]
        assert await healer(library).heal() == {}, "while the lease holds"
        let_healing_be_due(library)

    assert await healer(library).heal() == {Outcome.GIVEN_UP: 1}
    assert library.table(healing) == []


async def test_what_has_lost_its_bytes_or_is_deleted_is_no_more_work(library: Library) -> None:
    for number in range(3):
        await library.save(f"{number}.png", picture(number))
    lost = await library.ingest("0.png", relocate=False)
    await library.save("0.png", picture(7))
    deleted = await library.ingest("1.png")
    await library.service.delete(deleted.id)
    left = await library.ingest("2.png")

    assert await healer(library).heal() == {Outcome.GONE: 1, Outcome.FILLED: 1}

    assert library.table(healing) == []
    assert (await library.service.find(left.id)).dominant_color == COLOR
    with pytest.raises(ImageNotFound):
        await library.service.locate(lost)
    await library.service.delete(lost.id)


@pytest.mark.pairs
async def test_of_several_healers_each_does_something_else(library: Library) -> None:
    for number in range(12):
        await library.save(f"{number}.png", picture(number))
        await library.ingest(f"{number}.png")
    painters = [Painter() for _ in range(3)]

    done = await asyncio.gather(*(healer(library, one).heal() for one in painters))

    assert sum(one.asked for one in painters) == 12
    assert sum(one[Outcome.FILLED] for one in done) == 12
    assert library.table(healing) == []


async def test_a_healer_that_is_stopped_gives_back_what_it_has_claimed(
    library: Library, resource: MediaResource
) -> None:
    assert await healer(library).heal(lambda: True) == {}

    (row,) = library.table(healing)
    assert (row.resource_id, row.attempts) == (resource.id, 0)
    assert await healer(library).heal() == {Outcome.FILLED: 1}


async def test_all_that_lacks_something_is_asked_for_page_by_page(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stillroom.features.library.healing._PAGE", 2)
    made = []
    for number in range(5):
        await library.save(f"{number}.png", picture(number))
        made.append(await library.ingest(f"{number}.png"))
    await library.service.change(made[0].id, Change(dominant_color=COLOR))
    await library.service.delete(made[1].id)
    library.change(sa.update(healing).values(attempts=3))

    assert await healer(library).ask() == 3

    asked = {row.resource_id for row in library.table(healing) if not row.attempts}
    assert asked == {one.id for one in made[2:]}


async def test_a_header_is_read_again_if_that_is_asked_for(
    library: Library, resource: MediaResource
) -> None:
    await healer(library).heal()
    library.change(sa.update(resources).values(dominant_color=None, width=1, color_profile="known"))

    await healer(library).ask()
    await healer(library).heal()

    healed = await library.service.find(resource.id)
    assert (healed.dominant_color, healed.color_profile) == (COLOR, "known")
    assert healed.width == 1, "it is not null"


async def test_a_video_of_an_older_version_gets_its_duration(library: Library) -> None:
    await library.save("a.mp4", Mp4(frames()).file())
    made = await library.ingest("a.mp4")
    library.change(sa.update(resources).values(duration=None))

    assert await healer(library).ask() == 1
    assert await healer(library).heal() == {Outcome.FILLED: 1}

    assert await library.service.find(made.id) == made


async def test_the_colour_of_a_video_is_that_of_its_poster(library: Library) -> None:
    for number, name in enumerate(("moved", "kept", "bare", "broken")):
        await library.save(f"{name}.mp4", Mp4(frames()).file(before=8 + number))
        await library.ingest(f"{name}.mp4", relocate=name != "kept")
    for name in ("moved", "kept"):
        await library.save(f"{name}.mp4.poster.webp", picture())
    await library.save("broken.mp4.poster.webp", Mp4(frames()).file())  # no picture at all

    healed = await healer(library).heal()

    assert healed == {Outcome.FILLED: 2, Outcome.UNFILLED: 2}
    expected = {"moved": COLOR, "kept": COLOR, "bare": None, "broken": None}
    assert await colors(library) == expected
    await library.save("bare.mp4.poster.webp", picture())
    assert await healer(library).ask() == 2
    await healer(library).heal()
    assert await colors(library) == expected | {"bare": COLOR}


async def test_the_poster_of_a_video_is_found_where_it_was_moved(library: Library) -> None:
    await library.save("a.mp4", Mp4(frames()).file())
    poster = await library.save("a.mp4.poster.webp", picture())
    await library.ingest("a.mp4")
    await library.meddled.storage.delete(poster.key)

    assert await healer(library).heal() == {Outcome.FILLED: 2}

    assert await colors(library) == {"a": COLOR, "a.mp4.poster.webp": COLOR}


async def colors(library: Library) -> dict[str, str | None]:
    """Of all videos, by the names of their sources."""
    page = await library.service.page(ResourceQuery())
    return {
        one.source_key.text.removeprefix("compute/").removesuffix(".mp4"): one.dominant_color
        for one in page.resources
        if one.source_key is not None
    }


async def test_a_resource_says_whether_ai_made_it_and_keeps_its_manifest(library: Library) -> None:
    given = {
        "none.png": (picture(), "none"),
        "signed.jpg": ((SIGNED / "a.jpg").read_bytes(), "c2pa"),
        "signed.mp4": ((SIGNED / "a.mp4").read_bytes(), "c2pa"),
        "marked.webp": (carriers.with_xmp("WEBP", carriers.iptc()), "iptc"),
        "broken.png": (carriers.with_xmp("PNG", "<broken"), None),
    }
    for path, (data, mark) in given.items():
        await library.save(path, data)

        resource = await library.ingest(path)

        assert resource.ai_mark == mark, path
        assert await library.read(resource.storage_key) == data


async def test_the_mark_of_a_resource_of_an_older_version_is_found_by_healing(
    library: Library,
) -> None:
    await library.save("a.webp", carriers.with_xmp("WEBP", carriers.iptc()))
    await library.save("b.gif", carriers.picture("GIF"))
    made = await library.ingest("a.webp")
    await library.ingest("b.gif")
    await healer(library).heal()
    library.change(sa.update(resources).values(ai_mark=None))

    assert await healer(library).ask() == 1, "a GIF has no place for one"
    assert await healer(library).heal() == {Outcome.FILLED: 1}

    assert (await library.service.find(made.id)).ai_mark == "iptc"
