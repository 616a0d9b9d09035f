"""Access to the rows of events. SQLAlchemy is imported on the first use."""

from typing import TYPE_CHECKING

from stillroom.features.database.database import Database

if TYPE_CHECKING:
    from stillroom.features.database.engine import RowsEngine
    from stillroom.features.events.rows import EventRows


async def event_rows(database: Database) -> "EventRows":
    """Return the `EventRows` of a database. Raises `BackendUnavailable`."""
    await database.engine()  # which imports SQLAlchemy in a thread
    from stillroom.features.events.rows import EventRows

    return await database.part(EventRows)


def record_events(engine: "RowsEngine") -> None:
    """Let all transactions of an engine add events for what they change."""
    from stillroom.features.events.rows import add_events

    engine.hooks.written.append(add_events)
