"""Transfer the media library's rows into another database after a migration: docs/adr/0016.

A row is written once its bytes are there, and no earlier. A mark is written with the save id of the
copy, if the source's image is the very save that was marked and the target's is its copy. What an
earlier pass wrote, and what does not hold any more, is withdrawn: nothing is marked in the target
that is live in the source. A run whose deletion is under way is deleted in the target, too; of one
that is deleted, and whose images are marked, the manifest of an earlier pass is taken back.
"""

import asyncio
import dataclasses
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from stillroom.concurrently import map_concurrently
from stillroom.errors import ConfigurationError
from stillroom.maintenance.copies import folders_of, is_copy
from stillroom.maintenance.migration import Migration
from stillroom.media.config import PostgresConfig, RowsConfig, SqliteConfig
from stillroom.media.migrations import HEAD, found, migrate
from stillroom.media.resource import DELETED, MediaResource
from stillroom.media.rows.engine import RowsEngine
from stillroom.media.rows.resources import ResourceRows
from stillroom.media.rows.run_deletions import RunDeletionRows
from stillroom.media.rows.tables import deletions
from stillroom.media.rows.transfer import (
    QUEUES,
    Queue,
    QueueRow,
    RowTransfer,
    Saves,
    TransferOutcome,
)
from stillroom.paths import MANIFEST_NAME, StorageKey

_PAGE: Final = 500
_AT_ONCE: Final = 16

