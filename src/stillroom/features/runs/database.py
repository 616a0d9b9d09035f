"""Access to the rows of runs. SQLAlchemy is imported on the first use."""

from typing import TYPE_CHECKING

from stillroom.features.database.database import Database

if TYPE_CHECKING:
    from stillroom.features.database.engine import RowsEngine
    from stillroom.features.runs.rows import RunRows


async def run_rows(database: Database) -> "RunRows":
    """Return the `RunRows` of a database. Raises `BackendUnavailable`."""
    await database.engine()  # which imports SQLAlchemy in a thread
    from stillroom.features.runs.rows import RunRows

    return await database.part(RunRows)


def report_runs(engine: "RowsEngine") -> None:
    """Let events about images name the published run that contains the image."""
    from stillroom.features.runs.rows import find_runs

    engine.hooks.runs = find_runs
