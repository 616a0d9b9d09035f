"""SIGKILL at random moments: what was acknowledged is there, and nothing is torn."""

from pathlib import Path

import pytest

from crash.rounds import kills

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.mark.parametrize("seed", range(8))
def test_nothing_acknowledged_is_lost_when_processes_are_killed(tmp_path: Path, seed: int) -> None:
    rounds = list(kills(tmp_path, 25, seed=seed))

    assert [found for one in rounds for found in one.violations] == []
    assert len(rounds) == 25
