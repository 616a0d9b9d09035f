"""The promises of what is added to resources, one test each, on the pairs of a storage and a
database of `conftest.py`: on two of them, and on all four where a test is marked `pairs`.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from generation import carriers
from media.suite import OURS, Library
from media.sweeping import make_due
from pictures import picture
from stillroom.errors import (
    BackendUnavailable,
    ImageNotFound,
    InvalidParameter,
    PreconditionFailed,
    ResourceNotFound,
    StillroomError,
    UnsupportedMedia,
)
from stillroom.media.config import RowsConfig
from stillroom.media.healing import MAX_ATTEMPTS, Healer, Outcome
from stillroom.media.resource import Change, MediaResource, ResourceQuery, new_id, now
from stillroom.media.rows.tables import healing, intents, resources, tags
from stillroom.storage.port import ImageStorage
from stillroom.storage.values import OpenedImage
from videos import Mp4, frames

COLOR = "#8a6d3b"
SIGNED = Path(__file__).parents[1] / "generation" / "signed"
FACTS = ("alt_text", "caption", "duration", "color_profile", "dominant_color")


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


class EnrichmentContract:
    """Subclass this, in a file that pytest collects."""

    @pytest.fixture
    async def library(self, storage: ImageStorage, config: RowsConfig) -> AsyncIterator[Library]:
        library = Library(storage, config)
        await library.database.rows()
        yield library
        library.meddled.before_copy = library.meddled.after_copy = None
        await library.check()
        await library.database.close()

    @pytest.fixture
    async def resource(self, library: Library) -> MediaResource:
        await library.save("a.png", picture())
        return await library.ingest("a.png")

    # Fields

    async def test_what_is_unset_is_filled_and_the_rest_is_left_alone(
        self, library: Library, resource: MediaResource
    ) -> None:
        await library.service.change(resource.id, Change(caption="first"))

        change = Change(
            caption="second", alt_text="first", duration=1.5, width=1, height=1, protected=True,
            dominant_color=None,
        )  # fmt: skip
        changed = await library.service.change(resource.id, change, only_unset=True)

        assert (changed.caption, changed.alt_text, changed.duration) == ("first", "first", 1.5)
        assert (changed.width, changed.height, changed.protected) == (24, 16, False)
        assert changed == await library.service.find(resource.id)

    async def test_without_that_every_fact_is_set_and_taken_away(
        self, library: Library, resource: MediaResource
    ) -> None:
        change = Change(
            duration=2.0, width=7, height=8, color_profile="sRGB", dominant_color=COLOR
        )  # fmt: skip
        changed = await library.service.change(resource.id, change)

        assert (changed.duration, changed.width, changed.height) == (2.0, 7, 8)
        assert (changed.color_profile, changed.dominant_color) == ("sRGB", COLOR)
        gone = Change(duration=None, color_profile=None, dominant_color=None)
        changed = await library.service.change(resource.id, gone)
        assert (changed.duration, changed.color_profile, changed.dominant_color) == (None,) * 3

    async def test_what_is_unset_of_nothing_is_not_found(self, library: Library) -> None:
        for change in (Change(), Change(caption="x")):
            with pytest.raises(ResourceNotFound):
                await library.service.change(new_id(), change, only_unset=True)

    async def test_of_ten_changes_of_what_was_seen_the_same_one_is_made(
        self, library: Library, resource: MediaResource
    ) -> None:
        def check(current: MediaResource) -> None:
            if current.caption is not None:
                raise PreconditionFailed

        async def change(number: int) -> bool:
            try:
                await library.service.change(resource.id, Change(caption=f"{number}"), check=check)
            except PreconditionFailed:
                return False
            return True

        assert sum(await asyncio.gather(*map(change, range(10)))) == 1

    @pytest.mark.pairs
    async def test_of_ten_enrichers_that_race_the_first_value_of_each_field_stands(
        self, library: Library, resource: MediaResource
    ) -> None:
        others = [Library(library.meddled.storage, library.config) for _ in range(10)]
        for other in others:
            await other.database.rows()
        start = asyncio.Barrier(10)

        async def enrich(number: int) -> MediaResource:
            await start.wait()
            service, found = others[number].service, resource
            for at in range(len(FACTS)):  # each in another order
                name = FACTS[(at + number) % len(FACTS)]
                value: object = float(number + 1) if name == "duration" else f"{number}"
                change = Change(**{name: value})
                found = await service.change(resource.id, change, only_unset=True)
                assert getattr(found, name) is not None
            await service.change_tags(resource.id, lambda tags: tags | {f"tag {number}"})
            return found

        answers = await asyncio.gather(*map(enrich, range(10)))

        after = await library.service.find(resource.id)
        for answer in answers:
            assert [getattr(answer, name) for name in FACTS] == [
                getattr(after, name) for name in FACTS
            ]
        assert after.tags == tuple(f"tag {number}" for number in range(10))
        for other in others:
            await other.database.close()

    # Tags

    async def test_tags_are_added_replaced_and_removed(
        self, library: Library, resource: MediaResource
    ) -> None:
        async def change(wanted: Callable[[frozenset[str]], frozenset[str]]) -> list[str]:
            return list(await library.service.change_tags(resource.id, wanted))

        assert await change(lambda tags: tags | {"b", "Katze 🐈"}) == ["Katze 🐈", "b"]
        assert await change(lambda tags: tags | {"b", "a"}) == ["Katze 🐈", "a", "b"]
        assert await change(lambda tags: tags - {"a", "none"}) == ["Katze 🐈", "b"]
        assert (await library.service.find(resource.id)).tags == ("Katze 🐈", "b")
        assert await change(lambda _: frozenset("x")) == ["x"]
        assert await change(lambda _: frozenset()) == []
        assert await library.service.find(resource.id) == resource
        with pytest.raises(ResourceNotFound):
            await library.service.change_tags(new_id(), lambda tags: tags)

    @pytest.mark.pairs
    async def test_tags_that_are_added_at_once_are_never_too_many_and_none_is_lost(
        self, library: Library, resource: MediaResource
    ) -> None:
        async def add(number: int) -> frozenset[str]:
            added = frozenset(f"{number} {at}" for at in range(10))
            try:
                await library.service.change_tags(resource.id, lambda tags: tags | added)
            except InvalidParameter:
                return frozenset()
            return added

        added = await asyncio.gather(*map(add, range(8)))

        found = set((await library.service.find(resource.id)).tags)
        assert found == frozenset().union(*added)
        assert len(found) == 50

    async def test_pages_are_filtered_by_tags(self, library: Library) -> None:
        made = []
        for number, has in enumerate(({"a", "b"}, {"a"}, {"b", "a b"}, set[str]())):
            await library.save("a.png", picture(number))
            made.append((await library.ingest("a.png")).id)
            await library.service.change_tags(made[-1], frozenset(has).union)

        async def found(**query: Any) -> list[int]:
            page = await library.service.page(ResourceQuery(**query))
            return sorted(made.index(one.id) for one in page.resources)

        assert await found(tags=["a"]) == [0, 1]
        assert await found(tags=["a", "b"]) == [0]
        assert await found(without_tags=["a"]) == [2, 3]
        assert await found(tags=["b"], without_tags=["a"]) == [2]
        assert await found(tags=["a"], without_tags=["a"]) == await found(tags=["none"]) == []
        assert await found(tags=["a"], limit=1) == [1]
        assert await found(tags=["a"], limit=1, after=made[1]) == [0]

    async def test_tags_stay_with_a_resource_that_is_revived_and_go_with_one_that_is_swept(
        self, library: Library, resource: MediaResource
    ) -> None:
        await library.service.change_tags(resource.id, lambda _: frozenset({"a"}))
        await library.service.delete(resource.id)
        with pytest.raises(ResourceNotFound):
            await library.service.change_tags(resource.id, lambda _: frozenset())

        assert (await library.ingest("a.png")).tags == ("a",)

        await library.service.delete(resource.id)
        make_due(library)
        await library.sweep()
        assert library.table(tags) == library.table(resources) == []

    async def test_a_folder_sees_nothing_that_was_added_to_anothers_resource(
        self, library: Library
    ) -> None:
        await library.save("theirs/a.png", picture())
        theirs = await library.ingest("theirs/a.png")
        change = Change(width=1, color_profile="theirs", dominant_color=COLOR, duration=1.0)
        await library.service.change(theirs.id, change)
        await library.service.change_tags(theirs.id, lambda _: frozenset({"theirs"}))
        await library.save("ours/a.png", picture())

        seen = await library.ingest("ours/a.png", within=OURS)

        assert (seen.id, seen.width, seen.color_profile) == (theirs.id, 24, None)
        assert (seen.dominant_color, seen.duration, seen.tags) == (None, None, ())

    # Healing

    async def test_an_ingest_asks_for_the_colour_and_does_not_wait_for_it(
        self, library: Library, resource: MediaResource
    ) -> None:
        assert resource.dominant_color is None
        assert await healer(library).waiting() == 1

        assert await healer(library).heal() == {Outcome.FILLED: 1}

        assert (await library.service.find(resource.id)).dominant_color == COLOR
        assert library.table(healing) == []
        assert await healer(library).ask() == 0

    async def test_a_colour_that_was_set_meanwhile_stands(
        self, library: Library, resource: MediaResource
    ) -> None:
        class Slow(Painter):
            async def dominant_color(self, original: OpenedImage) -> str | None:
                change = Change(dominant_color="#000000")
                await library.service.change(resource.id, change, only_unset=True)
                return await super().dominant_color(original)

        assert await healer(library, Slow()).heal() == {Outcome.FILLED: 1}

        assert (await library.service.find(resource.id)).dominant_color == "#000000"

    async def test_what_cannot_be_decoded_is_tried_again_only_if_it_is_asked_for(
        self, library: Library, resource: MediaResource
    ) -> None:
        painter = Painter(UnsupportedMedia("broken"))

        assert await healer(library, painter).heal() == {Outcome.UNFILLED: 1}
        assert await healer(library, painter).heal() == {}
        assert (library.table(healing), painter.asked) == ([], 1)

        assert await healer(library, painter).ask([resource.id, new_id()]) == 1
        assert await healer(library, painter).heal() == {Outcome.FILLED: 1}

    async def test_a_type_that_is_never_decoded_costs_no_read(
        self, library: Library, resource: MediaResource
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
        self, library: Library, resource: MediaResource
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
        self, library: Library, resource: MediaResource
    ) -> None:
        rows = (await library.database.rows()).healing
        for attempt in range(1, MAX_ATTEMPTS + 1):
            claimed = await rows.claim(limit=10, lease=timedelta(minutes=10))
            assert [(job.resource.id, job.attempts) for job in claimed.jobs] == [
                (resource.id, attempt)
            ]
            assert await healer(library).heal() == {}, "while the lease holds"
            let_healing_be_due(library)

        assert await healer(library).heal() == {Outcome.GIVEN_UP: 1}
        assert library.table(healing) == []

    async def test_what_has_lost_its_bytes_or_is_deleted_is_no_more_work(
        self, library: Library
    ) -> None:
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
    async def test_of_several_healers_each_does_something_else(self, library: Library) -> None:
        for number in range(12):
            await library.save(f"{number}.png", picture(number))
            await library.ingest(f"{number}.png")
        painters = [Painter() for _ in range(3)]

        done = await asyncio.gather(*(healer(library, one).heal() for one in painters))

        assert sum(one.asked for one in painters) == 12
        assert sum(one[Outcome.FILLED] for one in done) == 12
        assert library.table(healing) == []

    async def test_a_healer_that_is_stopped_gives_back_what_it_has_claimed(
        self, library: Library, resource: MediaResource
    ) -> None:
        assert await healer(library).heal(lambda: True) == {}

        (row,) = library.table(healing)
        assert (row.resource_id, row.attempts) == (resource.id, 0)
        assert await healer(library).heal() == {Outcome.FILLED: 1}

    async def test_all_that_lacks_something_is_asked_for_page_by_page(
        self, library: Library, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("stillroom.media.healing._PAGE", 2)
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
        self, library: Library, resource: MediaResource
    ) -> None:
        await healer(library).heal()
        library.change(
            sa.update(resources).values(dominant_color=None, width=1, color_profile="known")
        )

        await healer(library).ask()
        await healer(library).heal()

        healed = await library.service.find(resource.id)
        assert (healed.dominant_color, healed.color_profile) == (COLOR, "known")
        assert healed.width == 1, "it is not null"

    async def test_a_video_of_an_older_version_gets_its_duration(self, library: Library) -> None:
        await library.save("a.mp4", Mp4(frames()).file())
        made = await library.ingest("a.mp4")
        library.change(sa.update(resources).values(duration=None))

        assert await healer(library).ask() == 1
        assert await healer(library).heal() == {Outcome.FILLED: 1}

        assert await library.service.find(made.id) == made

    async def test_the_colour_of_a_video_is_that_of_its_poster(self, library: Library) -> None:
        for number, name in enumerate(("moved", "kept", "bare", "broken")):
            await library.save(f"{name}.mp4", Mp4(frames()).file(before=8 + number))
            await library.ingest(f"{name}.mp4", relocate=name != "kept")
        for name in ("moved", "kept"):
            await library.save(f"{name}.mp4.poster.webp", picture())
        await library.save("broken.mp4.poster.webp", Mp4(frames()).file())  # no picture at all

        healed = await healer(library).heal()

        assert healed == {Outcome.FILLED: 2, Outcome.UNFILLED: 2}
        expected = {"moved": COLOR, "kept": COLOR, "bare": None, "broken": None}
        assert await self.colors(library) == expected
        await library.save("bare.mp4.poster.webp", picture())
        assert await healer(library).ask() == 2
        await healer(library).heal()
        assert await self.colors(library) == expected | {"bare": COLOR}

    async def colors(self, library: Library) -> dict[str, str | None]:
        """Of all videos, by the names of their sources."""
        page = await library.service.page(ResourceQuery())
        return {
            one.source_key.text.removeprefix("compute/").removesuffix(".mp4"): one.dominant_color
            for one in page.resources
            if one.source_key is not None
        }

    async def test_a_resource_says_whether_ai_made_it_and_keeps_its_manifest(
        self, library: Library
    ) -> None:
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
        self, library: Library
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

    # The deadline of an ingest

    @pytest.mark.parametrize("when", ["before_copy", "after_copy"])
    async def test_an_ingest_that_takes_too_long_is_given_up_and_what_it_copied_is_remembered(
        self, library: Library, when: str
    ) -> None:
        hangs = asyncio.Event()

        async def hang() -> None:
            hangs.set()
            await asyncio.Event().wait()

        await library.save("a.png", picture())
        setattr(library.meddled, when, hang)

        for patience in (0.7, 3, 12, 48):  # on a slow machine the deadline may come before that
            deadline = asyncio.get_running_loop().time() + patience
            with pytest.raises(BackendUnavailable, match="too long"):
                await library.service.ingest_from_storage_key("compute/a.png", deadline=deadline)
            if hangs.is_set():
                break
            make_due(library)
            await library.sweep()

        (intent,) = library.table(intents)
        copied = [] if when == "before_copy" else [intent.media_key.text]
        assert await library.media_keys() == copied
        assert library.marked() == library.table(resources) == []
        setattr(library.meddled, when, None)
        kept = await library.ingest("a.png")
        make_due(library)
        await library.sweep()
        assert await library.media_keys() == [kept.storage_key.text]
