"""The bucket backend keeps the contract, against a real S3 server."""

from collections.abc import AsyncIterator, Callable, Iterable
from typing import ClassVar

import pytest

from contract.images import RULES
from contract.suite import StorageContract
from services.s3 import Operator
from services.seaweedfs import BUCKET, KEY_ID, SECRET, SeaweedFS
from stillroom.store.choose import R2Config, open_storage
from stillroom.store.port import ImageStorage


def tree_order(paths: Iterable[str]) -> list[str]:
    """SeaweedFS walks folders by name: all of `a/` comes where `a` stands, before `a-b`."""
    return sorted(paths, key=lambda path: path.split("/"))


@pytest.mark.slow
class TestR2(StorageContract):
    order: ClassVar[Callable[[Iterable[str]], list[str]]] = tree_order
    """SeaweedFS's, not the contract's: R2 lists whole keys in byte order (contract.md, 4)."""

    @pytest.fixture
    async def storage(self, seaweed: SeaweedFS, operator: Operator) -> AsyncIterator[ImageStorage]:
        storage = open_storage(R2Config(seaweed.endpoint_url, KEY_ID, SECRET, BUCKET), RULES)
        yield storage
        await storage.close()
        assert operator.uploads() == []
        seaweed.empty()
