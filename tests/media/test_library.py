"""The library keeps its promises on each storage with each database."""

from media.suite import MediaLibraryContract


class TestLibrary(MediaLibraryContract):
    """On the pairs of `conftest.py`."""
