"""Opens a disk, and sees that it is left tidy."""

import os
from collections.abc import AsyncIterator
from typing import TypeVar

from contract.images import RULES
from stillroom.store.disk.data_directory import DataDirectory
from stillroom.store.disk.storage import DiskImageStorage

Disk = TypeVar("Disk", bound=DiskImageStorage)


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


async def opened(disk: type[Disk], data_directory: DataDirectory) -> AsyncIterator[Disk]:
    """A storage; afterwards nothing may be left in staging, and no descriptor open."""
    before = open_descriptors()
    storage = disk(data_directory, RULES)
    yield storage
    assert os.listdir(data_directory.staging_fd) == []
    assert open_descriptors() == before
    await storage.close()
