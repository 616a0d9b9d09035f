"""Database feature: connection for all features that store rows."""

import contextlib
import functools
from collections.abc import Awaitable, Callable, Iterable, Mapping

from stillroom.features.database.database import Database
from stillroom.features.database.settings import DatabaseSettings
from stillroom.paths import MAX_KEY_BYTES
from stillroom.store.feature import Feature, Store


class DatabaseFeature(Feature):
    """Database connection for all features. `kind` is its class, which `library` replaces."""

    kind: type[Database] = Database

    def __init__(self, store: Store) -> None:
        section = store.settings.section(DatabaseSettings)
        self._config, self._warnings = section.rows, section.row_warnings
        self.database_kind = self._config.kind
        storage = store.settings.storage
        is_inside = (storage.kind, self.database_kind) == ("disk", "sqlite")  # also after a move
        name = "the data directory around it" if is_inside else storage.name
        self._storage_name = name[:MAX_KEY_BYTES]

    @functools.cached_property
    def database(self) -> Database:
        """Database connection, which is opened on first use."""
        database = self.kind(self._config)
        database.storage_name = self._storage_name
        return database

    def checks(self) -> Mapping[str, Callable[[], Awaitable[object]]]:
        """Return the health check of the database."""
        return {"database": self.database.check}

    def running(self) -> contextlib.AbstractAsyncContextManager[None]:
        """Context manager: keep the database open until the block ends."""
        return self.database.kept_open()

    def facts(self) -> Iterable[str]:
        """Return a line that describes the database, for the server's log."""
        return [f"media library: {self.database.description}"]

    def warnings(self) -> Iterable[str]:
        """Return a warning if other machines that use the bucket cannot access the rows."""
        return self._warnings

    async def close(self) -> None:
        """Close the database."""
        await self.database.close()
