"""What is added to resources keeps its promises on each storage with each database."""

from media.enriching import EnrichmentContract


class TestEnrichment(EnrichmentContract):
    """On the pairs of `conftest.py`."""
