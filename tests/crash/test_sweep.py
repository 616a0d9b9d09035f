"""SIGKILL before and after each change of a sweep: nothing live goes, nothing is forgotten."""

import itertools

import pytest

from crash.scene import Scene
from media.expiring import expiring, let_it_be_time
from media.library import bury_by_hand, is_there, key, left_copy, make_due
from pictures import picture
from stillroom.features.library.rows.tables import dead_letters, deletions, intents, resources
from stillroom.features.library.sweeper import Swept
from stillroom.features.retention.expiry import never_stops

pytestmark = [pytest.mark.slow]  # a process for each point


async def test_a_sweep_killed_anywhere_is_made_good_by_the_next_one(scene: Scene) -> None:
    library = scene.library
    await library.database.rows()
    with scene.launcher() as launcher:
        for number in itertools.count(1):
            source, again, deleted = f"{number}/a.png", f"{number}/b.png", f"{number}/c.png"
            live = picture(number)
            await library.save(source, live)
            copied = await left_copy(library, source=source)
            kept = await library.ingest(source)
            await library.save(again, live)
            await library.ingest(again)
            await library.save(again, live)
            await library.save(deleted, picture(10_000 + number))
            gone = await library.ingest(deleted)
            await library.service.delete(gone.id)
            make_due(library)
            if not launcher.killed(number, "sweep"):
                break

            await library.check()
            assert await library.read(kept.storage_key) == live
            assert await library.read(key(again)) == live
            assert await library.ingest(again) == kept  # an ingest in between changes nothing
            await library.save(again, live)
            make_due(library)

            swept = await library.sweep()

            assert (swept.failed, swept.dead_lettered) == (0, 0)
            await library.check()
            for where in (key(source), key(deleted), gone.storage_key, copied):
                assert not await is_there(library, where)
            assert await library.read(kept.storage_key) == live
            assert await library.read(key(again)) == live
            for table in (deletions, intents, dead_letters):
                assert library.table(table) == []
            assert len(library.table(resources)) == number
    assert number == launcher.points + 1 > 15
    await library.check()


async def test_a_search_for_what_has_expired_goes_on_where_it_was_killed(scene: Scene) -> None:
    library = scene.library
    await library.database.rows()
    with scene.launcher() as launcher:
        for number in itertools.count(1):
            saved = [await library.save(f"{number}/{at}.png", picture()) for at in range(5)]
            await library.save(f"{number}/here.png", picture(number))
            recorded = await library.ingest(f"{number}/here.png", relocate=False)
            if not launcher.killed(number, "expire"):
                break

            let_it_be_time(library)
            await expiring(library).mark_expired(never_stops)  # and sweeps by that rule

            assert library.marked() == sorted((image.key.text, image.save_id) for image in saved)
            make_due(library)
            assert (await library.sweep()).deleted == 5
            await library.check()
            assert await library.read(recorded.storage_key) == picture(number)
            await library.service.delete(recorded.id)
            await library.meddled.storage.delete(recorded.storage_key)  # else there is ever more
    assert number == launcher.points + 1 > 8


async def test_commands_that_sweep_at_once_delete_everything_once(scene: Scene) -> None:
    library = scene.library
    for number in range(50):
        await library.save(f"{number}.png", picture())
        resource = await library.ingest(f"{number}.png")
    make_due(library)

    running = [scene.start("sweep") for _ in range(3)]
    printed = [process.communicate(timeout=300) for process in running]

    assert [process.returncode for process in running] == [0] * 3, printed
    assert sum(int(out.split()[1].rstrip(",")) for out, _ in printed) == 50
    assert await library.read(resource.storage_key) == picture()
    assert await library.sweep() == Swept()


async def test_a_dry_run_says_what_is_due_and_deletes_nothing(scene: Scene) -> None:
    library = scene.library
    await library.save("a.png", picture())
    await library.ingest("a.png")
    make_due(library)

    process = scene.start("sweep", "--dry-run")
    out, errors = process.communicate(timeout=300)

    assert (process.returncode, errors) == (0, "")
    assert out.split()[1:] == ["relocated", "compute/a.png"]
    assert await is_there(library, key("a.png"))


async def test_dead_letters_on_the_command_line(scene: Scene) -> None:
    library = scene.library
    await library.database.rows()
    saved = await library.save("a.png", picture())
    first = bury_by_hand(library, key("a.png"), saved.save_id)
    second = bury_by_hand(library, key("b.png"), "x")

    def run(*arguments: str) -> tuple[int, str]:
        process = scene.start("dead-letters", *arguments)
        out, _ = process.communicate(timeout=300)
        return process.returncode, out

    status, out = run("list")
    assert status == 0
    assert [line.split()[0] for line in out.splitlines()] == [str(second), str(first)]
    assert out.splitlines()[1].endswith("expired  compute/a.png  403")
    assert run("retry") == run("retry", "--all", str(first)) == (2, "")
    assert run("retry", str(first)) == (0, f"{first}  compute/a.png\n")
    assert run("retry", str(first)) == (1, "")
    assert run("drop", "--all") == (0, f"{second}  compute/b.png\n")
    assert run("list") == (0, "")
    assert await library.sweep() == Swept(deleted=1)
