"""The contract against a bucket of yours: `pytest tests/contract/any_bucket.py`, with `R2_` set.

Not collected with the others, since it needs one. The bucket must be empty, and is so afterwards.
docs/buckets.md has what it said of those that were tried.
"""

import contextlib
from collections.abc import AsyncIterator

import pytest

from contract.images import RULES
from contract.suite import StorageContract
from stillroom.errors import ImageNotFound
from stillroom.paths import KeyPrefix, StorageKey
from stillroom.settings import AllSettings
from stillroom.store.choose import R2Config, open_storage
from stillroom.store.port import ImageStorage
from stillroom.store.values import ListQuery

EVERYTHING = ListQuery(KeyPrefix(""), limit=1000)


def config() -> R2Config:
    found = AllSettings.read().storage
    assert isinstance(found, R2Config), "set the R2_ variables of a bucket"
    return found


class TestAnyBucket(StorageContract):
    @pytest.fixture
    async def storage(self) -> AsyncIterator[ImageStorage]:
        storage = open_storage(config(), RULES)
        assert (await storage.list(EVERYTHING)).entries == [], "the bucket must be empty"
        yield storage
        for entry in (await storage.list(EVERYTHING)).entries:
            with contextlib.suppress(ImageNotFound):
                await storage.delete(StorageKey(entry))
        await storage.close()
