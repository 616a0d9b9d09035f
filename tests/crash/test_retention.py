"""SIGKILL before and after each change of a retention round, and of the sweep that follows it."""

import itertools

import pytest
import sqlalchemy as sa

from crash.rules import rules_about
from crash.scene import Scene
from media.expiring import by_rules, let_it_be_time
from media.library import GRACE, is_there, key, make_due
from pictures import picture
from stillroom.features.database.clock import now
from stillroom.features.library.rows.tables import deletions
from stillroom.features.library.sweeper import Sweeper
from stillroom.features.retention.expiry import never_stops
from stillroom.features.runs.deletion import RunDeletions
from stillroom.features.runs.service import Runs
from stillroom.features.runs.tables import run_deletions
from stillroom.paths import ImagePath

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]  # a process for each point


async def filled(scene: Scene, folder: str) -> tuple[list[str], list[str]]:
    """Images and runs under the rules of `killed_at.py`: what should go, and what should stay."""
    gone = [f"{folder}/runs/1/{at}.png" for at in range(3)]
    gone += [f"{folder}/tmp/{at}.png" for at in range(3)]
    stay = [f"{folder}/runs/2/0.png", f"{folder}/tmp/best/0.png", f"{folder}/other.png"]
    stay.append(f"{folder}/tmp/recorded.png")
    for number, path in enumerate(gone + stay):
        await scene.library.save(path, picture(number))
    await scene.library.ingest(stay[-1], relocate=False)
    runs = Runs(scene.library.meddled.storage, scene.library.database)
    for run in (1, 2):
        (await runs.publish(ImagePath(f"{folder}/runs/{run}"), None)).close()
    return gone, stay


def sweeper(scene: Scene, folder: str) -> Sweeper:
    """One that goes on with deletions of runs, and asks the rules."""
    library = scene.library
    storage, database = library.meddled.storage, library.database
    return Sweeper(
        storage,
        database,
        still_holds=by_rules(library, *rules_about(folder)).still_holds,
        resume=RunDeletions(storage, database, grace=GRACE).resume,
    )


async def check_and_clear(scene: Scene, folder: str, gone: list[str], stay: list[str]) -> None:
    library = scene.library
    for path in gone:
        assert not await is_there(library, key(path)), path
    for number, path in enumerate(stay, len(gone)):
        assert await library.read(key(path)) == picture(number)
    runs = Runs(library.meddled.storage, library.database)
    assert not await runs.is_published(ImagePath(f"{folder}/runs/1"))
    assert await runs.is_published(ImagePath(f"{folder}/runs/2"))
    assert library.table(deletions) == library.table(run_deletions) == []
    await library.check()
    recorded = await library.ingest(stay[-1], relocate=False)
    await library.service.delete(recorded.id)
    make_due(library)
    await library.sweep()


async def test_a_round_that_is_killed_anywhere_is_gone_on_with(scene: Scene) -> None:
    library = scene.library
    await library.database.rows()
    with scene.launcher() as launcher:
        for number in itertools.count(1):
            folder = str(number)
            gone, stay = await filled(scene, folder)
            if not launcher.killed(number, "expire", folder):
                break

            marked = {name for name, _ in library.marked()}
            assert marked <= {key(path).text for path in gone}
            library.change(sa.update(run_deletions).values(lease_until=now()))
            let_it_be_time(library)
            sweeping = sweeper(scene, folder)
            await sweeping.sweep()
            assert library.expiry is not None
            await library.expiry.mark_expired(never_stops)

            assert {name for name, _ in library.marked()} == {key(path).text for path in gone}
            make_due(library)
            assert (await sweeping.sweep()).deleted == len(gone)
            await check_and_clear(scene, folder, gone, stay)
            let_it_be_time(library)
    assert number == launcher.points + 1 > 20


async def test_a_sweep_by_rules_that_is_killed_anywhere_is_made_good(scene: Scene) -> None:
    library = scene.library
    await library.database.rows()
    with scene.launcher() as launcher:
        for number in itertools.count(1):
            folder = str(number)
            gone, stay = await filled(scene, folder)
            sweeping = sweeper(scene, folder)
            assert library.expiry is not None
            let_it_be_time(library)
            await library.expiry.mark_expired(never_stops)
            await library.save(
                gone[-1], picture(len(gone) - 1)
            )  # it is old again by the next round
            make_due(library)
            if not launcher.killed(number, "sweep-by-rules", folder):
                break

            assert await library.read(key(gone[-1])) == picture(len(gone) - 1)
            make_due(library)
            await sweeping.sweep()
            assert library.table(deletions) == []
            let_it_be_time(library)
            assert await library.expiry.mark_expired(never_stops) == 1
            make_due(library)
            assert (await sweeping.sweep()).deleted == 1
            await check_and_clear(scene, folder, gone, stay)
    assert number == launcher.points + 1 > 10
