"""Shared by the tests of the disk."""

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from contract.images import RULES
from stillroom.speed.disk.storage import FastDiskStorage
from stillroom.store.disk.data_directory import DataDirectory
from stillroom.store.disk.openat2 import Opener, open_by_kernel, open_by_walk
from stillroom.store.disk.storage import DiskImageStorage


@pytest.fixture(
    params=[
        (FastDiskStorage, open_by_kernel),
        (FastDiskStorage, open_by_walk),
        (DiskImageStorage, open_by_walk),
    ]
)
async def storage(
    request: pytest.FixtureRequest, tmp_path: Path
) -> AsyncIterator[DiskImageStorage]:
    disk: type[DiskImageStorage]
    opener: Opener
    disk, opener = request.param
    storage = disk(DataDirectory(tmp_path, opener=opener), RULES)
    yield storage
    assert os.listdir(tmp_path / ".stillroom/staging") == []
    await storage.close()
