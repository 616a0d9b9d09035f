"""The sweeper keeps its promises on each storage with each database."""

from media.sweeping import SweepingContract


class TestSweeper(SweepingContract):
    """On the pairs of `conftest.py`."""
