"""Expiry keeps its promises on each storage with each database."""

from media.expiring import ExpiryContract


class TestExpiry(ExpiryContract):
    """On the pairs of `conftest.py`."""
