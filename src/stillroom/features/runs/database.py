"""Access to the unfinished deletions of runs. SQLAlchemy is imported on the first use."""

from typing import TYPE_CHECKING

from stillroom.features.database.database import Database

if TYPE_CHECKING:
    from stillroom.features.runs.deletion_rows import RunDeletionRows


async def run_deletion_rows(database: Database) -> "RunDeletionRows":
    """Return the `RunDeletionRows` of a database. Raises `BackendUnavailable`."""
    await database.engine()  # which imports SQLAlchemy in a thread
    from stillroom.features.runs.deletion_rows import RunDeletionRows

    return await database.part(RunDeletionRows)
