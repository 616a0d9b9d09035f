"""SIGKILL while webhooks are delivered: a receiver gets every acknowledged save."""

from pathlib import Path

import pytest

from crash.webhook_kills import WebhookKills

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]  # it waits for the end of leases


@pytest.mark.parametrize("setting", ["disk-sqlite", "bucket-postgresql"])
def test_a_receiver_gets_every_acknowledged_save_when_processes_are_killed(
    tmp_path: Path, setting: str
) -> None:
    experiment = WebhookKills(tmp_path, setting, seed=0)

    rounds = list(experiment.rounds(3))

    assert [found for one in rounds for found in one.violations] == []
    assert sum(one.acknowledged for one in rounds) == experiment.saving.saves > 0
    assert len(rounds) == 3
