"""Access to the rows of runs. SQLAlchemy is imported on the first use."""

from typing import TYPE_CHECKING

from stillroom.features.database.database import Database

if TYPE_CHECKING:
    from stillroom.features.database.engine import RowsEngine
    from stillroom.features.runs.deletion_rows import RunDeletionRows
    from stillroom.features.runs.publication_rows import RunPublicationRows


async def run_deletion_rows(database: Database) -> "RunDeletionRows":
    """Return the `RunDeletionRows` of a database. Raises `BackendUnavailable`."""
    await database.engine()  # which imports SQLAlchemy in a thread
    from stillroom.features.runs.deletion_rows import RunDeletionRows

    return await database.part(RunDeletionRows)


def report_runs(engine: "RowsEngine") -> None:
    """Let events about images name the published run that contains the image."""
    from stillroom.features.runs.publication_rows import find_runs

    engine.hooks.runs = find_runs


async def run_publication_rows(database: Database) -> "RunPublicationRows":
    """Return the `RunPublicationRows` of a database. Raises `BackendUnavailable`."""
    await database.engine()  # which imports SQLAlchemy in a thread
    from stillroom.features.runs.publication_rows import RunPublicationRows

    return await database.part(RunPublicationRows)
