"""Settings of the media library."""

import re
from datetime import timedelta
from typing import Annotated, Final

from pydantic import AfterValidator, Field, SecretStr

from stillroom.features.library.config import PostgresConfig, RowsConfig, SqliteConfig
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


class LibrarySettings(Settings):
    """Settings of the media library."""

    database_url: Annotated[SecretStr | None, AfterValidator(_check_database_url)] = None
    """PostgreSQL for the media library's rows: `postgresql://user:password@host/name`. By default,
    the rows are in SQLite in the data directory: docs/media.md#where-the-rows-are."""

    deletion_grace_seconds: int = Field(default=3600, ge=0)
    """Seconds until the original of a copied image, or a deleted resource's file, is deleted."""

    sweep_interval_seconds: float = Field(default=30, ge=0)
    """Seconds between runs of the background jobs, such as due deletions, in each process. With 0,
    no jobs run, and `stillroom media sweep` executes due deletions. See
    docs/media.md#what-is-deleted-and-when."""

    @property
    def deletion_grace(self) -> timedelta:
        """Time between scheduling the deletion of an image and deleting it."""
        return timedelta(seconds=self.deletion_grace_seconds)

    @property
    def rows(self) -> RowsConfig:
        """Configuration of the media library's database."""
        if self.database_url is not None:
            return PostgresConfig(self.database_url.get_secret_value())
        file = self.data_dir / ".stillroom" / "library.db"
        return SqliteConfig(file, durable=self.durability == "full")

    @property
    def media_url(self) -> str:
        """Base URL of media resources, to append a key (at the CDN) or an id (at this server)."""
        return self._cdn_url or f"{self._api_url}/media-resources"

    def warnings(self) -> list[str]:
        """Return the warnings of the core, and one about rows that are not shared."""
        is_local = self._has_bucket and self.database_url is None
        return [*super().warnings(), *([_LOCAL_ROWS] if is_local else [])]
