"""The storages and the databases that the library is tested on."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from contract.suite import RULES
from services.s3 import Operator
from services.seaweedfs import BUCKET, KEY_ID, SECRET, SeaweedFS
from stillroom.media.config import PostgresConfig, SqliteConfig
from stillroom.storage.choose import DiskConfig, R2Config, open_storage
from stillroom.storage.interface import ImageStorage


@pytest.fixture
async def disk(tmp_path: Path) -> AsyncIterator[ImageStorage]:
    storage = open_storage(DiskConfig(tmp_path / "data", min_free_bytes=0), RULES)
    yield storage
    await storage.close()


@pytest.fixture
async def bucket(seaweed: SeaweedFS, operator: Operator) -> AsyncIterator[ImageStorage]:
    storage = open_storage(R2Config(seaweed.endpoint_url, KEY_ID, SECRET, BUCKET), RULES)
    yield storage
    await storage.close()
    assert operator.uploads() == []
    seaweed.empty()


@pytest.fixture
def sqlite(tmp_path: Path) -> SqliteConfig:
    return SqliteConfig(tmp_path / "rows" / "library.db")


@pytest.fixture
def postgresql(database_url: str) -> PostgresConfig:
    return PostgresConfig(database_url)
