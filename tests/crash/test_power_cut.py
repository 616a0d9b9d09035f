"""Power cuts on a real filesystem: a 200 means that the image survives."""

import os
import random
import time
from pathlib import Path

import pytest

from crash.loopback import loop_disk
from crash.traffic import Traffic
from running import running

pytestmark = [pytest.mark.root, pytest.mark.slow]


def violations_after_a_cut(folder: Path, seed: int, **settings: str) -> list[str]:
    with loop_disk(folder, kind="ext4", mib=512) as disk:
        data = disk.mount / "data"
        with running(folder, "--workers", "2", data=data, **settings) as server:
            traffic = Traffic(server, seed)
            traffic.start()
            traffic.wait_until_some_is_promised()
            time.sleep(random.Random(seed).uniform(0, 1.5))  # the moment is the experiment
            disk.cut_power()
            traffic.join()
            server.kill()
        disk.remount()
        with (
            running(folder, "--workers", "2", data=data, **settings) as server,
            server.client() as client,
        ):
            assert os.listdir(server.data / ".stillroom/staging") == []
            return traffic.violations(client)


@pytest.mark.parametrize("seed", range(3))
def test_nothing_acknowledged_is_lost_in_a_power_cut(tmp_path: Path, seed: int) -> None:
    assert violations_after_a_cut(tmp_path, seed) == []


def test_the_experiment_sees_a_store_that_does_not_sync(tmp_path: Path) -> None:
    assert violations_after_a_cut(tmp_path, 0, durability="none", jwt_secret="s" * 32) != []
