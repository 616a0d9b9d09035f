"""Database connections and transactions, for SQLite and PostgreSQL.

In SQLite, committed transactions survive a power failure only with a write-ahead log and
`synchronous=FULL` (https://www.sqlite.org/pragma.html#pragma_synchronous). Several processes can
write only if each transaction acquires the lock when it begins
(https://www.sqlite.org/lang_transaction.html).
"""

import asyncio
import contextlib
import fcntl
import logging
import os
import sqlite3
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Collection,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DataError, DBAPIError, IntegrityError, ProgrammingError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

from stillroom.errors import BackendUnavailable, ConfigurationError
from stillroom.features.database.changes import Change
from stillroom.features.database.config import PostgresConfig, RowsConfig, SqliteConfig
from stillroom.paths import StorageKey

_TIMEOUT_S: Final = 10.0  # for a transaction including all waits; then the caller gets an error
_CANCEL_S: Final = 2.0  # for the database to cancel a transaction; then the connection is closed
# SQLite's wait for a transaction of another process, and the first limit for its transactions. They
# are longer since a slow disk, unlike a network, does not recover sooner for those who ask again.
_BUSY_S: Final = 30
_SQLITE_TIMEOUT_S: Final = 45.0
_CONNECT_S: Final = 5
_POOLED: Final = 5  # connections to PostgreSQL
_FILE_MODE: Final = 0o640
_FOLDER_MODE: Final = 0o750

_WRITES: Final = "stillroom_writes"  # connection option: SQLite locks when a transaction begins
_BUGS: Final = (IntegrityError, ProgrammingError, DataError)

T = TypeVar("T")
Keys = Collection[StorageKey]
Retry = Callable[[AsyncConnection, Any], Awaitable[None]]
CountTags = Callable[[sa.Connection, sa.Subquery | None, int], Iterable[tuple[str, int]]]

log = logging.getLogger("stillroom.media")


@dataclass(slots=True)
class TransactionHooks:
    """Functions that run inside the transactions of other features.

    Attributes:
        indexing: Called with the rows that are about to be written to the search index.
        searching: Called with a search query (`FactsQuery`). They return the query to run instead.
        changed: Called with the storage keys of resources whose texts, tags or files have changed.
            These functions may wait for a lock, so only `written` may follow in the transaction.
        written: Called with the changes of the transaction. These functions may wait for a lock, so
            they are the last step of the transaction.
        stale: Called with the keys of deleted or replaced images, of which caches may have copies.
            `by_library` is True if the media library has deleted these images.
        runs: Returns the published runs of images by storage key. Images without a run are omitted.
        tags: Returns the most frequent tags of images in the search index, each with its number of
            images. Arguments: subquery of row ids (None for all), and maximum number of tags.
        retries: Functions that make a dead letter (failed job) due again, by the kind of the job.
    """

    indexing: list[Callable[[sa.Connection, Collection[Any]], None]] = field(default_factory=list)
    searching: list[Callable[[AsyncConnection, Any], Awaitable[Any]]] = field(default_factory=list)
    changed: list[Callable[[sa.Connection, Keys], None]] = field(default_factory=list)
    written: list[Callable[[sa.Connection, Sequence[Change]], None]] = field(default_factory=list)
    stale: list[Callable[..., None]] = field(default_factory=list)
    runs: Callable[[sa.Connection, Keys], Mapping[StorageKey, str]] | None = None
    tags: CountTags | None = None
    retries: dict[str, Retry] = field(default_factory=dict)


