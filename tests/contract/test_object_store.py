"""The policy of a bucket keeps the contract over any object store, here one in memory.

Another cloud's driver has passed when `TestMemoryObjectStore` has been written once more for it.
"""

from collections.abc import AsyncIterator

import pytest

from contract.images import PNG, RULES, Chunks, everything, key
from contract.memory_store import MemoryObjectStore
from contract.suite import StorageContract
from stillroom.maintenance.inspection.bucket import R2Inspection
from stillroom.maintenance.inspection.port import UnexpectedFile
from stillroom.store.bucket.storage import R2ImageStorage
from stillroom.store.objectstore import ObjectStore, Properties
from stillroom.store.port import ImageStorage
from stillroom.store.sources import BytesSource
from stillroom.store.values import ANY, Condition, StoredImage

MIB = 1024**2


@pytest.fixture
async def store() -> AsyncIterator[MemoryObjectStore]:
    store = MemoryObjectStore()
    async with store.serving():
        yield store


@pytest.fixture
async def storage(store: MemoryObjectStore) -> AsyncIterator[ImageStorage]:
    storage = opened(store)
    yield storage
    await storage.close()
    assert store.uploads == {}


def opened(store: ObjectStore) -> ImageStorage:
    return R2ImageStorage(
        store,
        RULES,
        description="memory",
        public_url=None,
        cache_control="no-cache",
        media_cache_control="no-cache",
    )


class TestMemoryObjectStore(StorageContract):
    """All promises of a backend, kept by `R2ImageStorage` over what `memory_store` does."""


@pytest.mark.parametrize("size", [100, 20 * MIB])
async def test_a_save_that_may_only_create_is_guarded_by_the_store_itself(
    storage: ImageStorage, store: MemoryObjectStore, size: int
) -> None:
    data = Chunks(*[bytes(min(size, MIB))] * max(1, size // MIB))

    await storage.save(key("a.bin"), data, Condition(if_none_match=ANY))

    assert store.objects.keys() == {"compute/a.bin"}
    assert len(store.objects["compute/a.bin"].body) == size


async def test_an_inspection_walks_opens_and_quarantines(
    storage: ImageStorage, store: MemoryObjectStore
) -> None:
    saved = await storage.save(key("a.png"), BytesSource(PNG))
    await store.create_upload("compute/b.png", Properties())
    inspection = R2Inspection(store, description="memory")

    found = [entry async for entry in inspection.walk(everything(), "")]
    opened = (await inspection.open(key("a.png"))).opened
    body = b"".join([chunk async for chunk in opened.chunks(0, opened.image.size)])
    place = await inspection.quarantine(await inspection.stat(key("a.png")), b"{}")

    assert found[0] == key("a.png")
    assert isinstance(found[1], UnexpectedFile)
    assert isinstance(opened.image, StoredImage)
    assert (opened.image.save_id, body) == (saved.save_id, PNG)
    assert store.objects.keys() == {f"{place}/image", f"{place}/facts.json"}
    store.uploads.clear()
