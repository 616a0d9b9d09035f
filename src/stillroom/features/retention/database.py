"""Access to the pending deletions of expired images. SQLAlchemy is imported on the first use."""

from typing import TYPE_CHECKING

from stillroom.features.database.database import Database

if TYPE_CHECKING:
    from stillroom.features.retention.rows import ExpiryRows


async def expiry_rows(database: Database) -> "ExpiryRows":
    """Return the `ExpiryRows` of a database. Raises `BackendUnavailable`."""
    await database.engine()  # which imports SQLAlchemy in a thread
    from stillroom.features.retention.rows import ExpiryRows

    return await database.part(ExpiryRows)
