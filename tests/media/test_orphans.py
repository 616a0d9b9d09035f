"""The orphan scan keeps its promises on each storage with each database."""

import pytest

from media.scanning import ScanningContract
from stillroom.media.config import PostgresConfig, SqliteConfig
from stillroom.storage.interface import ImageStorage


class TestDiskAndSqlite(ScanningContract):
    @pytest.fixture
    def storage(self, disk: ImageStorage) -> ImageStorage:
        return disk

    @pytest.fixture
    def config(self, sqlite: SqliteConfig) -> SqliteConfig:
        return sqlite


@pytest.mark.slow
class TestDiskAndPostgres(ScanningContract):
    @pytest.fixture
    def storage(self, disk: ImageStorage) -> ImageStorage:
        return disk

    @pytest.fixture
    def config(self, postgresql: PostgresConfig) -> PostgresConfig:
        return postgresql


@pytest.mark.slow
class TestBucketAndSqlite(ScanningContract):
    @pytest.fixture
    def storage(self, bucket: ImageStorage) -> ImageStorage:
        return bucket

    @pytest.fixture
    def config(self, sqlite: SqliteConfig) -> SqliteConfig:
        return sqlite


@pytest.mark.slow
class TestBucketAndPostgres(ScanningContract):
    @pytest.fixture
    def storage(self, bucket: ImageStorage) -> ImageStorage:
        return bucket

    @pytest.fixture
    def config(self, postgresql: PostgresConfig) -> PostgresConfig:
        return postgresql
