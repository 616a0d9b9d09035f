"""The disk with caches keeps the contract, too, and never uses an outdated one."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from contract.any_disk import opened
from contract.images import key
from contract.listing import ListingContract
from contract.suite import StorageContract
from stillroom.speed.disk.storage import FastDiskStorage
from stillroom.store.disk import listing
from stillroom.store.disk.data_directory import DataDirectory
from stillroom.store.sources import BytesSource

if TYPE_CHECKING:
    from stillroom.store.values import StoredImage


class TestFastDisk(StorageContract):
    @pytest.fixture
    async def storage(self, tmp_path: Path) -> AsyncIterator[FastDiskStorage]:
        async for storage in opened(FastDiskStorage, DataDirectory(tmp_path)):
            yield storage
            storage._folder_cache.close()  # it has a descriptor while it watches folders

    async def test_what_was_replaced_or_deleted_is_not_current(
        self, storage: FastDiskStorage
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


class TestDiskThatRemembersEveryFolder(ListingContract):
    """As large folders are listed: read once, then followed."""

    @pytest.fixture
    async def storage(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> AsyncIterator[FastDiskStorage]:
        monkeypatch.setattr(listing, "_SMALL_FOLDER", 0)
        async for storage in opened(FastDiskStorage, DataDirectory(tmp_path)):
            yield storage
            storage._folder_cache.close()  # it has a descriptor while it watches folders
