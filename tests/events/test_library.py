"""Events about the media library, runs, due deletions and dead letters."""

from datetime import timedelta

import pytest

from events.feed import Feed
from media.library import GRACE, Library, key, make_due
from pictures import picture
from stillroom.errors import BackendUnavailable, StillroomError
from stillroom.features.database.clock import now
from stillroom.features.database.config import RowsConfig
from stillroom.features.events.event import Event
from stillroom.features.library import sweeper
from stillroom.features.library.resource import EXPIRED, Change
from stillroom.features.runs.database import report_runs
from stillroom.features.runs.deletion import RunDeletions
from stillroom.features.runs.service import Runs
from stillroom.paths import ImagePath
from stillroom.store.causes import Cause, caused_by

RUN = ImagePath.parse("runs/7")
INGESTED = ("media.ingested", "a.png")
SAVED = ("image.saved", "a.png")
USER = Cause("user-7")


@pytest.fixture
async def library(feed: Feed, config: RowsConfig) -> Library:
    """A library whose transactions add events."""
    library = Library(feed.storage, config)
    library.database = feed.database
    library.service = library.another()
    await library.database.rows()
    return library


def reasons(events: list[Event]) -> list[str]:
    return [event.reason for event in events if event.reason is not None]


async def test_a_resource_is_ingested_changed_and_deleted(feed: Feed, library: Library) -> None:
    await feed.save("a.png", picture())
    await feed.becomes(SAVED)
    with caused_by(USER):
        resource = await library.ingest("a.png")
        await library.service.change(resource.id, Change(caption="a cat"))
        await library.service.change(resource.id, Change(caption="a cat"))
        await library.service.change_tags(resource.id, lambda _: frozenset({"cat"}))
        await library.service.change_tags(resource.id, lambda _: frozenset({"cat"}))
        await library.service.delete(resource.id)
    changed = ("media.changed", "a.png")
    found = await feed.becomes(SAVED, INGESTED, changed, changed)

    assert {event.actor for event in found[1:]} == {"user-7"}
    assert found[1].as_json()["data"] == {
        "id": str(resource.id),
        "path": "a.png",
        "storage_key": resource.storage_key.text,
    }

    make_due(library)
    await library.sweep()

    found = await feed.becomes(
        SAVED, INGESTED, changed, changed, ("image.deleted", "a.png"), ("media.deleted", "a.png")
    )
    assert reasons(found) == ["relocated"]
    assert found[-1].resource_id == resource.id
    assert found[-1].data == {"storage_key": resource.storage_key.text}


async def test_the_same_bytes_ingested_again_are_no_event(feed: Feed, library: Library) -> None:
    await feed.save("a.png", picture())
    await feed.becomes(SAVED)
    await library.ingest("a.png")
    await library.ingest("a.png")

    await feed.becomes(SAVED, INGESTED)


async def test_the_same_bytes_saved_and_recorded_again_are_no_change_of_the_resource(
    feed: Feed, library: Library
) -> None:
    await feed.save("a.png", picture())
    await feed.becomes(SAVED)
    await library.ingest("a.png", relocate=False)
    await feed.save("a.png", picture())
    await feed.becomes(SAVED, INGESTED, SAVED)

    await library.ingest("a.png", relocate=False)

    await feed.becomes(SAVED, INGESTED, SAVED)


async def test_a_resource_that_is_ingested_after_its_deletion_is_an_event_again(
    feed: Feed, library: Library
) -> None:
    await feed.save("a.png", picture())
    await feed.becomes(SAVED)
    resource = await library.ingest("a.png")
    await library.service.delete(resource.id)
    await library.ingest("a.png")

    await feed.becomes(SAVED, INGESTED, INGESTED)


async def test_a_resource_without_a_copy_is_deleted_at_once(feed: Feed, library: Library) -> None:
    await feed.save("a.png", picture())
    await feed.becomes(SAVED)
    resource = await library.ingest("a.png", relocate=False)
    await library.service.delete(resource.id)

    await feed.becomes(SAVED, INGESTED, ("media.deleted", "a.png"))


async def test_an_image_that_expires_is_deleted_once(feed: Feed, library: Library) -> None:
    await feed.save("a.png", picture())
    await feed.becomes(SAVED)
    rows = await library.database.rows()
    image = await feed.storage.stat(key("a.png"))
    await rows.deletions.mark_save(image, EXPIRED, now() - timedelta(minutes=1))

    await library.sweep()
    await feed.save("b.png")

    found = await feed.becomes(SAVED, ("image.deleted", "a.png"), ("image.saved", "b.png"))
    assert reasons(found) == ["expired"]
    assert not found[1].found


