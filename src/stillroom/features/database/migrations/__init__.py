"""Creation and migration of the tables, under a lock and in one transaction."""

import importlib
from pathlib import Path
from typing import Final

import sqlalchemy as sa

from stillroom.errors import BackendUnavailable
from stillroom.features.database.config import RowsConfig
from stillroom.features.database.engine import migrating
from stillroom.features.database.tables import metadata

HEAD: Final = "0015"  # newest schema revision in `versions/`, as a test checks
_OLDEST: Final = "0011"  # oldest revision that can be migrated: Stillroom 0.3 (docs/stability.md)
TABLE_MODULES: Final = (
    "stillroom.features.events.tables",
    "stillroom.features.events.webhook_tables",
    "stillroom.features.library.rows.tables",
    "stillroom.features.purge.tables",
    "stillroom.features.runs.tables",
    "stillroom.features.search.tables",
    "stillroom.features.trash.tables",
)
"""Modules of features that declare tables. A test checks that none is missing."""

_VERSIONS: Final = "alembic_version"
_versions = sa.table(_VERSIONS, sa.column("version_num"))


def migrate(config: RowsConfig) -> tuple[str | None, str]:
    """Create the tables or run missing migrations. Other processes that call this function wait.

    Return the schema revision before the migration (None if there were no tables) and after it.
    Raises the same exceptions as `Database.engine`.
    """
    with migrating(config) as connection:
        before = _revision(connection)
        if before is None:
            _create_tables(connection)
        elif before > HEAD:
            raise BackendUnavailable(
                f"the tables of the media library have schema version {before}, which a newer "
                "Stillroom created: run that Stillroom version or a later one"
            )
        elif before < _OLDEST:
            raise BackendUnavailable(
                f"the tables of the media library have schema version {before}, from before "
                "Stillroom 0.3: install Stillroom 0.3, run its `stillroom media migrate`, and then "
                "start this version again"
            )
        elif before != HEAD:
            _upgrade(connection)
        return before, HEAD


def _create_tables(connection: sa.Connection) -> None:
    for module in TABLE_MODULES:
        try:
            importlib.import_module(module)
        except ModuleNotFoundError as error:
            # The folder of this feature, or of one that it needs, was deleted (ARCHITECTURE.md).
            if not str(error.name).startswith("stillroom.features."):
                raise
    metadata.create_all(connection, checkfirst=False)  # never use another program's tables
    key = f"CONSTRAINT {_VERSIONS}_pkc PRIMARY KEY (version_num)"  # as Alembic declares it
    columns = f"version_num VARCHAR(32) NOT NULL, {key}"
    connection.execute(sa.text(f"CREATE TABLE {_VERSIONS} ({columns})"))
    connection.execute(sa.insert(_versions).values(version_num=HEAD))


def _upgrade(connection: sa.Connection) -> None:
    # Imported here: the import takes a tenth of a second, and few starts migrate anything.
    from alembic import command
    from alembic.config import Config

    alembic = Config()
    alembic.set_main_option("script_location", str(Path(__file__).parent))
    alembic.attributes["connection"] = connection
    command.upgrade(alembic, "head")


def found(config: RowsConfig) -> str | None:
    """Return the schema revision, or None if there are no tables. Raises errors like `migrate`."""
    with migrating(config) as connection:
        return _revision(connection)


def _revision(connection: sa.Connection) -> str | None:
    if not sa.inspect(connection).has_table(_VERSIONS):
        return None
    revision: str | None = connection.execute(sa.select(_versions.c.version_num)).scalar()
    return revision
