"""Migration of the tables to this version's schema, under a lock and in one transaction."""

from pathlib import Path
from typing import Final

import sqlalchemy as sa

from stillroom.errors import BackendUnavailable
from stillroom.features.database.config import RowsConfig
from stillroom.features.database.engine import migrating

HEAD: Final = "0012"
"""Newest schema revision in `versions/`. A test checks this."""

_VERSIONS: Final = "alembic_version"


def migrate(config: RowsConfig) -> tuple[str | None, str]:
    """Run the missing migrations, while other processes that call this function wait.

    Return the schema revision before the migration (None if there were no tables) and after it.

    Raises:
        BackendUnavailable: the database is unreachable, or its schema is newer than this version.
        ConfigurationError: the database URL is invalid.
    """
    with migrating(config) as connection:
        found = _revision(connection)
        if found == HEAD:
            return found, HEAD
        # Imported here because there is nothing to migrate at nearly every start.
        from alembic import command
        from alembic.config import Config
        from alembic.script import ScriptDirectory

        alembic = Config()
        alembic.set_main_option("script_location", str(Path(__file__).parent))
        alembic.attributes["connection"] = connection
        known = {
            script.revision for script in ScriptDirectory.from_config(alembic).walk_revisions()
        }
        if found is not None and found not in known:
            raise BackendUnavailable(
                f"the tables of the media library have schema version {found}, which a newer "
                "Stillroom created: run that Stillroom version or a later one"
            )
        command.upgrade(alembic, "head")
        return found, HEAD


def found(config: RowsConfig) -> str | None:
    """Return the schema revision (None without tables). Raises the same errors as `migrate`."""
    with migrating(config) as connection:
        return _revision(connection)


def _revision(connection: sa.Connection) -> str | None:
    if not sa.inspect(connection).has_table(_VERSIONS):
        return None
    table = sa.table(_VERSIONS, sa.column("version_num"))
    found: str | None = connection.execute(sa.select(table.c.version_num)).scalar()
    return found