async def test_an_expired_image_whose_sweeper_crashed_has_its_reason(
    feed: Feed, library: Library
) -> None:
    await feed.save("a.png", picture())
    await feed.becomes(SAVED)
    rows = await library.database.rows()
    image = await feed.storage.stat(key("a.png"))
    await rows.deletions.mark_save(image, EXPIRED, now() - timedelta(minutes=1))
    feed.filling._is_running = False  # the index does not hear of the deletion
    await feed.storage.delete(key("a.png"))
    feed.filling._is_running = True

    await library.sweep()

    found = await feed.becomes(SAVED, ("image.deleted", "a.png"))
    assert reasons(found) == ["expired"]


async def test_a_deletion_that_fails_for_good_is_an_event(
    feed: Feed, library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fails(_: object) -> None:
        raise BackendUnavailable("the disk is away")

    await feed.save("a.png", picture())
    await feed.becomes(SAVED)
    rows = await library.database.rows()
    image = await feed.storage.stat(key("a.png"))
    await rows.deletions.mark_save(image, EXPIRED, now() - timedelta(minutes=1))
    monkeypatch.setattr(sweeper, "MAX_ATTEMPTS", 1)
    library.meddled.before_delete = fails

    await library.sweep()

    found = await feed.becomes(SAVED, ("deletion.failed", "a.png"))
    assert found[-1].as_json()["data"] == {
        "id": None,
        "path": "a.png",
        **found[-1].data,
    }
    assert found[-1].data["storage_key"] == "compute/a.png"
    assert found[-1].data["error"] == "the disk is away"


async def test_a_run_is_published_once_and_deleted(feed: Feed, library: Library) -> None:
    runs = Runs(library.seen, library.database)
    deletions = RunDeletions(library.seen, library.database, grace=GRACE)
    await feed.save("runs/7/1.png", picture())
    saved = ("image.saved", "runs/7/1.png")
    await feed.becomes(saved)

    with caused_by(USER):
        for _ in range(2):
            (await runs.publish(RUN, None)).close()
    found = await feed.becomes(saved, ("run.published", "runs/7"))
    assert found[-1].data == {"count": 1}
    with caused_by(USER):
        await deletions.delete(RUN)
    make_due(library)
    await library.sweep()

    found = await feed.becomes(
        saved,
        ("run.published", "runs/7"),
        ("run.deleted", "runs/7"),
        ("image.deleted", "runs/7/1.png"),
    )
    assert [event.actor for event in found[1:3]] == ["user-7", "user-7"]
    assert found[2].data == {"count": 1}
    assert reasons(found) == ["run"]

    await feed.save("runs/7/1.png", picture())
    (await runs.publish(RUN, None)).close()
    assert (await feed.becomes_many(6))[-1].type in {"run.published", "image.saved"}


async def test_a_publication_that_a_crash_did_not_report_is_reported_by_the_next_request(
    feed: Feed, library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = Runs(library.seen, library.database)
    await feed.save("runs/7/1.png", picture())
    saved = ("image.saved", "runs/7/1.png")
    await feed.becomes(saved)

    async def away(*_: object) -> None:
        raise BackendUnavailable("away")

    with monkeypatch.context() as patched:
        patched.setattr("stillroom.features.runs.rows.RunRows.note_publication", away)
        with pytest.raises(StillroomError):
            await runs.publish(RUN, None)
    assert await runs.is_published(RUN)
    (await runs.publish(RUN, None)).close()

    await feed.becomes(saved, ("run.published", "runs/7"))


async def test_an_image_names_the_published_run_that_contains_it(
    feed: Feed, library: Library
) -> None:
    report_runs(await feed.database.engine())
    await feed.save("runs/7/1.png", picture())
    await feed.becomes(("image.saved", "runs/7/1.png"))
    (await Runs(library.seen, library.database).publish(RUN, None)).close()
    await feed.becomes_many(2)

    await feed.save("runs/7/a/b.png", picture())
    await feed.becomes_many(3)
    await feed.save("runs/70.png", picture())

    images = [event for event in await feed.becomes_many(4) if event.type == "image.saved"]
    assert [event.data["run"] for event in images] == [None, "runs/7", None]
