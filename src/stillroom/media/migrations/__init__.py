"""Bringing the tables to the form that this code knows: under a lock, in one transaction."""

from pathlib import Path
from typing import Final

import sqlalchemy as sa

from stillroom.errors import BackendUnavailable
from stillroom.media.config import RowsConfig
from stillroom.media.rows.engine import migrating

HEAD: Final = "0010"
"""The newest of `versions/`; a test compares the two."""

_VERSIONS: Final = "alembic_version"


def migrate(config: RowsConfig) -> tuple[str | None, str]:
    """Run what is missing; of several processes one does it, and the others wait.

    Returns:
        The revision that was found (None: no tables yet), and the one that there is now.

    Raises:
        BackendUnavailable: the database is away, or a newer Stillroom has changed it.
        ConfigurationError: the URL cannot be used.
    """
    with migrating(config) as connection:
        found = _revision(connection)
        if found == HEAD:
            return found, HEAD
        # Imported here: at nearly every start there is nothing to do.
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
                f"the media library's tables have the form {found}, which a newer Stillroom made: "
                "run that one"
            )
        command.upgrade(alembic, "head")
        return found, HEAD


def found(config: RowsConfig) -> str | None:
    """The revision of a database that is there; None: it has no tables yet. Changes nothing.

    Raises:
        BackendUnavailable, ConfigurationError: as `migrate`.
    """
    with migrating(config) as connection:
        return _revision(connection)


def _revision(connection: sa.Connection) -> str | None:
    if not sa.inspect(connection).has_table(_VERSIONS):
        return None
    table = sa.table(_VERSIONS, sa.column("version_num"))
    found: str | None = connection.execute(sa.select(table.c.version_num)).scalar()
    return found
