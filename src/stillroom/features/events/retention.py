"""Background job that deletes old events."""

from datetime import timedelta

from stillroom.features.database.database import Database
from stillroom.features.events.database import event_rows
from stillroom.store.background import Stopping


async def drop_old_events(database: Database, age: timedelta, stopping: Stopping) -> int:
    """Delete events that are older than `age`, in batches. Return their number."""
    rows, total = await event_rows(database), 0
    while not stopping.is_set():
        dropped = await rows.drop(age)
        total += dropped
        if not dropped:
            break
    return total
