"""SIGKILL before and after each change of an ingest: nothing is lost, nothing is forgotten."""

import hashlib
import itertools
from typing import Any

import pytest

from crash.scene import Scene
from media.library import is_there, key, make_due
from pictures import picture
from stillroom.features.database.clock import now
from stillroom.features.database.migrations import HEAD
from stillroom.features.library.resource import EXPIRED
from stillroom.features.library.rows.tables import deletions, intents, resources

pytestmark = [pytest.mark.slow]  # a process for each point


async def test_an_ingest_killed_anywhere_is_made_good_by_the_next_one(scene: Scene) -> None:
    library = scene.library
    await library.database.rows()
    with scene.launcher() as launcher:
        for number in itertools.count(1):
            path, data = f"{number}.png", picture(number)
            saved = await library.save(path, data)
            if not launcher.killed(number, "ingest", path):
                break

            await library.check()
            assert await library.read(key(path)) == data
            if (key(path).text, saved.save_id) in library.marked():  # the copy is a resource's
                digest = hashlib.sha256(data).digest()
                assert digest in [row.content_hash for row in library.table(resources)]

            resource = await library.ingest(path)

            assert await library.read(resource.storage_key) == data
            assert (key(path).text, saved.save_id) in library.marked()
            assert len(library.table(resources)) == number
    await library.check()
    assert number == launcher.points + 1 > 5
    assert len(library.table(deletions)) == number


async def test_a_move_killed_anywhere_is_made_good_by_the_next_one(scene: Scene) -> None:
    library = scene.library
    await library.database.rows()
    with scene.launcher() as launcher:
        for number in itertools.count(1):
            path, data = f"{number}.png", picture(number)
            await library.save(path, data)
            recorded = await library.ingest(path, relocate=False)
            if not launcher.killed(number, "ingest", path):
                break

            await library.check()
            assert await library.read(key(path)) == data
            moved = await library.ingest(path)
            assert moved.id == recorded.id
            assert await library.read(moved.storage_key) == data
    await library.check()
    assert number == launcher.points + 1 > 5
    # Another mover may still be copying, so an intent stays until its lease is over.
    left: list[Any] = library.table(intents)
    moved_to: list[Any] = library.table(resources)
    assert {row.media_key for row in left} <= {row.storage_key for row in moved_to}


async def test_an_ingest_in_place_killed_anywhere_records_nothing_that_is_deleted(
    scene: Scene,
) -> None:
    library = scene.library
    rows = await library.database.rows()
    with scene.launcher() as launcher:
        for number in itertools.count(1):
            path = f"{number}.png"
            saved = await library.save(path, picture(number))
            await rows.deletions.mark_save(saved, EXPIRED, now())
            if not launcher.killed(number, "ingest-in-place", path):
                break

            await library.sweep()
            await library.check()  # each row has its bytes
            make_due(library)  # as the lease of its intent is
            await library.sweep()

            await library.check()
            recorded: list[Any] = library.table(resources)
            is_recorded = key(path) in [row.storage_key for row in recorded]
            assert await is_there(library, key(path)) == is_recorded
            assert library.table(intents) == library.marked() == []
    assert number == launcher.points + 1 > 5


async def test_processes_that_race_for_equal_bytes_get_one_resource(scene: Scene) -> None:
    library = scene.library
    paths = [f"{number}.png" for number in range(4)]
    for path in paths:
        await library.save(path, picture())

    running = [scene.start("ingest", f"compute/{path}") for path in paths]
    printed = [process.communicate(timeout=300) for process in running]

    assert [process.returncode for process in running] == [0] * 4, printed
    ids = {line.split()[0] for line, _ in printed}
    found: list[Any] = library.table(resources)
    assert ids == {str(row.id) for row in found}
    assert len(library.marked()) == 4
    await library.check()


async def test_processes_that_migrate_at_once_do_it_once(scene: Scene) -> None:
    running = [scene.start("migrate") for _ in range(4)]
    printed = [process.communicate(timeout=300) for process in running]

    assert [process.returncode for process in running] == [0] * 4, printed
    said = sorted(out.strip() for out, _ in printed)
    assert said == [f"{HEAD}, up to date"] * 3 + [f"none -> {HEAD}"]
    assert scene.library.table(resources) == []


async def test_the_resource_of_a_command_is_printed_and_errors_end_with_status_1(
    scene: Scene,
) -> None:
    await scene.library.save("a.png", picture())

    process = scene.start("ingest", "compute/none.png", "compute/a.png", "a.png", "--keep")
    out, errors = process.communicate(timeout=300)

    (resource,) = scene.library.table(resources)
    assert process.returncode == 1
    assert out.splitlines() == [
        f"{resource.id}  compute/a.png  compute/a.png",
        f"{resource.id}  compute/a.png  a.png",
    ]
    assert errors.splitlines() == ["stillroom: compute/none.png: no such image"]