class RowsEngine:
    """Connection pool and transactions of the configured database, for one event loop."""

    def __init__(self, config: RowsConfig) -> None:
        self.is_sqlite = isinstance(config, SqliteConfig)
        options = _options(config)
        if self.is_sqlite:
            options["connect_args"]["factory"] = _SqliteConnection
        self._engine = create_async_engine(_url(config, driver="aiosqlite"), **options)
        self.hooks = TransactionHooks()
        self.storage_name = ""
        # Waiters poll SQLite's own lock, and any of them gets it. Under load, some never would.
        self._turn = asyncio.Lock() if self.is_sqlite else contextlib.nullcontext()
        self._unsynced: sa.Engine | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="rows")
        if isinstance(config, SqliteConfig):
            _configure(self._engine.sync_engine, config)
            self._unsynced = _sync_engine(config, synchronous="NORMAL")

    def reading(self) -> AbstractAsyncContextManager[AsyncConnection]:
        """Context manager: begin a read-only transaction. Raises the same errors as `writing`."""
        return self._transaction(writes=False)

    def writing(self) -> AbstractAsyncContextManager[AsyncConnection]:
        """Context manager: begin a transaction that is committed when the block ends.

        If the block raises an exception, the transaction is rolled back. If the database is
        unreachable or too slow (`BackendUnavailable`), the transaction may have been committed.
        """
        return self._transaction(writes=True)

    async def rewrite(self, work: Callable[[sa.Connection], T]) -> T:
        """Run `work` in a transaction. Use this only for data that can be rebuilt from the images.

        With SQLite, `work` runs in a single thread, and the commit does not wait for the disk. A
        power failure may lose the whole transaction, but no part of it. Raises as `writing` does.
        """
        unsynced = self._unsynced
        if unsynced is None:
            async with self.writing() as connection:
                return await connection.run_sync(work)

        def run() -> T:
            with unsynced.connect() as connection:
                connection.execution_options(**{_WRITES: True})
                with connection.begin():
                    return work(connection)

        # The asynchronous driver is slower: it switches threads several times per statement.
        with translated():
            async with asyncio.timeout(_SQLITE_TIMEOUT_S), self._turn:
                return await asyncio.get_running_loop().run_in_executor(self._thread, run)

    @contextlib.asynccontextmanager
    async def _transaction(self, *, writes: bool) -> AsyncIterator[AsyncConnection]:
        timeout_s = _SQLITE_TIMEOUT_S if self.is_sqlite else _TIMEOUT_S
        with translated():
            async with (
                # After the first timeout, the driver tells the server to cancel, and waits up to
                # 10 s. After the second timeout, it closes the connection.
                asyncio.timeout(timeout_s + _CANCEL_S),
                asyncio.timeout(timeout_s),
                self._turn if writes else contextlib.nullcontext(),
                self._engine.connect() as connection,
            ):
                await connection.execution_options(**{_WRITES: writes})
                async with connection.begin():
                    yield connection

    async def expand(self, connection: AsyncConnection, query: T) -> T:
        """Let the hooks change the query of a search, and return the query to run."""
        for searching in self.hooks.searching:
            query = await searching(connection, query)
        return query

    async def note_changed(self, connection: AsyncConnection, keys: Keys) -> None:
        """Call the hooks for changed resources. Only `note_written` may follow in a transaction."""
        for changed in self.hooks.changed:
            await connection.run_sync(changed, keys)

    async def note_written(self, connection: AsyncConnection, *changes: Change) -> None:
        """Call the hooks for the changes of a transaction, as its last step."""
        for written in self.hooks.written if changes else ():
            await connection.run_sync(written, changes)

    def note_stale(
        self, connection: sa.Connection, keys: Collection[StorageKey], *, by_library: bool = False
    ) -> None:
        """Call the hooks for images that a transaction has recorded as deleted or replaced."""
        for stale in self.hooks.stale if keys else ():
            stale(connection, keys, by_library=by_library)

    async def check(self) -> None:
        """Raise `BackendUnavailable` if PostgreSQL does not respond.

        SQLite is not checked: it depends only on the disk, and a query would create files.
        """
        if not self.is_sqlite:
            async with self.reading() as connection:
                await connection.execute(sa.select(1))

    async def close(self) -> None:
        """Close all connections."""
        await self._engine.dispose()
        await asyncio.to_thread(self._thread.shutdown)
        if self._unsynced is not None:
            await asyncio.to_thread(self._unsynced.dispose)


class Rows:
    """Base class of all classes that access rows in the database."""

    def __init__(self, engine: RowsEngine) -> None:
        self._engine = engine

    async def _read(self, statement: sa.Select[Any]) -> Sequence[sa.Row[Any]]:
        async with self._engine.reading() as connection:
            rows: Sequence[sa.Row[Any]] = (await connection.execute(statement)).all()
        return rows

    async def _pages(
        self, statement: sa.Select[Any], *columns: sa.ColumnElement[Any], limit: int
    ) -> AsyncIterator[Sequence[sa.Row[Any]]]:
        """Yield a statement's rows in pages, sorted by columns that together identify a row.

        Each page is read in its own transaction.
        """
        statement = statement.order_by(*columns).limit(limit)
        following = statement
        while rows := await self._read(following):
            yield rows
            last = (sa.literal(getattr(rows[-1], str(key.key)), key.type) for key in columns)
            following = statement.where(sa.tuple_(*columns) > sa.tuple_(*last))

    async def _execute(self, statement: sa.Executable) -> Sequence[sa.Row[Any]]:
        async with self._engine.writing() as connection:
            result = await connection.execute(statement)
            return result.all() if result.returns_rows else ()


