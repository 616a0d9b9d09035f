"""Cache for the metadata of recently opened files."""

import os
import time
from typing import Final

from stillroom.bounded_cache import BoundedCache
from stillroom.paths import StorageKey
from stillroom.speed.disk.known_files import version_of
from stillroom.store.disk.image import read_facts
from stillroom.store.values import StoredImage

_MAX_FACTS: Final = 16_384
"""Maximum number of files whose metadata is cached (about 16 MiB)."""

_SETTLED_NS: Final = 2 * 10**9
"""Metadata is cached only if the file has not changed for this time. Two changes within one tick of
the filesystem's clock (usually up to 10 ms, two seconds on FAT) have the same modification time."""


class RecentFacts:
    """Cache for the metadata of recently opened files. Reading metadata is slower than opening.

    Entries are valid while inode, size and times of the file are unchanged.
    """

    def __init__(self, folder_fd: int) -> None:
        self._device = os.fstat(folder_fd).st_dev
        self._facts: BoundedCache[str, StoredImage] = BoundedCache(_MAX_FACTS)

    def describe_file(
        self, key: StorageKey, fd: int, known: StoredImage | None = None
    ) -> StoredImage:
        """Return the metadata of an open file, or `known` if that is still current.

        Raises `OSError` (ENXIO) if it is not a regular file.
        """
        status = os.fstat(fd)
        version = version_of(key, status)
        for image in (known, self._facts.get(key.text)):
            if image is not None and image.version == version:
                return image
        is_settled = time.time_ns() - status.st_ctime_ns > _SETTLED_NS
        if not is_settled or status.st_dev != self._device:
            return read_facts(key, fd, status)
        image = read_facts(key, fd, status, version)
        self._facts.put(key.text, image)
        return image
