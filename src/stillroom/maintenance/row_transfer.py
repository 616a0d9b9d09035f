"""Transfer of the media library's rows to another database after a migration (docs/adr/0016).

A row is transferred only if its image was copied. A pending deletion is transferred only if the
source still has the version to delete and the target has a copy of it. Pending deletions that the
source does not have any more are removed from the target. Deletions of runs (published folders)
that have started are transferred, too, so that the target also deletes their manifests.
"""

import asyncio
import dataclasses
import itertools
import uuid
from collections import Counter
from dataclasses import dataclass, field
from typing import Final

from stillroom.concurrently import map_concurrently
from stillroom.errors import ConfigurationError
from stillroom.features.database.config import PostgresConfig, RowsConfig, SqliteConfig
from stillroom.features.database.engine import RowsEngine
from stillroom.features.database.migrations import HEAD, found
from stillroom.features.library.database import MediaDatabase
from stillroom.features.library.resource import DELETED, MediaResource
from stillroom.features.library.rows.resources import ResourceRows
from stillroom.features.library.rows.tables import deletions
from stillroom.features.library.rows.transfer import (
    QUEUES,
    Queue,
    QueueRow,
    RowTransfer,
    Saves,
    TransferOutcome,
)
from stillroom.features.runs.manifest import MANIFEST_NAME
from stillroom.features.runs.rows import RunRows
from stillroom.maintenance.migration import Migration
from stillroom.paths import StorageKey, folders_of, is_reserved
from stillroom.store.values import StoredImage

