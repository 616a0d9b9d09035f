"""A media library as its tests see it: the service, a look behind it, and what may befall it."""

import asyncio
import hashlib
import uuid
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, cast

import sqlalchemy as sa

from contract.images import read_key
from stillroom.errors import ImageNotFound
from stillroom.features.database.clock import new_id, now
from stillroom.features.database.config import RowsConfig, SqliteConfig
from stillroom.features.database.engine import migrating
from stillroom.features.library.database import MediaDatabase
from stillroom.features.library.resource import DELETION, Intent, MediaResource
from stillroom.features.library.rows.tables import (
    dead_letters,
    deletions,
    failed_deletions,
    intents,
    resources,
)
from stillroom.features.library.service import MediaResourceService
from stillroom.features.library.sweeper import MAX_ATTEMPTS, Sweeper, Swept
from stillroom.paths import ImagePath, KeyPrefix, StorageKey
from stillroom.store import background
from stillroom.store.background import Job
from stillroom.store.port import ImageStorage
from stillroom.store.sources import BytesSource
from stillroom.store.values import ListQuery, StoredImage
from waiting import eventually

if TYPE_CHECKING:
    from stillroom.features.retention.expiry import Expiry

GRACE: Final = timedelta(hours=1)
OURS: Final = KeyPrefix("compute/ours/")


def key(path: str) -> StorageKey:
    return StorageKey.of_image(ImagePath.parse(path))


class Meddled:
    """A storage in which something happens right before or after a copy, or before a deletion."""

    def __init__(self, storage: ImageStorage) -> None:
        self.storage = storage
        self.copies = 0
        self.leave_alone()

    def leave_alone(self) -> None:
        self.before_copy: Callable[[], Awaitable[object]] | None = None
        self.after_copy: Callable[[], Awaitable[object]] | None = None
        self.before_delete: Callable[[StorageKey], Awaitable[object]] | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.storage, name)

    async def copy(
        self, source: StorageKey, target: StorageKey, **which: str | None
    ) -> StoredImage:
        self.copies += 1
        if self.before_copy is not None:
            await self.before_copy()
        copied = await self.storage.copy(source, target, **which)
        if self.after_copy is not None:
            await self.after_copy()
        return copied

    async def delete(self, key: StorageKey, *, save_id: str | None = None) -> None:
        if self.before_delete is not None:
            await self.before_delete(key)
        await self.storage.delete(key, save_id=save_id)


