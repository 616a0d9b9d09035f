"""Connection to the features' database, which is opened and migrated on first use.

Importing SQLAlchemy and its drivers takes a quarter of a second. A command therefore imports these
modules on first use. A server imports them before it accepts requests.
"""

import asyncio
import contextlib
import importlib
import logging
from collections.abc import AsyncIterator, Callable, Iterable
from typing import TYPE_CHECKING, ClassVar, TypeVar

from stillroom.errors import BackendUnavailable, StillroomError
from stillroom.features.database.config import PostgresConfig, RowsConfig

if TYPE_CHECKING:
    from stillroom.features.database.engine import Rows, RowsEngine
    from stillroom.features.database.scans import ScanRows

R = TypeVar("R", bound="Rows")

log = logging.getLogger("stillroom.media")


class Database:
    """Connection to the database, opened on first use and bound to one event loop.

    Attributes:
        on_connect: Functions to call with the new engine, to add `TransactionHooks`.
        storage_name: Name of the storage whose images the search index should contain.
    """

    modules: ClassVar[tuple[str, ...]] = (
        "stillroom.features.database.migrations",
        "stillroom.features.database.scans",
    )
    """Modules that access rows, which `kept_open` imports."""

    def __init__(self, config: RowsConfig) -> None:
        self._config = config
        self.on_connect: list[Callable[[RowsEngine], None]] = []
        self.storage_name = ""
        self._opening = asyncio.Lock()
        self._engine: RowsEngine | None = None
        self._parts: dict[type[Rows], Rows] = {}
        self._trouble = ""

    @property
    def description(self) -> str:
        """One-line description for log messages."""
        if isinstance(self._config, PostgresConfig):
            return "PostgreSQL at STILLROOM_DATABASE_URL"
        return f"SQLite in {self._config.file.absolute()}"

    @property
    def is_sqlite(self) -> bool:
        """Return whether the database is SQLite, and not PostgreSQL."""
        return not isinstance(self._config, PostgresConfig)

    @property
    def is_open(self) -> bool:
        """Return whether the database is already open."""
        return self._engine is not None

    async def engine(self) -> "RowsEngine":
        """Return the connection pool, after opening and migrating the database if necessary.

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
        _import(self.modules)
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

    async def part(self, kind: type[R]) -> R:
        """Return this database's instance of `kind`. Raises the same exceptions as `engine`."""
        engine = await self.engine()
        part = self._parts.get(kind)
        if not isinstance(part, kind):
            part = self._parts[kind] = kind(engine)
        return part

    async def scans(self) -> "ScanRows":
        """Return the `ScanRows` of this database. Raises the same exceptions as `engine`."""
        await self.engine()  # which imports SQLAlchemy in a thread
        from stillroom.features.database.scans import ScanRows

        return await self.part(ScanRows)

    async def check(self) -> bool:
        """Return True if the database is open and responds, or False if it was never opened.

        This method never opens the database, because a health check must not create files. Raises
        `BackendUnavailable` if the database does not respond, or if the last attempt to open it
        failed.
        """
        if self._engine is None:
            if self._trouble:
                raise BackendUnavailable(self._trouble)
            return False
        await self._engine.check()
        return True

    @contextlib.asynccontextmanager
    async def kept_open(self, *modules: str) -> AsyncIterator[None]:
        """Context manager: open the database in the background; close it when the block ends.

        The drivers are imported before the block begins. On a busy machine, the imports take
        seconds and would delay the indexing of the first images that the block saves.
        """
        await asyncio.to_thread(_import, [*self.modules, *modules])
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
            log.warning(
                "cannot open the database of the media library; the next use will retry: %s (%r)",
                error,
                error.__cause__,
            )

    async def close(self) -> None:
        """Close the database if it is open."""
        async with self._opening:
            if self._engine is not None:
                await self._engine.close()
                self._engine = None
                self._parts.clear()
        self._opening = asyncio.Lock()  # the next use may be in another event loop


def _import(modules: Iterable[str]) -> None:
    for module in modules:
        importlib.import_module(module)
