"""Access to the rows of events and webhooks. SQLAlchemy is imported on the first use."""

import contextlib
from typing import TYPE_CHECKING, Final

from stillroom.features.database.database import Database

if TYPE_CHECKING:
    from stillroom.features.database.engine import RowsEngine
    from stillroom.features.events.rows import EventRows
    from stillroom.features.events.webhook_rows import WebhookRows

ROWS: Final = ("stillroom.features.events.rows", "stillroom.features.events.webhook_rows")
"""Modules that access rows, which a server imports before it serves."""


async def event_rows(database: Database) -> "EventRows":
    """Return the `EventRows` of a database. Raises `BackendUnavailable`."""
    await database.engine()  # which imports SQLAlchemy in a thread
    from stillroom.features.events.rows import EventRows

    return await database.part(EventRows)


async def webhook_rows(database: Database) -> "WebhookRows":
    """Return the `WebhookRows` of a database. Raises `BackendUnavailable`."""
    await database.engine()  # which imports SQLAlchemy in a thread
    from stillroom.features.events.webhook_rows import WebhookRows

    return await database.part(WebhookRows)


def has_full_text(database: Database) -> bool:
    """Return whether the database can contain a search index, without which it has no events."""
    if not database.is_sqlite:
        return True
    import sqlite3

    with contextlib.closing(sqlite3.connect(":memory:")) as connection:
        asked = "SELECT 1 FROM pragma_module_list WHERE name = 'fts5'"
        return connection.execute(asked).fetchone() is not None


def record_events(engine: "RowsEngine") -> None:
    """Let all transactions of an engine add events for what they change."""
    from stillroom.features.events.rows import add_events

    engine.hooks.written.append(add_events)
