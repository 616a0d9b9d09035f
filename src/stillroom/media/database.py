"""The media library's database: opened, and migrated, when it is first needed.

SQLAlchemy and its drivers take a quarter of a second to import. A process that only saves and reads
images never waits for that; a server imports them before it serves, and then opens the database.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from stillroom.errors import BackendUnavailable, StillroomError
from stillroom.media.config import PostgresConfig, RowsConfig

if TYPE_CHECKING:
    from stillroom.media.rows.repository import MediaRepository

log = logging.getLogger("stillroom.media")


class MediaDatabase:
    """One repository, opened once. Belongs to the event loop in which it is first used."""

    def __init__(self, config: RowsConfig) -> None:
        """Nothing is opened, or imported, yet."""
        self._config = config
        self._opening = asyncio.Lock()
        self._repository: MediaRepository | None = None
        self._trouble = ""

    @property
    def description(self) -> str:
        """One line for the log."""
        if isinstance(self._config, PostgresConfig):
            return "PostgreSQL at STILLROOM_DATABASE_URL"
        return f"SQLite in {self._config.file.absolute()}"

    @property
    def opened(self) -> "MediaRepository | None":
        """The repository if it was opened already, for what is better left out than waited for."""
        return self._repository

    async def rows(self) -> "MediaRepository":
        """The repository; its tables are there, in the form that this code knows.

        Raises:
            BackendUnavailable: the database is away, or in a newer form; the next call tries again.
            ConfigurationError: the URL cannot be used.
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
        """Whether it was opened, and answers; False before it is needed for the first time.

        It is not opened for this: a probe makes no files. Sweepers try again and again.

        Raises:
            BackendUnavailable: the database is away, or could not be opened the last time.
        """
        if self._repository is None:
            if self._trouble:
                raise BackendUnavailable(self._trouble)
            return False
        await self._repository.check()
        return True

    @contextlib.asynccontextmanager
    async def kept_open(self) -> AsyncIterator[None]:
        """Open it in the background, and close it when the block ends.

        The block begins when what opening needs is imported: on a busy machine that takes seconds,
        for which the first saves would wait until they are found.
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
            log.warning("the media library cannot serve yet: %s (%r)", error, error.__cause__)

    async def close(self) -> None:
        """Close what was opened."""
        async with self._opening:
            if self._repository is not None:
                await self._repository.close()
                self._repository = None
        self._opening = asyncio.Lock()  # the next use may be in another event loop


def _import() -> None:
    from stillroom.media import migrations  # noqa: F401  (for its effect)
    from stillroom.media.rows import repository  # noqa: F401  (for its effect)


def _open(config: RowsConfig) -> "MediaRepository":
    from stillroom.media.migrations import migrate
    from stillroom.media.rows.engine import RowsEngine
    from stillroom.media.rows.repository import MediaRepository

    before, after = migrate(config)
    if before != after:
        log.info("media library: schema migrated from %s to %s", before or "none", after)
    return MediaRepository(RowsEngine(config))
