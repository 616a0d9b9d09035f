"""The sweeper keeps its promises on each storage with each database."""

import pytest

from media.sweeping import SweepingContract
from stillroom.media.config import PostgresConfig, SqliteConfig
from stillroom.storage.interface import ImageStorage


class TestDiskAndSqlite(SweepingContract):
    @pytest.fixture
    def storage(self, disk: ImageStorage) -> ImageStorage:
        return disk

    @pytest.fixture
    def config(self, sqlite: SqliteConfig) -> SqliteConfig:
        return sqlite


@pytest.mark.slow
class TestDiskAndPostgres(SweepingContract):
    @pytest.fixture
    def storage(self, disk: ImageStorage) -> ImageStorage:
        return disk

    @pytest.fixture
    def config(self, postgresql: PostgresConfig) -> PostgresConfig:
        return postgresql


@pytest.mark.slow
class TestBucketAndSqlite(SweepingContract):
    @pytest.fixture
    def storage(self, bucket: ImageStorage) -> ImageStorage:
        return bucket

    @pytest.fixture
    def config(self, sqlite: SqliteConfig) -> SqliteConfig:
        return sqlite


@pytest.mark.slow
class TestBucketAndPostgres(SweepingContract):
    @pytest.fixture
    def storage(self, bucket: ImageStorage) -> ImageStorage:
        return bucket

    @pytest.fixture
    def config(self, postgresql: PostgresConfig) -> PostgresConfig:
        return postgresql
