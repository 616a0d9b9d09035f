"""Expiry keeps its promises on each storage with each database."""

import pytest

from media.expiring import ExpiryContract
from stillroom.media.config import PostgresConfig, SqliteConfig
from stillroom.storage.interface import ImageStorage


class TestDiskAndSqlite(ExpiryContract):
    @pytest.fixture
    def storage(self, disk: ImageStorage) -> ImageStorage:
        return disk

    @pytest.fixture
    def config(self, sqlite: SqliteConfig) -> SqliteConfig:
        return sqlite


@pytest.mark.slow
class TestDiskAndPostgres(ExpiryContract):
    @pytest.fixture
    def storage(self, disk: ImageStorage) -> ImageStorage:
        return disk

    @pytest.fixture
    def config(self, postgresql: PostgresConfig) -> PostgresConfig:
        return postgresql


@pytest.mark.slow
class TestBucketAndSqlite(ExpiryContract):
    @pytest.fixture
    def storage(self, bucket: ImageStorage) -> ImageStorage:
        return bucket

    @pytest.fixture
    def config(self, sqlite: SqliteConfig) -> SqliteConfig:
        return sqlite


@pytest.mark.slow
class TestBucketAndPostgres(ExpiryContract):
    @pytest.fixture
    def storage(self, bucket: ImageStorage) -> ImageStorage:
        return bucket

    @pytest.fixture
    def config(self, postgresql: PostgresConfig) -> PostgresConfig:
        return postgresql
