"""Configuration of the library's database, usable without importing a database driver."""

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class SqliteConfig:
    """Configuration of an SQLite database.

    Attributes:
        file: Database file, in an existing folder. Several processes may share the file.
        durable: False to never wait until data is on the disk (no fsync), for temporary data.
    """

    file: Path
    durable: bool = True


@dataclass(frozen=True, slots=True)
class PostgresConfig:
    """Configuration of a PostgreSQL database.

    Attributes:
        url: `postgresql://user:password@host/name`. Never logged, because of the password.
    """

    url: str = field(repr=False)


RowsConfig = SqliteConfig | PostgresConfig