_PAGE: Final = 500
_AT_ONCE: Final = 16
_MAX_LEFT_OUT: Final = 10_000  # resources in the report; further ones are only counted


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Resource that was not transferred. `detail` names the problem with its file or row."""

    resource_id: uuid.UUID
    name: str
    detail: str


@dataclass
class TransferStats:
    """Counts of transferred rows."""

    resources: int = 0  # number of resources read
    counts: Counter[TransferOutcome] = field(default_factory=Counter)
    marks: int = 0  # pending deletions added to the target
    dead_letters: int = 0  # failed deletions added to the target
    withdrawn: int = 0  # deletions from earlier transfers that were removed from the target
    left_out: list[LeftOut] = field(default_factory=list)  # the first 10,000 of `wrong`
    wrong: int = 0  # number of resources that were not transferred


async def transfer_rows(
    migration: Migration, source_rows: RowsConfig, target_rows: RowsConfig, stats: TransferStats
) -> None:
    """Transfer the rows of one media library to another's database. Copy the files first.

    If source and target are the same database, only pending deletions of the copies are added. A
    dry run only counts the resources. Otherwise, missing tables are created in the target. Raise
    `ConfigurationError` if the source database has an older schema.
    """
    if await asyncio.to_thread(_is_empty, source_rows):
        return
    source, target = RowsEngine(source_rows), None
    if not migration.dry_run:
        target = await MediaDatabase(target_rows).engine()
    elif not await asyncio.to_thread(_is_empty, target_rows):
        target = RowsEngine(target_rows)
    try:
        target_queues = None if target is None else RowTransfer(target)
        pass_ = _Pass(migration, ResourceRows(source), RowTransfer(source), target_queues, stats)
        await pass_.transfer_resources(are_shared=is_same(source_rows, target_rows))
        if not migration.dry_run:
            await pass_.transfer_deletions()
            if target is not None:
                await RunRows(target).take(await RunRows(source).under_way())
    finally:
        await source.close()
        if target is not None:
            await target.close()


def is_same(first: RowsConfig, second: RowsConfig) -> bool:
    """Return whether two configurations refer to the same database."""
    if isinstance(first, PostgresConfig) or isinstance(second, PostgresConfig):
        return first == second
    return first.file.resolve() == second.file.resolve()


def _is_empty(config: RowsConfig) -> bool:
    if isinstance(config, SqliteConfig) and not config.file.exists():
        return True
    version = found(config)
    if version not in (None, HEAD):
        raise ConfigurationError(
            f"the media library's tables have version {version} instead of {HEAD}: run "
            "`stillroom media migrate` with the settings of this database first"
        )
    return version is None


@dataclass(eq=False)
class _Pass:
    migration: Migration
    resources: ResourceRows
    source: RowTransfer
    target: RowTransfer | None
    stats: TransferStats
    folders: set[str] = field(default_factory=set)

    async def transfer_resources(self, *, are_shared: bool) -> None:
        async for page in self.resources.in_order(limit=_PAGE):
            self.stats.resources += len(page)
            keys = [resource.storage_key for resource in page]
            to_delete: Saves = set()
            if self.target is not None and not are_shared:
                to_delete = await self.target.saves(deletions, keys)
            resources = await map_concurrently(self._find_arrived, page, limit=_AT_ONCE)
            arrived = [resource for resource in resources if resource]
            if are_shared or self.target is None:
                outcome = TransferOutcome.SAME if are_shared else TransferOutcome.NEW
                self.stats.counts[outcome] += len(arrived)
                continue
            outcomes = await self.target.take(arrived, to_delete, dry_run=self.migration.dry_run)
            for resource, takeover in zip(arrived, outcomes, strict=True):
                if takeover.outcome is TransferOutcome.OTHER:
                    self._leave_out(resource, f"{takeover.other} in the target has identical bytes")
                elif takeover.outcome is TransferOutcome.SWEPT:
                    self._leave_out(resource, "the target is deleting it: migrate again later")
                else:
                    self.stats.counts[takeover.outcome] += 1

    async def _find_arrived(self, resource: MediaResource) -> MediaResource | None:
        """Return the resource with its copy's save id, or None if its image was not copied."""
        key, sha256 = resource.storage_key, resource.content_hash
        copy = await self.migration.find_copy(key, sha256)
        if copy is None and self.migration.dry_run:
            original, _ = await self.migration.find_pair(key)
            if original is not None and original.sha256 in (None, sha256):
                return resource
        elif copy is None:  # perhaps saved after the listing had passed this key
            await self.migration.copy(key)
            copy = await self.migration.find_copy(key, sha256)
        if copy is None:
            self._leave_out(resource, "the target does not have its file")
            return None
        return dataclasses.replace(resource, save_id=copy.save_id)

    def _leave_out(self, resource: MediaResource, detail: str) -> None:
        self.stats.wrong += 1
        if len(self.stats.left_out) < _MAX_LEFT_OUT:
            self.stats.left_out.append(LeftOut(resource.id, resource.storage_key.text, detail))

    async def transfer_deletions(self) -> None:
        assert self.target is not None  # noqa: S101  (only dry runs may have no target)
        for queue in QUEUES:
            await self._withdraw(self.target, queue)
            async for page in self.source.remembered(queue, limit=_PAGE):
                rows = await map_concurrently(self._find_deletion_of_copy, page, limit=_AT_ONCE)
                number = await self.target.remember(queue, [row for row in rows if row])
                if queue is QUEUES[0]:
                    self.stats.marks += number
                else:
                    self.stats.dead_letters += number

    async def _find_deletion_of_copy(self, deletion: QueueRow) -> QueueRow | None:
        """Return a pending deletion of the copy of an image, or None if there is no copy."""
        original, copy = await self.migration.find_pair(deletion["storage_key"])
        if original is None or original.save_id != deletion["save_id"]:
            return None
        if copy is None or not _is_copy(copy, original):
            return None
        if deletion["reason"] == DELETED:
            await self._delete_manifests(copy.key)
        return {**deletion, "save_id": copy.save_id}

    async def _delete_manifests(self, deleted: StorageKey) -> None:
        """Delete the run manifests in all folders of an image, if only the target has them."""
        for folder in folders_of(deleted.text):
            manifest = StorageKey(f"{folder}/{MANIFEST_NAME}")
            if folder in self.folders or not is_reserved(manifest.text):
                continue
            self.folders.add(folder)
            original, copy = await self.migration.find_pair(manifest)
            if original is None and copy is not None:
                await self.migration.delete_copy(copy)

    async def _withdraw(self, target: RowTransfer, queue: Queue) -> None:
        async for page in target.remembered(queue, limit=_PAGE):
            saves = await self.source.saves(queue, [row["storage_key"] for row in page])

            async def is_outdated(row: QueueRow, saves: Saves = saves) -> bool:
                original, copy = await self.migration.find_pair(row["storage_key"])
                if original is None or copy is None or copy.save_id != row["save_id"]:
                    return False
                return (original.key, original.save_id) not in saves

            outdated = await map_concurrently(is_outdated, page, limit=_AT_ONCE)
            if ids := [row["id"] for row in itertools.compress(page, outdated)]:
                self.stats.withdrawn += await target.forget(queue, ids)


def _is_copy(copy: StoredImage, original: StoredImage) -> bool:
    """Return whether two images have equal sizes, save times (in µs) and hashes (if known)."""
    if copy.size != original.size or copy.modified_ns // 1000 != original.modified_ns // 1000:
        return False
    return copy.sha256 == original.sha256 or None in (copy.sha256, original.sha256)
