"""The disk backend keeps the contract, in every way that a filesystem may force it to work.

The contract as a whole is for the usual way; each other way, for what it does differently.
"""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from contract.any_disk import opened
from contract.conditions import ConditionsContract
from contract.copying import CopyingContract
from contract.deleting import DeletingContract
from contract.listing import ListingContract
from contract.saving import SavingContract
from contract.suite import StorageContract
from stillroom.speed.disk.storage import FastDiskStorage
from stillroom.store.disk import listing
from stillroom.store.disk.data_directory import DataDirectory
from stillroom.store.disk.openat2 import open_by_walk
from stillroom.store.disk.storage import DiskImageStorage


class TestDisk(StorageContract):
    @pytest.fixture
    async def storage(self, tmp_path: Path) -> AsyncIterator[DiskImageStorage]:
        data_directory = DataDirectory(tmp_path)
        assert data_directory.has_nameless_files
        assert data_directory.has_attributes
        async for storage in opened(DiskImageStorage, data_directory):
            yield storage


class TestDiskWithoutOpenat2(SavingContract, ConditionsContract, CopyingContract, DeletingContract):
    """Paths are walked; `test_an_unusual_name_is_kept_exactly` lists folders a hundred deep."""

    @pytest.fixture
    async def storage(self, tmp_path: Path) -> AsyncIterator[FastDiskStorage]:
        async for storage in opened(FastDiskStorage, DataDirectory(tmp_path, opener=open_by_walk)):
            yield storage
            storage._folder_cache.close()  # it has a descriptor while it watches folders


class TestDiskWithoutNamelessFiles(SavingContract, ConditionsContract, CopyingContract):
    """Files have names in staging until they are published."""

    @pytest.fixture
    async def storage(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> AsyncIterator[FastDiskStorage]:
        monkeypatch.setattr(DataDirectory, "_probe_nameless_files", lambda _: False)
        async for storage in opened(FastDiskStorage, DataDirectory(tmp_path)):
            yield storage
            storage._folder_cache.close()  # it has a descriptor while it watches folders


class TestDiskWithoutSyncs(SavingContract, ConditionsContract, CopyingContract, DeletingContract):
    """Nothing that is written or removed is synced."""

    @pytest.fixture
    async def storage(self, tmp_path: Path) -> AsyncIterator[FastDiskStorage]:
        async for storage in opened(FastDiskStorage, DataDirectory(tmp_path, durable=False)):
            yield storage
            storage._folder_cache.close()  # it has a descriptor while it watches folders


class TestDiskWithGroupCommit(
    SavingContract, ConditionsContract, CopyingContract, DeletingContract
):
    """Concurrent changes are flushed together."""

    @pytest.fixture
    async def storage(self, tmp_path: Path) -> AsyncIterator[FastDiskStorage]:
        data_directory = DataDirectory(tmp_path)
        data_directory._flushes.groups = True  # whatever the filesystem of the test is
        async for storage in opened(FastDiskStorage, data_directory):
            yield storage
            storage._folder_cache.close()  # it has a descriptor while it watches folders


class TestDiskThatRemembersNoFolder(ListingContract):
    """As large folders are listed without a cache: read for every page."""

    @pytest.fixture
    async def storage(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> AsyncIterator[DiskImageStorage]:
        monkeypatch.setattr(listing, "_SMALL_FOLDER", 0)
        async for storage in opened(DiskImageStorage, DataDirectory(tmp_path)):
            yield storage
