"""Settings of the database and its background jobs."""

import importlib.util
import re
from typing import Annotated, Final

from pydantic import AfterValidator, SecretStr

from stillroom.errors import ConfigurationError
from stillroom.features.database.config import PostgresConfig, RowsConfig, SqliteConfig
from stillroom.store.extras import not_installed
from stillroom.store.settings import Settings

_DATABASE_URL: Final = re.compile(r"postgres(ql)?(\+psycopg)?://")

_LOCAL_ROWS: Final = (
    "the bucket is shared, but the rows of the media library are only on this machine: set "
    "STILLROOM_DATABASE_URL to the same PostgreSQL on all machines"
)


def _check_database_url(value: SecretStr | None) -> SecretStr | None:
    if value and not _DATABASE_URL.match(value.get_secret_value()):
        raise ValueError("must be a URL such as postgresql://user:password@host/name")
    return value


class DatabaseSettings(Settings):
    """Settings of the database and its background jobs."""

    database_url: Annotated[SecretStr | None, AfterValidator(_check_database_url)] = None
    """URL of the PostgreSQL database: `postgresql://user:password@host/name`. By default, the media
    library's rows are in SQLite in the data directory: docs/media.md#where-the-rows-are."""

    @property
    def rows(self) -> RowsConfig:
        """Configuration of the database. Raises `ConfigurationError` if psycopg is missing."""
        if self.database_url is not None:
            if importlib.util.find_spec("psycopg") is None:
                reason = not_installed("psycopg")
                raise ConfigurationError(f"STILLROOM_DATABASE_URL names PostgreSQL, but {reason}")
            return PostgresConfig(self.database_url.get_secret_value())
        file = self.data_dir / ".stillroom" / "library.db"
        return SqliteConfig(file, durable=self.durability == "full")

    @property
    def row_warnings(self) -> list[str]:
        """Warning if a bucket contains the images, but a local SQLite file contains the rows."""
        return [_LOCAL_ROWS] if self._has_bucket and self.database_url is None else []
