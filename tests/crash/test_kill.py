"""SIGKILL at random moments: what was acknowledged is there, and nothing is torn."""

from pathlib import Path

import pytest

from crash.rounds import kills

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]  # hundreds of processes are started


# They need no root, but minutes: most of them are left to `make test-root`.
SEEDS = [0, *(pytest.param(seed, marks=pytest.mark.root) for seed in range(1, 4))]


@pytest.mark.parametrize("seed", SEEDS)
def test_nothing_acknowledged_is_lost_when_processes_are_killed(tmp_path: Path, seed: int) -> None:
    rounds = list(kills(tmp_path, 25, seed=seed))

    assert [found for one in rounds for found in one.violations] == []
    assert len(rounds) == 25
