"""Three Stillrooms behind nginx on a cluster, while one part of it after the other fails.

The long form is `make cluster`, whose table is in benchmarks/EXPERIMENTS.md.
"""

from pathlib import Path

import pytest

from cluster.audit import audit
from cluster.campaign import run, table
from cluster.deployment import Deployment, deployment
from cluster.load import Load
from cluster.phases import SHORT, Pace
from services.postgres import PostgreSQL

pytestmark = [pytest.mark.slow]


def test_whatever_part_fails_nothing_acknowledged_is_lost_and_the_sweepers_are_exact(
    tmp_path: Path, postgres: PostgreSQL
) -> None:
    with deployment(tmp_path, postgres) as running:
        ran = run(running, SHORT, Pace(faulty_s=2, after_s=1, acknowledged=20), seed=1)
        assert ran.violations == [], table(ran, "this test")
        assert all(borne.acknowledged > 0 for borne in ran.borne)
        assert the_audit_sees(running, ran.load)


def the_audit_sees(running: Deployment, load: Load) -> bool:
    """Whether it would have seen an image lost, one changed, a copy lost, and one left behind."""
    lost, changed = [image for image in load.images if image.fate == "saved"][:2]
    copied = next(i for i in load.images if i.fate == "relocated" and not i.withdrawn)
    gone = next(image for image in load.images if image.fate == "deleted")
    running.operator.delete(f"compute/{lost.path}")
    running.operator.put(f"compute/{changed.path}", b"x")
    running.operator.delete(copied.resource[1])
    running.operator.put(f"compute/{gone.path}", b"x")

    seen = audit(running, load).violations

    expected = {lost.path: 2, changed.path: 1, copied.resource[0]: 2, gone.path: 1}
    return all(
        sum(name in line for line in seen) == times for name, times in expected.items()
    ) and len(seen) == sum(expected.values())
