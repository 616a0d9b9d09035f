"""Connection to the media library's database, which is opened and migrated on first use.

Importing SQLAlchemy and its drivers takes a quarter of a second. A process that only saves and
reads images never imports them. A server imports them before it accepts requests.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from stillroom.errors import BackendUnavailable, StillroomError
from stillroom.features.database.config import PostgresConfig, RowsConfig

if TYPE_CHECKING:
    from stillroom.features.database.repository import MediaRepository

log = logging.getLogger("stillroom.media")


class MediaDatabase:
    """Connection to the library's database. Opens on first use, and is bound to one event loop."""

    def __init__(self, config: RowsConfig) -> None:
        self._config = config
        self._opening = asyncio.Lock()
        self._repository: MediaRepository | None = None
        self._trouble = ""

    @property
    def description(self) -> str:
        """One-line description for log messages."""
        if isinstance(self._config, PostgresConfig):
            return "PostgreSQL at STILLROOM_DATABASE_URL"
        return f"SQLite in {self._config.file.absolute()}"

    @property
    def opened(self) -> "MediaRepository | None":
        """`MediaRepository` (row access) if the database is already open, else None."""
        return self._repository

    async def rows(self) -> "MediaRepository":
        """Return the repository, after opening and migrating the database if necessary.

        Raises:
            BackendUnavailable: the database is unreachable, or its schema is newer than this
                version. The next call retries.
            ConfigurationError: the database URL is invalid.
        """
        if self._repository is None:
            async with self._opening:
                if self._repository is None:
                    try:
                        self._repository = await asyncio.to_thread(_open, self._config)
                    except StillroomError as error:
                        self._trouble = str(error)
                        raise
        return self._repository

    async def check(self) -> bool:
        """Return True if the database is open and responds, or False if it was never opened.

        A health check must not create files, so this never opens the database. It raises
        `BackendUnavailable` if the database does not respond, or if the last attempt to open it
        failed.
        """
        if self._repository is None:
            if self._trouble:
                raise BackendUnavailable(self._trouble)
            return False
        await self._repository.check()
        return True

    @contextlib.asynccontextmanager
    async def kept_open(self) -> AsyncIterator[None]:
        """Context manager: open the database in the background; close it when the block ends.

        The drivers are imported before the block begins. On a busy machine the imports take
        seconds, which would delay the indexing of the first saved images.
        """
        await asyncio.to_thread(_import)
        opening = asyncio.create_task(self._open_early())
        try:
            yield
        finally:
            opening.cancel()
            await asyncio.wait([opening])
            await self.close()

    async def _open_early(self) -> None:
        try:
            await self.rows()
        except StillroomError as error:
            log.warning(
                "cannot open the database of the media library, the next use tries again: %s (%r)",
                error,
                error.__cause__,
            )

    async def close(self) -> None:
        """Close the database if it is open."""
        async with self._opening:
            if self._repository is not None:
                await self._repository.close()
                self._repository = None
        self._opening = asyncio.Lock()  # the next use may be in another event loop


def _import() -> None:
    from stillroom.features.database import (
        migrations,  # noqa: F401  (for its effect)
        repository,  # noqa: F401  (for its effect)
    )


def _open(config: RowsConfig) -> "MediaRepository":
    from stillroom.features.database.engine import RowsEngine
    from stillroom.features.database.migrations import migrate
    from stillroom.features.database.repository import MediaRepository

    before, after = migrate(config)
    if before != after:
        log.info("media library: schema migrated from %s to %s", before or "none", after)
    return MediaRepository(RowsEngine(config))
