"""Power cuts on real filesystems: a 200 means that the image survives."""

from pathlib import Path

import pytest

from crash.faults import FaultFile
from crash.rounds import power_cuts

pytestmark = [pytest.mark.root, pytest.mark.slow]


@pytest.mark.parametrize("kind", ["ext4", "xfs"])
@pytest.mark.parametrize("seed", range(2))
def test_nothing_acknowledged_is_lost_in_a_power_cut(tmp_path: Path, kind: str, seed: int) -> None:
    rounds = list(power_cuts(tmp_path, kind, 10, seed=seed))

    assert [found for one in rounds for found in one.violations] == []
    assert len(rounds) == 10
    assert all(one.acknowledged >= 20 for one in rounds)


@pytest.mark.parametrize("kind", ["ext4", "xfs"])
@pytest.mark.parametrize(
    ("call", "of", "seed"),
    [("fsync", "file", 2), ("fsync", "folder", 2), ("sync_filesystem", None, 3)],
)
def test_the_experiment_sees_a_store_that_leaves_one_sync_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, call: str, of: str, seed: int
) -> None:
    faults = FaultFile(tmp_path, monkeypatch)
    faults.tell(call, "skip", of=of)

    rounds = power_cuts(tmp_path, kind, 10, seed=seed)

    assert any(one.violations for one in rounds)
