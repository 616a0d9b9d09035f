"""The contract against a bucket of yours: `ANY_BUCKET=FILE pytest tests/contract/any_bucket.py`.

FILE has the `R2_` variables of the bucket as `NAME=value` lines: the tests ignore those of the
environment. Not collected with the other tests. The bucket must be empty, and is so afterwards.
docs/buckets.md has the results for the buckets that were tried.
"""

import contextlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from contract.images import RULES
from contract.suite import StorageContract
from stillroom.errors import ImageNotFound
from stillroom.paths import KeyPrefix, StorageKey
from stillroom.settings import AllSettings
from stillroom.store.choose import R2Config, open_storage
from stillroom.store.port import ImageStorage
from stillroom.store.values import ListQuery

EVERYTHING = ListQuery(KeyPrefix(""), limit=1000, reserved=True)


def config() -> R2Config:
    found = AllSettings.read_file(Path(os.environ["ANY_BUCKET"])).storage
    assert isinstance(found, R2Config), "the file must have the R2_ variables of a bucket"
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
