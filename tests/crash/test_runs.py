"""SIGKILL before and after each change of a run: published whole or not, deleted in the end."""

import itertools
import json

import pytest
import sqlalchemy as sa

from contract.images import everything, manifest_key, read_key
from crash.scene import Scene
from media.library import GRACE, is_there, key, make_due
from pictures import picture
from stillroom.errors import RunConflict
from stillroom.features.database.clock import now
from stillroom.features.library.rows.tables import deletions
from stillroom.features.library.sweeper import Sweeper
from stillroom.features.runs.deletion import RunDeletions
from stillroom.features.runs.service import Runs
from stillroom.features.runs.tables import run_deletions
from stillroom.paths import ImagePath
from stillroom.store.values import ListQuery

pytestmark = [pytest.mark.slow]  # a process for each point

IMAGES = 5


async def saved(scene: Scene, number: int) -> tuple[ImagePath, list[str]]:
    """A run, with what is to be in its manifest."""
    folder = ImagePath.parse(f"runs/{number}")
    for at in range(IMAGES):
        await scene.library.save(f"{folder.text}/{at}.png", picture(at))
    return folder, [f"{folder.text}/{at}.png" for at in range(IMAGES)]


async def test_a_run_whose_publishing_is_killed_anywhere_is_open_or_published(
    scene: Scene,
) -> None:
    storage = scene.library.meddled.storage
    await scene.library.database.rows()
    runs = Runs(storage, scene.library.database)
    published_by_the_killed = 0
    with scene.launcher() as launcher:
        for number in itertools.count(1):
            folder, paths = await saved(scene, number)
            if not launcher.killed(number, "publish", folder.text):
                break

            found = await storage.list(ListQuery(everything(folder.text), reserved=True))
            names = [name for name in found.entries if name.endswith(".run.json")]
            for name in names:  # whole, or not at all
                assert name == manifest_key(folder.text).text
                said = json.loads(await read_key(storage, manifest_key(folder.text)))
                assert [image["path"] for image in said["images"]] == paths
                published_by_the_killed += 1

            opened = await runs.publish(folder, IMAGES)

            opened.close()
            again = json.loads(await read_key(storage, manifest_key(folder.text)))
            assert [image["path"] for image in again["images"]] == paths
            if names:
                assert again == said
    assert number == launcher.points + 1 > 3
    assert published_by_the_killed > 1


async def test_a_run_whose_deletion_is_killed_anywhere_goes(scene: Scene) -> None:
    library, storage = scene.library, scene.library.meddled.storage
    await library.database.rows()
    runs = Runs(storage, library.database)
    deleting = RunDeletions(storage, library.database, grace=GRACE)
    sweeper = Sweeper(storage, library.database, resume=deleting.resume)
    with scene.launcher() as launcher:
        for number in itertools.count(1):
            folder, paths = await saved(scene, number)
            here = await library.save(f"{folder.text}/here.png", picture(1000 + number))
            recorded = await library.ingest(f"{folder.text}/here.png", relocate=False)
            (await runs.publish(folder, IMAGES + 1)).close()
            if not launcher.killed(number, "delete", folder.text):
                break

            begun = library.table(run_deletions) or library.table(deletions)
            if begun:  # no reader meets a run that is half deleted
                if library.table(deletions):
                    assert not await is_there(library, manifest_key(folder.text))
                library.change(sa.update(run_deletions).values(lease_until=now()))
                await sweeper.sweep()
            else:
                assert await is_there(library, manifest_key(folder.text))
                assert (await deleting.delete(folder)).kept == 1

            assert library.table(run_deletions) == []
            assert not await is_there(library, manifest_key(folder.text))
            assert [name for name, _ in library.marked()] == [key(path).text for path in paths]
            make_due(library)
            assert (await sweeper.sweep()).deleted == IMAGES
            assert await library.read(recorded.storage_key) == picture(1000 + number)
            assert (await storage.stat(key(f"{folder.text}/here.png"))).save_id == here.save_id
            await library.service.delete(recorded.id)
            await storage.delete(recorded.storage_key)  # else there is ever more
    assert number == launcher.points + 1 > 10


async def test_a_run_whose_deletion_was_killed_is_not_published_before_its_images_are_gone(
    scene: Scene,
) -> None:
    storage = scene.library.meddled.storage
    runs = Runs(storage, scene.library.database)
    deleting = RunDeletions(storage, scene.library.database, grace=GRACE)
    kept = 0
    with scene.launcher() as launcher:
        for number in range(1, 13, 2):
            folder, _ = await saved(scene, number)
            assert launcher.killed(number, "delete", folder.text)
            if not scene.library.table(run_deletions):
                kept += 1
                continue
            with pytest.raises(RunConflict, match="being deleted"):
                await runs.publish(folder, None)
            scene.library.change(sa.update(run_deletions).values(lease_until=now()))
            await deleting.resume(lambda: False)
            with pytest.raises(RunConflict, match="will be deleted soon"):
                await runs.publish(folder, None)
    assert kept < 6
