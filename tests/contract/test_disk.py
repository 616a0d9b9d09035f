"""The disk backend keeps the contract, on every road that a filesystem may force it to take."""

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from contract.suite import RULES, StorageContract
from stillroom.storage.disk import listing
from stillroom.storage.disk.beneath import open_by_walk
from stillroom.storage.disk.home import DataDirectory
from stillroom.storage.disk.storage import LIST_CACHE_BYTES, DiskImageStorage


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


async def opened(
    home: DataDirectory, *, list_cache_bytes: int = LIST_CACHE_BYTES
) -> AsyncIterator[DiskImageStorage]:
    """A storage; afterwards nothing may be left in staging, and no descriptor open."""
    before = open_descriptors()
    storage = DiskImageStorage(home, RULES, list_cache_bytes=list_cache_bytes)
    yield storage
    storage._remembered.close()  # it has a descriptor while it watches folders
    assert os.listdir(home.staging_fd) == []
    assert open_descriptors() == before
    await storage.close()


class TestDisk(StorageContract):
    @pytest.fixture
    async def storage(self, tmp_path: Path) -> AsyncIterator[DiskImageStorage]:
        home = DataDirectory(tmp_path)
        assert home.has_nameless_files
        assert home.has_attributes
        async for storage in opened(home):
            yield storage


class TestDiskWithoutOpenat2(StorageContract):
    @pytest.fixture
    async def storage(self, tmp_path: Path) -> AsyncIterator[DiskImageStorage]:
        async for storage in opened(DataDirectory(tmp_path, opener=open_by_walk)):
            yield storage


class TestDiskWithoutNamelessFiles(StorageContract):
    @pytest.fixture
    async def storage(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> AsyncIterator[DiskImageStorage]:
        monkeypatch.setattr(DataDirectory, "_probe_nameless_files", lambda _: False)
        async for storage in opened(DataDirectory(tmp_path)):
            yield storage


class TestDiskWithoutSyncs(StorageContract):
    @pytest.fixture
    async def storage(self, tmp_path: Path) -> AsyncIterator[DiskImageStorage]:
        async for storage in opened(DataDirectory(tmp_path, durable=False)):
            yield storage


class TestDiskThatRemembersEveryFolder(StorageContract):
    @pytest.fixture
    async def storage(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> AsyncIterator[DiskImageStorage]:
        monkeypatch.setattr(listing, "_SMALL_FOLDER", 0)
        async for storage in opened(DataDirectory(tmp_path)):
            yield storage


class TestDiskThatRemembersNoFolder(StorageContract):
    @pytest.fixture
    async def storage(self, tmp_path: Path) -> AsyncIterator[DiskImageStorage]:
        async for storage in opened(DataDirectory(tmp_path), list_cache_bytes=0):
            yield storage
