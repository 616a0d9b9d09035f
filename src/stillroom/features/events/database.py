"""Access to the database rows of events and webhooks. SQLAlchemy is imported on first use."""

import contextlib
from typing import TYPE_CHECKING

from stillroom.features.database.database import Database, RowsOf, rows_of

if TYPE_CHECKING:
    from stillroom.features.database.engine import RowsEngine
    from stillroom.features.events.rows import EventRows
    from stillroom.features.events.webhook_rows import WebhookRows

event_rows: "RowsOf[EventRows]" = rows_of("stillroom.features.events.rows.EventRows")
webhook_rows: "RowsOf[WebhookRows]" = rows_of("stillroom.features.events.webhook_rows.WebhookRows")


def has_full_text(database: Database) -> bool:
    """Return whether the database supports full-text search, which events need."""
    if not database.is_sqlite:
        return True
    import sqlite3

    with contextlib.closing(sqlite3.connect(":memory:")) as connection:
        query = "SELECT 1 FROM pragma_module_list WHERE name = 'fts5'"
        return connection.execute(query).fetchone() is not None


def record_events(engine: "RowsEngine") -> None:
    """Make all transactions of an engine write events for their changes, by adding a hook."""
    from stillroom.features.events.rows import add_events

    engine.hooks.written.append(add_events)
