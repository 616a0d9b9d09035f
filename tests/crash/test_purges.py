"""SIGKILL while deletions are purged: no reader at the edge sees a deleted image afterwards."""

from pathlib import Path

import pytest

from crash.purge_kills import DATABASES, PER_ROUND, PurgeKills

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]  # it waits for pauses of the API


@pytest.mark.parametrize("database", DATABASES)
def test_no_purge_is_lost_when_processes_are_killed(tmp_path: Path, database: str) -> None:
    experiment = PurgeKills(tmp_path, database, seed=0)

    rounds = list(experiment.rounds(2))

    assert [found for one in rounds for found in one.violations] == []
    assert sum(one.acknowledged for one in rounds) == 2 * PER_ROUND
