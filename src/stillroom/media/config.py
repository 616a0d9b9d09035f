"""Configuration of the library's database: plain values that import no database driver."""

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class SqliteConfig:
    """SQLite database.

    Attributes:
        file: Database file. Its folder must exist. Several processes may share it.
        durable: False skips every sync, for scratch data.
    """

    file: Path
    durable: bool = True


@dataclass(frozen=True, slots=True)
class PostgresConfig:
    """PostgreSQL database.

    Attributes:
        url: `postgresql://user:password@host/name`; never shown, because of the password.
    """

    url: str = field(repr=False)


RowsConfig = SqliteConfig | PostgresConfig
