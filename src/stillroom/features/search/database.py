"""Access to the rows of the search index. SQLAlchemy is imported on the first use."""

from typing import TYPE_CHECKING

from stillroom.features.database.database import Database

if TYPE_CHECKING:
    from stillroom.features.search.comparison_rows import ComparisonRows
    from stillroom.features.search.rows import SearchRows


async def search_rows(database: Database) -> "SearchRows":
    """Return the `SearchRows` of a database. Raises `BackendUnavailable`."""
    await database.engine()  # which imports SQLAlchemy in a thread
    from stillroom.features.search.rows import SearchRows

    return await database.part(SearchRows)


async def comparison_rows(database: Database) -> "ComparisonRows":
    """Return the `ComparisonRows` of a database. Raises `BackendUnavailable`."""
    await database.engine()  # which imports SQLAlchemy in a thread
    from stillroom.features.search.comparison_rows import ComparisonRows

    return await database.part(ComparisonRows)
