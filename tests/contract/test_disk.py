"""The disk backend keeps the contract, in every way that a filesystem may force it to work.

The contract as a whole is for the usual way; each other way, for what it does differently.
"""

import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from contract.conditions import ConditionsContract
from contract.copying import CopyingContract
from contract.deleting import DeletingContract
from contract.images import RULES, key
from contract.listing import ListingContract
from contract.saving import SavingContract
from contract.suite import StorageContract
from stillroom.store.disk import listing
from stillroom.store.disk.data_directory import DataDirectory
from stillroom.store.disk.openat2 import open_by_walk
from stillroom.store.disk.storage import LIST_CACHE_BYTES, DiskImageStorage
from stillroom.store.sources import BytesSource

if TYPE_CHECKING:
    from stillroom.store.values import StoredImage


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


async def opened(
    data_directory: DataDirectory, *, list_cache_bytes: int = LIST_CACHE_BYTES
) -> AsyncIterator[DiskImageStorage]:
    """A storage; afterwards nothing may be left in staging, and no descriptor open."""
    before = open_descriptors()
    storage = DiskImageStorage(data_directory, RULES, list_cache_bytes=list_cache_bytes)
    yield storage
    storage._folder_cache.close()  # it has a descriptor while it watches folders
    assert os.listdir(data_directory.staging_fd) == []
    assert open_descriptors() == before
    await storage.close()


class TestDisk(StorageContract):
    @pytest.fixture
    async def storage(self, tmp_path: Path) -> AsyncIterator[DiskImageStorage]:
        data_directory = DataDirectory(tmp_path)
        assert data_directory.has_nameless_files
        assert data_directory.has_attributes
        async for storage in opened(data_directory):
            yield storage

    async def test_what_was_replaced_or_deleted_is_not_current(
        self, storage: DiskImageStorage
    ) -> None:
        path = key("a.png")
        seen: list[StoredImage] = []
        into = memoryview(bytearray(3))
        for data in (b"old", b"new", b"new"):
            await storage.save(path, BytesSource(data))
            assert not any(storage.is_current(image) for image in seen)
            assert not any(storage.read_now(image, 0, into) for image in seen)
            assert not storage.is_missing(path)
            seen.append(await storage.stat(path))

        await storage.delete(path)
        assert not any(storage.is_current(image) for image in seen)
        assert not any(storage.read_now(image, 0, into) for image in seen)


class TestDiskWithoutOpenat2(SavingContract, ConditionsContract, CopyingContract, DeletingContract):
    """Paths are walked; `test_an_unusual_name_is_kept_exactly` lists folders a hundred deep."""

    @pytest.fixture
    async def storage(self, tmp_path: Path) -> AsyncIterator[DiskImageStorage]:
        async for storage in opened(DataDirectory(tmp_path, opener=open_by_walk)):
            yield storage


class TestDiskWithoutNamelessFiles(SavingContract, ConditionsContract, CopyingContract):
    """Files have names in staging until they are published."""

    @pytest.fixture
    async def storage(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> AsyncIterator[DiskImageStorage]:
        monkeypatch.setattr(DataDirectory, "_probe_nameless_files", lambda _: False)
        async for storage in opened(DataDirectory(tmp_path)):
            yield storage


class TestDiskWithoutSyncs(SavingContract, ConditionsContract, CopyingContract, DeletingContract):
    """Nothing that is written or removed is synced."""

    @pytest.fixture
    async def storage(self, tmp_path: Path) -> AsyncIterator[DiskImageStorage]:
        async for storage in opened(DataDirectory(tmp_path, durable=False)):
            yield storage


class TestDiskThatRemembersEveryFolder(ListingContract):
    """As large folders are listed: read once, then followed."""

    @pytest.fixture
    async def storage(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> AsyncIterator[DiskImageStorage]:
        monkeypatch.setattr(listing, "_SMALL_FOLDER", 0)
        async for storage in opened(DataDirectory(tmp_path)):
            yield storage


class TestDiskThatRemembersNoFolder(ListingContract):
    """As large folders are listed where nothing may be remembered: read for every page."""

    @pytest.fixture
    async def storage(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> AsyncIterator[DiskImageStorage]:
        monkeypatch.setattr(listing, "_SMALL_FOLDER", 0)
        async for storage in opened(DataDirectory(tmp_path), list_cache_bytes=0):
            yield storage
