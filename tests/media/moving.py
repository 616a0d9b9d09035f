"""A library and the one that its bytes and rows are moved to."""

import dataclasses
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from contract.images import RULES
from media.library import Library
from stillroom.features.database.config import RowsConfig
from stillroom.features.library.resource import MediaResource
from stillroom.maintenance.inspection.choose import open_inspection
from stillroom.maintenance.inspection.port import Inspection
from stillroom.maintenance.migration import Migration, Target
from stillroom.maintenance.migration_report import MigrationStats
from stillroom.maintenance.rate_limiter import RateLimiter
from stillroom.maintenance.row_transfer import TransferStats, transfer_rows
from stillroom.paths import KeyPrefix
from stillroom.store.choose import DiskConfig, R2Config, open_storage

Place = tuple[DiskConfig | R2Config, RowsConfig]
"""Of bytes and of rows."""

WAYS = [
    "a disk and SQLite to a disk and SQLite",
    pytest.param("a disk and SQLite to a bucket and PostgreSQL", marks=pytest.mark.slow),
    pytest.param("a bucket and PostgreSQL to a disk and SQLite", marks=pytest.mark.slow),
]

EVERY_WAY = pytest.mark.parametrize("move", WAYS, indirect=True)


@dataclass
class Move:
    source: Library
    target: Library
    inspection: Inspection
    arrived: Inspection

    def migration(self, *, dry_run: bool = False) -> Migration:
        return Migration(
            self.inspection,
            Target(self.target.meddled.storage, self.arrived),
            [KeyPrefix("compute/"), KeyPrefix.of_library()],
            rate_limit=RateLimiter(None),
            stats=MigrationStats(),
            dry_run=dry_run,
        )

    async def run(self) -> TransferStats:
        migration = self.migration()
        await migration.run()
        return await self.rows(migration)

    async def rows(self, migration: Migration) -> TransferStats:
        transferred = TransferStats()
        given, taking = self.source.config, self.target.config
        await transfer_rows(migration, given, taking, transferred)
        return transferred

    async def target_has(self, resource: MediaResource) -> MediaResource:
        """As it should be there: the same, but for the save id, which is that of the copy."""
        there = await self.target.meddled.storage.stat(resource.storage_key)
        return dataclasses.replace(resource, save_id=there.save_id)


def of_disk(folder: Path) -> DiskConfig:
    return DiskConfig(folder, min_free_bytes=0, durable=False)


async def moves(configs: list[Place]) -> AsyncIterator[Move]:
    storages = [open_storage(storage, RULES) for storage, _ in configs]
    inspections = [open_inspection(storage) for storage, _ in configs]
    libraries = [Library(one, rows) for one, (_, rows) in zip(storages, configs, strict=True)]
    await libraries[0].database.rows()
    yield Move(libraries[0], libraries[1], inspections[0], inspections[1])
    for library in libraries:
        await library.database.close()
    for inspection in inspections:
        await inspection.close()
    for storage in storages:
        await storage.close()
