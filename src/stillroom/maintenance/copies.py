"""Comparison of images with their copies in another store."""

from collections.abc import Iterator

from stillroom.paths import StorageKey
from stillroom.store.values import StoredImage


def folders_of(key: StorageKey) -> Iterator[str]:
    """Yield the folders that contain a key, from the innermost to the outermost."""
    folder = key.text
    while "/" in folder:
        folder = folder.rpartition("/")[0]
        yield folder


def is_copy(copy: StoredImage, original: StoredImage) -> bool:
    """Return whether `copy` and `original` have the same size, save time and hash.

    The save times are compared to the microsecond. A hash that is unknown counts as equal.
    """
    if copy.size != original.size or copy.modified_ns // 1000 != original.modified_ns // 1000:
        return False
    return copy.sha256 == original.sha256 or None in (copy.sha256, original.sha256)
