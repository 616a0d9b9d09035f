"""Interrupted upload grants: exactly the acknowledged images exist, and no uploads a day later."""

from pathlib import Path

import pytest

from crash.grant_interruptions import GrantInterruptions
from crash.grant_sites import STORAGES

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]  # it starts dozens of processes


@pytest.mark.parametrize("storage", STORAGES)
def test_interrupted_grants_leave_what_was_acknowledged_and_nothing_else(
    tmp_path: Path, storage: str
) -> None:
    experiment = GrantInterruptions(tmp_path, storage, seed=0)

    rounds = list(experiment.rounds(12))

    assert [found for one in rounds for found in one.violations] == []
    assert sum(one.acknowledged for one in rounds) == experiment.counts["acknowledged"] > 0
    assert experiment.causes.total() >= 12
    assert len(rounds) == experiment.causes.total() + 1
