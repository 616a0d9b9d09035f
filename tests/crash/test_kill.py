"""SIGKILL at random moments: what was acknowledged is there, and nothing is torn."""

import os
import random
import time
from pathlib import Path

import pytest

from crash.traffic import Traffic
from running import running

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("seed", range(6))
def test_nothing_acknowledged_is_lost_when_all_processes_are_killed(
    tmp_path: Path, seed: int
) -> None:
    with running(tmp_path, "--workers", "2") as server:
        traffic = Traffic(server, seed)
        traffic.start()
        traffic.wait_until_some_is_promised()
        time.sleep(random.Random(seed).uniform(0, 1))  # the moment is the experiment
        server.kill()
        traffic.join()

    with running(tmp_path, "--workers", "2") as server, server.client() as client:
        assert traffic.violations(client) == []
        assert os.listdir(server.data / ".stillroom/staging") == []
