"""Where the rows are; plain values, so that no database is imported before it is used."""

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class SqliteConfig:
    """A file.

    Attributes:
        file: The database; its folder must exist. Several processes may share it.
        durable: False skips every sync, for scratch data.
    """

    file: Path
    durable: bool = True


@dataclass(frozen=True, slots=True)
class PostgresConfig:
    """A server.

    Attributes:
        url: `postgresql://user:password@host/name`; never shown.
    """

    url: str = field(repr=False)


RowsConfig = SqliteConfig | PostgresConfig
