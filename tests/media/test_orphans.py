"""The orphan scan keeps its promises on each storage with each database."""

from media.scanning import ScanningContract


class TestOrphanScan(ScanningContract):
    """On the pairs of `conftest.py`."""
