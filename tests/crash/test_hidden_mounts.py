"""A hidden `media/` costs no image."""

from pathlib import Path

import pytest

from crash.hidden_mounts import hidden_mounts

pytestmark = [pytest.mark.root, pytest.mark.slow]


def test_a_library_that_a_mount_hides_costs_no_source(tmp_path: Path) -> None:
    rounds = list(hidden_mounts(tmp_path, 3, seed=1))

    assert [found for one in rounds for found in one.violations] == []
    assert len(rounds) == 3
