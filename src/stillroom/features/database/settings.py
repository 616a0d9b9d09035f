"""Settings of the database and its background jobs."""

import re
from typing import Annotated, Final

from pydantic import AfterValidator, Field, SecretStr

from stillroom.features.database.config import PostgresConfig, RowsConfig, SqliteConfig
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
    """PostgreSQL for the media library's rows: `postgresql://user:password@host/name`. By default,
    the rows are in SQLite in the data directory: docs/media.md#where-the-rows-are."""

    sweep_interval_seconds: float = Field(default=30, ge=0)
    """Seconds between runs of the background jobs, such as due deletions, in each process. With 0,
    no jobs run, and `stillroom media sweep` executes due deletions. See
    docs/media.md#what-is-deleted-and-when."""

    @property
    def rows(self) -> RowsConfig:
        """Configuration of the media library's database."""
        if self.database_url is not None:
            return PostgresConfig(self.database_url.get_secret_value())
        file = self.data_dir / ".stillroom" / "library.db"
        return SqliteConfig(file, durable=self.durability == "full")

    def warnings(self) -> list[str]:
        """Return the warnings of the core, and one about rows that are not shared."""
        is_local = self._has_bucket and self.database_url is None
        return [*super().warnings(), *([_LOCAL_ROWS] if is_local else [])]
