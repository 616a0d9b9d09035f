"""Connection to the features' database, which is opened and migrated on first use.

Importing SQLAlchemy and its drivers takes a quarter of a second. Commands therefore import the
modules that use them when they open the database, and servers before they accept requests.
"""

import asyncio
import contextlib
import importlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, Any, ClassVar, Final, TypeVar

from stillroom.errors import BackendUnavailable, StillroomError
from stillroom.features.database.config import PostgresConfig, RowsConfig

if TYPE_CHECKING:
    from stillroom.features.database.engine import RowsEngine
    from stillroom.features.database.scans import ScanRows

R = TypeVar("R")
RowsOf = Callable[["Database"], Awaitable[R]]

ROW_MODULES: Final = {"stillroom.features.database.migrations"}
"""Names of the modules that use SQLAlchemy."""

log = logging.getLogger("stillroom.media")


def rows_of(kind: str) -> RowsOf[Any]:
    """Return a function that opens a database, and returns an instance of `kind` for it.

    `kind` is the full name of a subclass of `Rows`. Its module is imported when the database is
    opened. The function raises the same exceptions as `Database.engine`.
    """
    module, _, name = kind.rpartition(".")
    ROW_MODULES.add(module)

    async def rows(database: "Database") -> Any:  # noqa: ANN401  (an instance of `kind`)
        engine = await database.engine()
        if kind not in database.rows_by_kind:
            rows_class = getattr(importlib.import_module(module), name)
            database.rows_by_kind[kind] = rows_class(engine)
        return database.rows_by_kind[kind]

    return rows


class Database:
    """Connection to the database, opened on first use and bound to one event loop.

    Attributes:
        on_connect: Functions that add `TransactionHooks` to a new engine.
        storage_name: Name of the storage whose images the search index should contain.
        rows_by_kind: Instances of `Rows` for the open database, by the full name of their class.
    """

    scans: "ClassVar[RowsOf[ScanRows]]" = rows_of("stillroom.features.database.scans.ScanRows")

    def __init__(self, config: RowsConfig) -> None:
        self._config = config
        self.on_connect: list[Callable[[RowsEngine], None]] = []
        self.storage_name = ""
        self._opening = asyncio.Lock()
        self._engine: RowsEngine | None = None
        self.rows_by_kind: dict[str, object] = {}
        self._trouble = ""

    @property
    def description(self) -> str:
        """One-line description for log messages."""
        if isinstance(self._config, PostgresConfig):
            return "PostgreSQL at STILLROOM_DATABASE_URL"
        return f"SQLite in {self._config.file.absolute()}"

    @property
    def is_sqlite(self) -> bool:
        """True if the database is SQLite, False if it is PostgreSQL."""
        return not isinstance(self._config, PostgresConfig)

    @property
    def is_open(self) -> bool:
        """True if the database is already open."""
        return self._engine is not None

    async def engine(self) -> "RowsEngine":
        """Return the connection pool. Open and migrate the database first if necessary.

        Raises:
            BackendUnavailable: the database is unreachable, or its schema is newer than this
                version or older than Stillroom 0.3. The next call retries.
            ConfigurationError: the database URL is invalid.
        """
        if self._engine is None:
            async with self._opening:
                if self._engine is None:
                    try:
                        self._engine = await asyncio.to_thread(self._connect)
                    except StillroomError as error:
                        self._trouble = str(error)
                        raise
        return self._engine

    def _connect(self) -> "RowsEngine":
        _import_row_modules()
        from stillroom.features.database.engine import RowsEngine
        from stillroom.features.database.migrations import migrate

        before, after = migrate(self._config)
        if before != after:
            origin = f"from {before} " if before else ""
            log.info("media library: schema migrated %sto %s", origin, after)
        engine = RowsEngine(self._config)
        engine.storage_name = self.storage_name
        for add_hooks in self.on_connect:
            add_hooks(engine)
        return engine

    async def check(self) -> bool:
        """Return True if the database is open and responds, or False if it was never opened.

        This method does not open it, because a health check must not create files. Raises
        `BackendUnavailable` if the database does not respond, or if it could not be opened before.
        """
        if self._engine is None:
            if self._trouble:
                raise BackendUnavailable(self._trouble)
            return False
        await self._engine.check()
        return True

    @contextlib.asynccontextmanager
    async def kept_open(self) -> AsyncIterator[None]:
        """Context manager: open the database in the background; close it when the block ends.

        The drivers are imported before the block begins. On a busy machine, the imports take
        seconds and would delay the indexing of the first images that the block saves.
        """
        await asyncio.to_thread(_import_row_modules)
        opening = asyncio.create_task(self._open_early())
        try:
            yield
        finally:
            opening.cancel()
            await asyncio.wait([opening])
            await self.close()

    async def _open_early(self) -> None:
        try:
            await self.engine()
        except StillroomError as error:
            message = "cannot open the database of the media library; the next use will retry"
            log.warning("%s: %s (%r)", message, error, error.__cause__)

    async def close(self) -> None:
        """Close the database if it is open."""
        async with self._opening:
            if self._engine is not None:
                await self._engine.close()
                self._engine = None
                self.rows_by_kind.clear()
        self._opening = asyncio.Lock()  # the next use may be in another event loop


def _import_row_modules() -> None:
    for module in sorted(ROW_MODULES):
        importlib.import_module(module)
