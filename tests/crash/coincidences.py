"""Ingests in place at the moment at which a pending deletion of the image becomes due.

What was acknowledged must be there, also after later sweeps. The test has a few coincidences,
`make crash` 2,000 on each storage and database.
"""

import asyncio
import contextlib
import random
from dataclasses import dataclass, field
from datetime import timedelta

from crash.scene import Scene
from media.library import Library, is_there, key
from pictures import picture
from stillroom.errors import BackendUnavailable, ImageNotFound, ResourceConflict
from stillroom.features.database.clock import now
from stillroom.features.library.resource import EXPIRED
from stillroom.features.library.rows.tables import intents, resources

_AT_ONCE = 20
_SPREAD_S = 0.2
"""Time in which images become due and are ingested, in random order: about half of them wins."""


@dataclass
class Coincidences:
    acknowledged: int = 0
    refused: int = 0
    lost: list[str] = field(default_factory=list)


async def coincide(scene: Scene, count: int, *, seed: int) -> Coincidences:
    chance, found = random.Random(seed), Coincidences()
    library = scene.library
    other = Library(library.meddled.storage, library.config)  # has connections of its own
    for first in range(0, count, _AT_ONCE):
        await _round(library, other, range(first, min(first + _AT_ONCE, count)), chance, found)
    await other.database.close()
    assert library.table(intents) == []
    return found


async def _round(
    library: Library, other: Library, numbers: range, chance: random.Random, found: Coincidences
) -> None:
    rows = await library.database.rows()
    for number in numbers:
        saved = await library.save(f"{number}.png", picture(number))
        due_at = now() + timedelta(seconds=chance.uniform(0, _SPREAD_S))
        await rows.deletions.mark_save(saved, EXPIRED, due_at)
    ended = asyncio.Event()

    async def sweep() -> None:
        while not ended.is_set():
            with contextlib.suppress(BackendUnavailable):
                await other.sweep()
            await asyncio.sleep(chance.uniform(0, 0.02))  # else no ingest gets through

    async def ingest(number: int) -> bool:
        await asyncio.sleep(chance.uniform(0, _SPREAD_S / 2))  # the moment is the experiment
        try:
            await library.ingest(f"{number}.png", relocate=False)
        except (ImageNotFound, ResourceConflict, BackendUnavailable):
            return False  # on a busy machine a transaction may wait for too long
        return True

    sweeping = asyncio.create_task(sweep())
    acknowledged = await asyncio.gather(*map(ingest, numbers))
    ended.set()
    await sweeping
    await library.sweep()
    recorded = {row.storage_key: row.id for row in library.table(resources)}
    for number, is_acknowledged in zip(numbers, acknowledged, strict=True):
        where = key(f"{number}.png")
        found.acknowledged += is_acknowledged
        found.refused += not is_acknowledged
        if where in recorded and await is_there(library, where):
            await library.service.delete(recorded[where])
            await library.meddled.storage.delete(where)
        elif where in recorded or is_acknowledged:
            found.lost.append(where.text)
