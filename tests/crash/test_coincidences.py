"""An ingest in place that was acknowledged is not lost by a deletion that becomes due."""

import os

import pytest

from crash.coincidences import coincide
from crash.scene import Scene

COUNT = int(os.environ.get("CRASH_COINCIDENCES", "60"))
"""`make crash` sets more."""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600 + COUNT)]


@pytest.mark.parametrize(
    "pair",
    [(storage, rows) for storage in ("disk", "bucket") for rows in ("sqlite", "postgresql")],
    ids="-".join,
)
async def test_what_is_acknowledged_while_it_becomes_due_stays(scene: Scene) -> None:
    found = await coincide(scene, COUNT, seed=COUNT)

    assert found.lost == []
    assert found.acknowledged + found.refused == COUNT
