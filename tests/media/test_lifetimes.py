"""Saves with an end go when it has come, and no others, on the pairs of `conftest.py`."""

from datetime import datetime, timedelta

import pytest

from media.library import Library, is_there, key, make_due
from pictures import picture
from stillroom.features.database.clock import now
from stillroom.features.library.sweeper import Swept
from stillroom.features.retention.lifetimes import Lifetimes

WEEK = timedelta(days=7)


@pytest.fixture
def lifetimes(library: Library) -> Lifetimes:
    return Lifetimes(library.database)


@pytest.mark.pairs
async def test_a_save_with_an_end_goes_when_it_has_come(
    library: Library, lifetimes: Lifetimes
) -> None:
    finish = await lifetimes.prepare({"expires-in": "7d"})
    assert finish is not None
    saved = await library.save("a.png", picture())

    due_at = datetime.fromisoformat(str((await finish(saved))["expires_at"]))

    assert due_at - now() == pytest.approx(WEEK, abs=timedelta(minutes=1))
    assert library.marked() == [("compute/a.png", saved.save_id)]
    assert await library.sweep() == Swept()
    make_due(library)
    assert await library.sweep() == Swept(deleted=1)
    assert not await is_there(library, key("a.png"))


async def test_the_same_path_saved_again_starts_anew(
    library: Library, lifetimes: Lifetimes
) -> None:
    await lifetimes.end(await library.save("a.png", picture()), WEEK)
    await library.save("a.png", picture())
    make_due(library)

    assert await library.sweep() == Swept(kept=1)
    assert await is_there(library, key("a.png"))


@pytest.mark.parametrize("relocate", [True, False])
async def test_an_ingest_before_the_end_rescues_the_bytes(
    library: Library, lifetimes: Lifetimes, *, relocate: bool
) -> None:
    await lifetimes.end(await library.save("a.png", picture()), timedelta(seconds=1))
    resource = await library.ingest("a.png", relocate=relocate)
    make_due(library)

    assert await library.sweep() == Swept(deleted=int(relocate))
    assert await library.read(resource.storage_key) == picture()