class _SqliteConnection(sqlite3.Connection):
    """SQLite connection that closes itself when it is garbage-collected.

    If a caller is cancelled while aiosqlite opens a connection, that connection is not closed.
    """

    def __del__(self) -> None:
        self.close()


@contextlib.contextmanager
def migrating(config: RowsConfig) -> Iterator[sa.Connection]:
    """Context manager: begin an exclusive transaction for a migration. Other processes wait.

    Raises `ConfigurationError` if the database URL is invalid, or `BackendUnavailable` if the
    database is unreachable or the lock was not acquired in time.
    """
    engine = _sync_engine(config)
    with contextlib.ExitStack() as stack, translated():
        if isinstance(config, SqliteConfig):
            stack.enter_context(_locked(config.file))
        stack.callback(engine.dispose)
        connection = stack.enter_context(engine.connect())
        connection = connection.execution_options(**{_WRITES: True})
        stack.enter_context(connection.begin())
        if isinstance(config, PostgresConfig):
            # The lock is released with the transaction, so it also works with a pooler.
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_ADVISORY_LOCK)))
        yield connection


_ADVISORY_LOCK: Final = int.from_bytes(b"stillrm", "big")
"""Id of our PostgreSQL lock; see https://www.postgresql.org/docs/17/explicit-locking.html."""


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """Context manager: convert errors of the database driver to `BackendUnavailable`.

    Errors that indicate a bug in Stillroom are not converted.
    """
    try:
        yield
    except _BUGS:
        raise
    except (DBAPIError, PoolTimeout, OSError) as error:  # a TimeoutError is an OSError
        raise BackendUnavailable("the media library's database is out of reach") from error


def _url(config: RowsConfig, *, driver: str) -> URL:
    if isinstance(config, SqliteConfig):
        return URL.create(f"sqlite+{driver}", database=str(config.file.absolute()))
    try:
        return make_url(config.url).set(drivername="postgresql+psycopg")
    except (ArgumentError, ValueError):  # the text of the error contains the password
        raise ConfigurationError(
            "STILLROOM_DATABASE_URL must be a URL such as postgresql://user:password@host/name"
        ) from None


def _options(config: RowsConfig) -> dict[str, Any]:
    if isinstance(config, SqliteConfig):
        return {"hide_parameters": True, "connect_args": {"timeout": _BUSY_S}}
    # Prepared statements belong to one session, but a transaction pooler changes the session.
    arguments = {"connect_timeout": _CONNECT_S, "prepare_threshold": None}
    pool = {"pool_size": _POOLED, "pool_timeout": _CONNECT_S, "pool_pre_ping": True}
    return {"hide_parameters": True, "connect_args": arguments, **pool}


def _sync_engine(config: RowsConfig, *, synchronous: str = "FULL") -> sa.Engine:
    engine = sa.create_engine(_url(config, driver="pysqlite"), **_options(config))
    if isinstance(config, SqliteConfig):
        _configure(engine, config, synchronous=synchronous)
    return engine


def _configure(engine: sa.Engine, config: SqliteConfig, *, synchronous: str = "FULL") -> None:
    rules = "journal_mode=WAL", f"synchronous={synchronous if config.durable else 'OFF'}"

    @event.listens_for(engine, "connect")
    def configure(connection: Any, _: object) -> None:  # noqa: ANN401  (either driver's)
        connection.isolation_level = None  # keep the driver from beginning transactions; see below
        cursor = connection.cursor()
        for rule in (*rules, "foreign_keys=ON"):
            cursor.execute(f"PRAGMA {rule}")
        cursor.close()

    @event.listens_for(engine, "begin")
    def begin(connection: sa.Connection) -> None:
        writes = connection.get_execution_options().get(_WRITES, False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


@contextlib.contextmanager
def _locked(file: Path) -> Iterator[None]:
    """Context manager: lock a file while SQLite is switched to its write-ahead log (WAL).

    Without this lock, two processes that switch at the same time get an error instead of waiting.
    Afterwards, the database's folder is flushed to disk (fsync).
    """
    file.parent.mkdir(parents=True, exist_ok=True, mode=_FOLDER_MODE)  # may be missing (bucket)
    # Do not open an existing database: closing any descriptor of it would release SQLite's own
    # locks (https://www.sqlite.org/howtocorrupt.html, 2.2).
    with contextlib.suppress(FileExistsError):
        os.close(os.open(file, os.O_RDWR | os.O_CREAT | os.O_EXCL, _FILE_MODE))
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW
    fd = os.open(file.with_suffix(".lock"), flags, _FILE_MODE)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
        folder = os.open(file.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    finally:
        os.close(fd)
