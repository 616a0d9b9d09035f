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
    """Return whether `copy` is a copy of this version of `original`, by size, time and hash.

    A copy has the same save time as its original, at least to the microsecond (`DescribedSource`).
    """
    if copy.size != original.size or copy.modified_ns // 1000 != original.modified_ns // 1000:
        return False
    return copy.sha256 == original.sha256 or None in (copy.sha256, original.sha256)
