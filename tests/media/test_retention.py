"""Rules of retention end what they say and nothing else, on the pairs of `conftest.py`."""

import re
from datetime import timedelta

import pytest

from media.library import is_there, key
from media.retaining import (
    DAY,
    LAST_TWO,
    WEEK,
    RetainingLibrary,
    library_in_small_pages,
    named,
    paths,
    runs_of,
)
from pictures import picture
from stillroom.features.database import clock
from stillroom.features.database.clock import now
from stillroom.features.library.rows.tables import deletions
from stillroom.features.library.sweeper import Swept
from stillroom.features.retention.lifetimes import Lifetimes
from stillroom.features.retention.rules import COMPUTE_TTL, Rule
from stillroom.paths import ImagePath, StorageKey

library = library_in_small_pages


@pytest.mark.pairs
async def test_the_plan_says_what_goes_and_then_that_goes(
    library: RetainingLibrary, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in ("a.png", "tmp/1.png", "tmp/2.png", "tmp/best/3.png", "tmpfs.png", "z/1.png"):
        await library.save(path, picture())
    await library.ingest("tmp/2.png", relocate=False)
    library.by(
        WEEK,
        Rule("rule 2", "tmp/best/", keep=True),
        Rule("rule 3", "z/", expire_after=9 * DAY),
        Rule("rule 4", "z", expire_after=8 * DAY),
        Rule(COMPUTE_TTL, "", expire_after=30 * DAY),
    )
    assert await library.planned() == []
    library.later(monkeypatch, 8.5 * DAY)

    planned = await library.planned()

    assert paths(planned) == ["tmp/1.png", "z/1.png"]
    assert [one.expiration.rule.name for one in planned] == ["rule 1", "rule 4"]
    for one, days in zip(planned, (7, 8), strict=True):
        assert one.expiration.at - days * DAY == pytest.approx(now(), abs=timedelta(minutes=1))
        assert (one.run, one.due_at) == (None, None)
    assert library.marked() == []
    assert await library.round() == 2
    assert named(library.marked()) == paths(planned)
    again = await library.planned()
    assert paths(again) == paths(planned)
    assert all(one.due_at is not None for one in again)
    assert await library.sweep() == Swept()
    assert await library.swept_after_grace(monkeypatch) == Swept(deleted=2)
    library.later(monkeypatch, 31 * DAY)
    assert paths(await library.planned()) == ["a.png", "tmpfs.png"]


@pytest.mark.pairs
async def test_a_scan_by_other_rules_than_the_last_one_is_due_at_once(
    library: RetainingLibrary, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "stillroom.media")
    await library.save("z/1.png", picture())
    library.later(monkeypatch, 8.5 * DAY)

    assert await library.marked_by(WEEK) == 0
    assert await library.marked_by(WEEK) == 0
    first, second = caplog.messages
    assert first == "retention: a scan is due now"
    at = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ \(in 6:59:\d\d\)"
    assert re.fullmatch(f"retention: the next scan is at {at}", second)
    assert await library.marked_by(WEEK, Rule("rule 2", "z/", expire_after=8 * DAY)) == 1
    assert caplog.messages[2] == "retention: a scan is due now"
    assert await library.marked_by(WEEK) == 0
    assert caplog.messages[4] == "retention: a scan is due now"


@pytest.mark.pairs
async def test_the_last_runs_stay_by_the_time_of_their_manifests(
    library: RetainingLibrary, monkeypatch: pytest.MonkeyPatch
) -> None:
    await runs_of(library, "runs/d", "runs/c", "other/b", "runs/a", "runs/e")
    await library.save("runs/open/1.png", picture())
    await library.ingest("runs/c/1.png", relocate=False)
    library.by(LAST_TWO)

    planned = await library.planned()

    assert paths(planned) == ["runs/c/2.png", "runs/d/1.png", "runs/d/2.png"]
    assert {one.run for one in planned} == {ImagePath("runs/c"), ImagePath("runs/d")}
    assert await library.round() == 3
    assert named(library.marked()) == paths(planned)
    gone = {folder: await library.has_manifest(f"runs/{folder}") for folder in "acde"}
    assert gone == {"a": True, "c": False, "d": False, "e": True}
    assert await library.has_manifest("other/b")
    assert await library.swept_after_grace(monkeypatch) == Swept(deleted=3)
    assert await library.planned() == []


async def test_beyond_the_last_runs_others_have_their_time(
    library: RetainingLibrary, monkeypatch: pytest.MonkeyPatch
) -> None:
    await runs_of(library, "runs/1", "runs/2", "runs/3")
    await library.save("runs/open.png", picture())
    library.by(
        Rule("rule 1", "runs/", keep_last_runs=2, expire_after=7 * DAY),
        Rule(COMPUTE_TTL, "", expire_after=DAY),
    )
    library.later(monkeypatch, 2 * DAY)
    # One rule says that the last two stay, so they stay; by the other the first one has ended.
    assert paths(await library.planned()) == ["runs/1/1.png", "runs/1/2.png", "runs/open.png"]

    library.by(Rule("rule 1", "runs/", keep_last_runs=2, expire_after=7 * DAY))
    assert await library.planned() == []
    library.later(monkeypatch, 8 * DAY)
    assert paths(await library.planned()) == ["runs/1/1.png", "runs/1/2.png", "runs/open.png"]
    assert await library.round() == 3


@pytest.mark.pairs
async def test_what_is_tagged_stays_and_the_run_that_it_came_from(
    library: RetainingLibrary, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path, seed in (("1.png", 1), ("copy of 2.png", 2), ("3.png", 3), ("4.png", 4)):
        await library.save(f"tmp/{path}", picture(seed))
    await runs_of(library, "tmp/a", "tmp/b", "tmp/c")
    await library.save("tmp/b/late.png", picture(5))
    await library.save("elsewhere.png", picture(2))
    rows = await library.database.rows()
    for path, tag in (
        ("elsewhere.png", "keep"),  # the bytes of one image, and of a run
        ("tmp/b/late.png", "best"),  # relocated: it is in the run no more
        ("tmp/3.png", "other"),
    ):
        resource = await library.ingest(path)
        await rows.tags.change(resource.id, lambda _, tag=tag: frozenset({tag}))  # type: ignore[misc]  # bound now
    deleted = await library.ingest("tmp/4.png")
    await rows.tags.change(deleted.id, lambda _: frozenset({"keep"}))
    await library.service.delete(deleted.id)
    library.by(
        Rule("rule 1", "tmp/", expire_after=7 * DAY, unless_tagged=frozenset({"keep", "best"}))
    )
    library.later(monkeypatch, 8 * DAY)

    planned = paths(await library.planned())

    run = [f"tmp/{folder}/{n}.png" for folder in "a" for n in (1, 2)]
    assert planned == ["tmp/1.png", "tmp/3.png", "tmp/4.png", *run]
    await library.round()
    assert await library.has_manifest("tmp/b")
    assert await library.has_manifest("tmp/c"), "it has the bytes of a resource that is tagged"
    assert not await library.has_manifest("tmp/a")


async def test_what_a_rule_keeps_in_a_run_keeps_the_run(
    library: RetainingLibrary, monkeypatch: pytest.MonkeyPatch
) -> None:
    await runs_of(library, "tmp/a", "tmp/b")
    library.by(
        WEEK, Rule("rule 2", "tmp/a/2", keep=True), Rule("rule 3", "tmp/b/", expire_after=DAY)
    )
    library.later(monkeypatch, 8 * DAY)

    assert paths(await library.planned()) == ["tmp/b/1.png", "tmp/b/2.png"]
    assert await library.round() == 2


async def test_a_rule_about_a_part_of_a_published_run_ends_nothing_in_it(
    library: RetainingLibrary, monkeypatch: pytest.MonkeyPatch
) -> None:
    await runs_of(library, "tmp/a")
    await library.save("tmp/a/late/3.png", picture())
    library.by(
        Rule("rule 1", "tmp/a/", expire_after=90 * DAY), Rule("rule 2", "tmp/a/1", expire_after=DAY)
    )
    library.later(monkeypatch, 8 * DAY)

    assert await library.planned() == []
    assert await library.round() == 0


@pytest.mark.pairs
async def test_before_it_is_deleted_the_rules_are_asked_again(
    library: RetainingLibrary, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(4):
        await library.save(f"tmp/{number}.png", picture(number))
    await library.save("tmp/run/1.png", picture(10))
    tagged = Rule("rule 1", "tmp/", expire_after=7 * DAY, unless_tagged=frozenset({"keep"}))
    library.by(tagged)
    library.later(monkeypatch, 8 * DAY)
    assert await library.round() == 5
    await library.publish("tmp/run")
    await library.save("elsewhere.png", picture(1))
    resource = await library.ingest("elsewhere.png")
    await library.save("tmp/2.png", picture(2))
    rows = await library.database.rows()
    await rows.tags.change(resource.id, lambda _: frozenset({"keep"}))

    swept = await library.swept_after_grace(monkeypatch)

    # Deleted: 0, 3 and what was relocated. Kept: the tagged, the new and the published one.
    assert (swept.deleted, swept.kept) == (3, 3)
    for path in ("tmp/1.png", "tmp/2.png", "tmp/run/1.png"):
        assert await is_there(library, key(path))


async def test_a_rule_that_is_removed_while_its_marks_are_due_deletes_nothing(
    library: RetainingLibrary, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in "abcd":
        await library.save(f"tmp/{name}.png", picture())
    library.by(WEEK)
    library.later(monkeypatch, 8 * DAY)
    assert await library.round() == 4
    monkeypatch.setattr(library, "expiry", None)

    assert await library.swept_after_grace(monkeypatch) == Swept(kept=4)
    assert library.marked() == []

    library.by(WEEK)
    assert await library.round() == 4
    library.by(
        Rule("rule 1", "tmp/", expire_after=30 * DAY), Rule("rule 2", "tmp/a", expire_after=DAY)
    )
    assert await library.swept_after_grace(monkeypatch) == Swept(deleted=1, kept=3)


@pytest.mark.pairs
@pytest.mark.parametrize("relocate", [True, False])
async def test_an_ingest_one_second_before_the_end_keeps_the_bytes(
    library: RetainingLibrary, monkeypatch: pytest.MonkeyPatch, *, relocate: bool
) -> None:
    await library.save("tmp/a.png", picture())
    library.by(WEEK)
    library.later(monkeypatch, 8 * DAY)
    await library.round()
    (mark,) = library.table(deletions)
    before = (mark.due_at - timedelta(seconds=1)).timestamp()
    stands_still = clock.Clock(wall=lambda: before, steady=lambda: 0.0)
    monkeypatch.setattr(clock, "CLOCK", stands_still)
    assert await library.sweep() == Swept()

    resource = await library.ingest("tmp/a.png", relocate=relocate)
    await library.round()
    await library.swept_after_grace(monkeypatch)

    assert await library.read(resource.storage_key) == picture()
    assert await is_there(library, key("tmp/a.png")) is not relocate


async def test_what_is_saved_over_an_expiring_image_stays(
    library: RetainingLibrary, monkeypatch: pytest.MonkeyPatch
) -> None:
    await library.save("tmp/a.png", picture())
    library.by(WEEK)
    library.later(monkeypatch, 8 * DAY)
    await library.round()

    async def saved_again(_: StorageKey) -> None:
        library.meddled.before_delete = None
        await library.save("tmp/a.png", picture(2))

    library.meddled.before_delete = saved_again  # behind the last question to the rules
    assert await library.swept_after_grace(monkeypatch) == Swept(kept=1)
    assert await library.read(key("tmp/a.png")) == picture(2)


async def test_an_image_says_when_it_is_expected_to_go(library: RetainingLibrary) -> None:
    saved = await library.save("tmp/a.png", picture())
    await runs_of(library, "tmp/run", "runs/1")
    image = await library.meddled.storage.stat(key("tmp/run/1.png"))
    assert await library.retention.expected_expiration(saved) is None
    library.by(WEEK, LAST_TWO)
    for found in (saved, image):
        assert await library.retention.expected_expiration(found) == pytest.approx(
            now() + 7 * DAY, abs=timedelta(minutes=1)
        )
    counted = await library.meddled.storage.stat(key("runs/1/1.png"))
    assert await library.retention.expected_expiration(counted) is None, "it depends on newer runs"
    await Lifetimes(library.database).end(saved, DAY)
    assert await library.retention.expected_expiration(saved) == pytest.approx(
        now() + DAY, abs=timedelta(minutes=1)
    )
    await library.ingest("tmp/run/1.png", relocate=False)
    assert await library.retention.expected_expiration(image) is None


@pytest.mark.parametrize("days", [None, 30])
async def test_an_image_that_relaxed_rules_keep_does_not_show_its_former_deletion(
    library: RetainingLibrary,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    days: int | None,
) -> None:
    saved = await library.save("tmp/a.png", picture())
    library.by(WEEK)
    library.later(monkeypatch, 8 * DAY)
    assert await library.round() == 1
    assert await library.retention.expected_expiration(saved) == pytest.approx(
        now() + 7 * DAY, abs=timedelta(minutes=1)
    )

    library.by(*([] if days is None else [Rule("rule 1", "tmp/", expire_after=days * DAY)]))

    expected = days and pytest.approx(now() + days * DAY, abs=timedelta(minutes=1))
    assert await library.retention.expected_expiration(saved) == expected
    caplog.set_level("INFO", "stillroom.media")
    assert await library.swept_after_grace(monkeypatch) == Swept(kept=1)
    assert caplog.messages == ["kept 'compute/tmp/a.png' (rule): the retention rules now keep it"]
