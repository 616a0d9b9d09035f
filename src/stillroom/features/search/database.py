"""Access to the rows of the search index. SQLAlchemy is imported on the first use."""

from typing import TYPE_CHECKING

from stillroom.features.database.database import Database

if TYPE_CHECKING:
    from stillroom.features.search.indexed_rows import IndexedRows
    from stillroom.features.search.rows import SearchRows
    from stillroom.features.search.start_rows import StartScanRows


async def search_rows(database: Database) -> "SearchRows":
    """Return the `SearchRows` of a database. Raises `BackendUnavailable`."""
    await database.engine()  # which imports SQLAlchemy in a thread
    from stillroom.features.search.rows import SearchRows

    return await database.part(SearchRows)


async def indexed_rows(database: Database) -> "IndexedRows":
    """Return the `IndexedRows` of a database. Raises `BackendUnavailable`."""
    await database.engine()  # which imports SQLAlchemy in a thread
    from stillroom.features.search.indexed_rows import IndexedRows

    return await database.part(IndexedRows)


async def start_rows(database: Database) -> "StartScanRows":
    """Return the `StartScanRows` of a database. Raises `BackendUnavailable`."""
    await database.engine()  # which imports SQLAlchemy in a thread
    from stillroom.features.search.start_rows import StartScanRows

    return await database.part(StartScanRows)
