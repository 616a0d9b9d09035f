"""Which image is a copy of which save, and the folders that it is in."""

from collections.abc import Iterator

from stillroom.paths import StorageKey
from stillroom.storage.values import StoredImage


def folders_of(key: StorageKey) -> Iterator[str]:
    """The folders that a key is in, on every level."""
    folder = key.text
    while "/" in folder:
        folder = folder.rpartition("/")[0]
        yield folder


def is_copy(copy: StoredImage, original: StoredImage) -> bool:
    """Whether an image is the copy of this very save, as far as times can tell.

    The time of a save goes along with it, to the microsecond at least (`ImportedImage`).
    """
    if copy.size != original.size or copy.modified_ns // 1000 != original.modified_ns // 1000:
        return False
    return copy.sha256 == original.sha256 or None in (copy.sha256, original.sha256)