class Library:
    def __init__(self, storage: ImageStorage, config: RowsConfig) -> None:
        self.meddled = Meddled(storage)
        self.seen = cast("ImageStorage", self.meddled)
        self.config = config
        self.database = MediaDatabase(config)
        self.service = self.another()
        self.expiry: Expiry | None = None

    def another(self) -> MediaResourceService:
        return MediaResourceService(self.seen, self.database, grace=GRACE)

    async def save(self, path: str, data: bytes) -> StoredImage:
        return await self.meddled.storage.save(key(path), BytesSource(data))

    async def ingest(
        self, path: str, *, relocate: bool = True, within: KeyPrefix | None = None
    ) -> MediaResource:
        return await self.service.ingest_from_storage_key(
            key(path), relocate=relocate, within=within
        )

    def sweeper(self) -> Sweeper:
        still_holds = self.expiry.still_holds if self.expiry else None
        return Sweeper(self.seen, self.database, still_holds=still_holds)

    def background(
        self, *, every_s: float, stop_within_s: float
    ) -> AbstractAsyncContextManager[None]:
        sweeper = self.sweeper()
        jobs = [Job(lambda stopping: sweeper.sweep(is_stopping=stopping.is_set))]
        if (expiry := self.expiry) is not None:
            jobs.append(Job(lambda stopping: expiry.mark_expired(stopping.within)))
        return background.running(jobs, every_s=every_s, stop_within_s=stop_within_s)

    async def sweep(self, progress: Callable[[Swept], None] = lambda _: None) -> Swept:
        return await self.sweeper().sweep(progress)

    async def read(self, where: StorageKey) -> bytes:
        return await read_key(self.meddled.storage, where)

    def table(self, table: sa.FromClause) -> list[Any]:
        """Its rows. It waits for no transaction: one of this loop's could not end meanwhile."""
        if isinstance(self.config, SqliteConfig):
            url = sa.URL.create("sqlite", database=str(self.config.file))
        else:
            url = sa.make_url(self.config.url).set(drivername="postgresql+psycopg")
        with sa.create_engine(url, poolclass=sa.NullPool).connect() as connection:
            return list(connection.execute(sa.select(table)).all())

    def change(self, statement: sa.Update | sa.Insert) -> None:
        with migrating(self.config) as connection:
            connection.execute(statement)

    def marked(self) -> list[tuple[str, str]]:
        return sorted((row.storage_key.text, row.save_id) for row in self.table(deletions))

    async def media_keys(self) -> list[str]:
        page = await self.meddled.storage.list(ListQuery(KeyPrefix("media/"), limit=1000))
        return list(page.entries)

    async def check(self) -> None:
        """What holds at every moment: no row without bytes, no bytes that nothing remembers.

        What a killed process has sent to a bucket may still be on its way, so that is waited for.
        """
        unknown: set[str] = set()

        async def is_all_known() -> bool:
            unknown.clear()
            unknown.update(await self._bytes_that_nothing_remembers())
            return not unknown

        await eventually(is_all_known, said=lambda: unknown)

    async def _bytes_that_nothing_remembers(self) -> set[str]:
        def rows() -> list[Sequence[Any]]:
            with migrating(self.config) as connection:  # one for all: each costs 15 ms
                tables = (intents, resources, deletions, failed_deletions)
                return [connection.execute(sa.select(table)).all() for table in tables]

        # In a thread: a transaction of this loop could not end meanwhile.
        copying, found, marked, buried = await asyncio.to_thread(rows)
        remembered = {row.media_key.text for row in copying}
        remembered |= {row.storage_key.text for row in (*marked, *buried)}
        for row in found:
            data = await self.read(row.storage_key)
            assert hashlib.sha256(data).digest() == row.content_hash
            remembered.add(row.storage_key.text)
        return set(await self.media_keys()) - remembered


LONG_AGO = timedelta(days=1)


def make_due(library: Library) -> None:
    """As if the grace period were over, and every lease."""
    then = now() - LONG_AGO
    leased = deletions.c.lease_until > then
    with migrating(library.config) as connection:
        connection.execute(sa.update(deletions).values(due_at=then))
        connection.execute(sa.update(deletions).where(leased).values(lease_until=then))
        connection.execute(sa.update(intents).values(lease_until=then))


async def is_missing(library: Library, where: StorageKey) -> bool:
    return not await is_there(library, where)


async def is_there(library: Library, where: StorageKey) -> bool:
    try:
        await library.meddled.storage.stat(where)  # `locate` may remember what others deleted
    except ImageNotFound:
        return False
    return True


async def left_copy(
    library: Library, resource_id: uuid.UUID | None = None, *, source: str = "a.png"
) -> StorageKey:
    """What an ingest leaves that dies between the copy and its commit."""
    media_key = StorageKey.of_media(resource_id or new_id(), "png")
    rows = await library.database.rows()
    intent = Intent(media_key, resource_id or new_id(), key(source))
    await rows.intents.write(intent, lease=timedelta(minutes=15))
    await library.meddled.storage.copy(key(source), media_key)
    return media_key


def refuse(error: Exception) -> Callable[[StorageKey], Awaitable[None]]:
    async def before(_: StorageKey) -> None:
        raise error

    return before


def mark_by_hand(library: Library, where: StorageKey, save_id: str) -> None:
    then = now() - LONG_AGO
    marked = {"storage_key": where, "save_id": save_id, "reason": "relocated"}
    row = {**marked, "id": new_id(), "created_at": then, "due_at": then}
    library.change(sa.insert(deletions).values(row))


def bury_by_hand(library: Library, where: StorageKey, save_id: str) -> uuid.UUID:
    dead_letter_id = new_id()
    payload = {"storage_key": where.text, "save_id": save_id, "reason": "expired"}
    row = {"id": dead_letter_id, "kind": DELETION, "payload": {**payload, "content_hash": None}}
    row |= {"created_at": now(), "failed_at": now(), "attempts": MAX_ATTEMPTS, "last_error": "403"}
    library.change(sa.insert(dead_letters).values(row))
    return dead_letter_id