_MAX_LEFT_OUT: Final = 10_000
"""Kept for the report; more are counted."""


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A resource that is not in the target's library, or not as it is in the source's."""

    resource_id: uuid.UUID
    name: str
    detail: str


@dataclass
class TransferStats:
    """Counts of the rows that were transferred.

    Attributes:
        resources: Looked at.
        counts: Of these, by what became of them.
        marks: Deletions that are due in the target, too, from now on.
        dead_letters: The same, of those that were given up.
        withdrawn: Marks and dead letters of earlier passes that were deleted again in the target.
        left_out: The first 10,000 resources that were not transferred.
        wrong: How many they are.
    """

    resources: int = 0
    counts: dict[TransferOutcome, int] = field(default_factory=dict)
    marks: int = 0
    dead_letters: int = 0
    withdrawn: int = 0
    left_out: list[LeftOut] = field(default_factory=list)
    wrong: int = 0


async def transfer_rows(
    migration: Migration,
    source_rows: RowsConfig,
    target_rows: RowsConfig,
    stats: TransferStats,
    *,
    dry_run: bool = False,
) -> None:
    """Transfer the rows of one media library into another one, or into the same.

    Args:
        migration: The migration of their bytes; it has run.
        source_rows: The library to read. If both are the same, its rows stay, and marks of
            the copies are written beside those of the originals.
        target_rows: The library to write; its tables are created or migrated if necessary.
        stats: Updated as rows are transferred.
        dry_run: Count the resources, and change nothing.

    Raises:
        ConfigurationError: the tables of the source have an older version.
        BackendUnavailable: a database, or a store, is out of reach.
    """
    if await asyncio.to_thread(_is_empty, source_rows):
        return
    target: RowsEngine | None = None
    if not dry_run:
        await asyncio.to_thread(migrate, target_rows)
        target = RowsEngine(target_rows)
    elif not await asyncio.to_thread(_is_empty, target_rows):
        target = RowsEngine(target_rows)
    source = RowsEngine(source_rows)
    try:
        pass_ = _Pass(migration, source, target, stats, dry_run=dry_run)
        await pass_.transfer_resources(are_shared=is_same(source_rows, target_rows))
        if not dry_run:
            await pass_.transfer_marks()
            if target is not None:
                under_way = await RunDeletionRows(source).under_way()
                await RunDeletionRows(target).take(under_way)
    finally:
        await source.close()
        if target is not None:
            await target.close()


def is_same(one: RowsConfig, other: RowsConfig) -> bool:
    """Whether two configurations name the same database."""
    if isinstance(one, PostgresConfig) or isinstance(other, PostgresConfig):
        return one == other
    return one.file.resolve() == other.file.resolve()


def _is_empty(config: RowsConfig) -> bool:
    """Whether the tables do not exist yet; this creates nothing."""
    if isinstance(config, SqliteConfig) and not config.file.exists():
        return True
    form = found(config)
    if form not in (None, HEAD):
        raise ConfigurationError(
            f"the media library's tables have version {form}, and not {HEAD}: run "
            "`stillroom media migrate` with those settings first"
        )
    return form is None


class _Pass:
    """One pass over the rows, from one database into another."""

    def __init__(
        self,
        migration: Migration,
        source: RowsEngine,
        target: RowsEngine | None,
        stats: TransferStats,
        *,
        dry_run: bool,
    ) -> None:
        self._migration = migration
        self._resources = ResourceRows(source)
        self._source = RowTransfer(source)
        self._target = None if target is None else RowTransfer(target)
        self._stats = stats
        self._dry_run = dry_run
        self._folders: set[str] = set()

    # Resources ---------------------------------------------------------------------------

    async def transfer_resources(self, *, are_shared: bool) -> None:
        after = None
        while page := await self._resources.in_order(after=after, limit=_PAGE):
            after = page[-1].id
            self._stats.resources += len(page)
            keys = [one.storage_key for one in page]
            marked: Saves = set()
            if self._target is not None and not are_shared:
                marked = await self._target.saves(deletions, keys)
            resources = await map_concurrently(self._arrived, page, limit=_AT_ONCE)
            arrived = [one for one in resources if one]
            if are_shared:
                self._count(TransferOutcome.SAME, len(arrived))
            elif self._target is None:
                self._count(TransferOutcome.NEW, len(arrived))
            else:
                await self._transfer(self._target, arrived, marked)

    async def _transfer(
        self, target: RowTransfer, arrived: Sequence[MediaResource], marked: Saves
    ) -> None:
        outcomes = await target.take(arrived, marked, dry_run=self._dry_run)
        for resource, takeover in zip(arrived, outcomes, strict=True):
            if takeover.outcome is TransferOutcome.OTHER:
                self._leave(resource, f"the target's {takeover.other} has the same bytes")
            elif takeover.outcome is TransferOutcome.SWEPT:
                self._leave(resource, "the target's sweeper is deleting its key: run it again")
            else:
                self._count(takeover.outcome, 1)

    def _count(self, taken: TransferOutcome, number: int) -> None:
        self._stats.counts[taken] = self._stats.counts.get(taken, 0) + number

    async def _arrived(self, resource: MediaResource) -> MediaResource | None:
        """Return the resource with its copy's save id; None if the target lacks the bytes."""
        key, sha256 = resource.storage_key, resource.content_hash
        there = await self._migration.holds(key, sha256)
        if there is None and self._dry_run:
            original, _ = await self._migration.pair(key)
            if original is not None and original.sha256 in (None, sha256):
                return resource
        elif there is None:  # it may have come after the listing had passed
            await self._migration.copy(key)
            there = await self._migration.holds(key, sha256)
        if there is None:
            self._leave(resource, "its bytes are not in the target")
            return None
        return dataclasses.replace(resource, save_id=there.save_id)

    def _leave(self, resource: MediaResource, why: str) -> None:
        self._stats.wrong += 1
        if len(self._stats.left_out) < _MAX_LEFT_OUT:
            self._stats.left_out.append(LeftOut(resource.id, resource.storage_key.text, why))

    # Marks -------------------------------------------------------------------------------

    async def transfer_marks(self) -> None:
        assert self._target is not None  # noqa: S101  (there is a target where anything is written)
        for queue in QUEUES:
            await self._withdraw(self._target, queue)
            after = None
            while page := await self._source.remembered(queue, after=after, limit=_PAGE):
                after = page[-1]["id"]
                carried = await map_concurrently(self._carried, page, limit=_AT_ONCE)
                number = await self._target.remember(queue, [one for one in carried if one])
                if queue is QUEUES[0]:
                    self._stats.marks += number
                else:
                    self._stats.dead_letters += number

    async def _carried(self, given: QueueRow) -> QueueRow | None:
        """Return a mark with the save id of the copy; None if there is no such copy."""
        original, copy = await self._migration.pair(given["storage_key"])
        if original is None or original.save_id != given["save_id"]:
            return None
        if copy is None or not is_copy(copy, original):
            return None
        if given["reason"] == DELETED:
            await self._take_back_manifests(copy.key)
        return {**given, "save_id": copy.save_id}

    async def _take_back_manifests(self, deleted: StorageKey) -> None:
        """Delete the target's manifest of the run that an image was deleted with, if it has one."""
        for folder in folders_of(deleted):
            manifest = StorageKey(f"{folder}/{MANIFEST_NAME}")
            if folder in self._folders or not manifest.is_manifest:
                continue
            self._folders.add(folder)
            original, copy = await self._migration.pair(manifest)
            if original is None and copy is not None:
                await self._migration.take_back(copy)

    async def _withdraw(self, target: RowTransfer, queue: Queue) -> None:
        after = None
        while page := await target.remembered(queue, after=after, limit=_PAGE):
            after = page[-1]["id"]
            keys = [one["storage_key"] for one in page]
            given = await self._source.saves(queue, keys)

            async def is_moot(one: QueueRow, given: Saves = given) -> uuid.UUID | None:
                original, copy = await self._migration.pair(one["storage_key"])
                if original is None or copy is None or copy.save_id != one["save_id"]:
                    return None
                is_due = (original.key, original.save_id) in given
                return None if is_due else one["id"]

            moot = await map_concurrently(is_moot, page, limit=_AT_ONCE)
            if ids := [one for one in moot if one is not None]:
                self._stats.withdrawn += await target.forget(queue, ids)
