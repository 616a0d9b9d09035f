"""Access to the database rows of runs. SQLAlchemy is imported on first use."""

from typing import TYPE_CHECKING

from stillroom.features.database.database import RowsOf, rows_of

if TYPE_CHECKING:
    from stillroom.features.database.engine import RowsEngine
    from stillroom.features.runs.rows import RunRows

run_rows: "RowsOf[RunRows]" = rows_of("stillroom.features.runs.rows.RunRows")


def report_runs(engine: "RowsEngine") -> None:
    """Add the hook that adds the published run of an image to events about the image."""
    from stillroom.features.runs.rows import find_runs

    engine.hooks.runs = find_runs
