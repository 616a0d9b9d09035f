"""Configuration of the library's database, usable without importing a database driver."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class SqliteConfig:
    """Configuration of an SQLite database. If `durable` is False, no write waits for the disk."""

    kind: ClassVar = "sqlite"
    file: Path
    durable: bool = True


@dataclass(frozen=True, slots=True)
class PostgresConfig:
    """Configuration of a PostgreSQL database. The URL contains a password and is never logged."""

    kind: ClassVar = "postgresql"
    url: str = field(repr=False)


RowsConfig = SqliteConfig | PostgresConfig
