"""Database access to the media library: an object for each table, and joint queries."""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from stillroom.features.database.clock import now
from stillroom.features.database.engine import Rows, RowsEngine
from stillroom.features.library.resource import TRASH, QueueMetrics
from stillroom.features.library.rows.dead_letters import DeadLetterRows
from stillroom.features.library.rows.deletions import DeletionRows
from stillroom.features.library.rows.healing import HealingRows
from stillroom.features.library.rows.intents import IntentRows
from stillroom.features.library.rows.resources import ResourceRows
from stillroom.features.library.rows.statements import known_keys
from stillroom.features.library.rows.tables import dead_letters, deletions, healing, intents
from stillroom.features.library.rows.tags import TagRows
from stillroom.paths import StorageKey


class MediaRepository(Rows):
    """Database access to the media library, with an attribute for each table."""

    def __init__(self, engine: RowsEngine) -> None:
        super().__init__(engine)
        self.resources = ResourceRows(engine)
        self.tags = TagRows(engine)
        self.healing = HealingRows(engine)
        self.intents = IntentRows(engine)
        self.deletions = DeletionRows(engine)
        self.dead_letters = DeadLetterRows(engine)

    async def unknown_keys(self, keys: Sequence[StorageKey]) -> Sequence[StorageKey]:
        """Return the subset of `keys` to which no row of the media library refers."""
        async with self._engine.reading() as connection:
            known = await known_keys(connection, keys)
        return [key for key in keys if key not in known]

    async def queue_metrics(self) -> QueueMetrics:
        """Return the numbers of pending deletions, dead letters, intents and healing jobs."""
        moment = now()
        due = deletions.c.due_at <= moment
        number = sa.select(sa.func.count())
        oldest = sa.select(sa.func.min(deletions.c.due_at, type_=deletions.c.due_at.type))
        queries: dict[str, sa.Select[Any]] = {
            "marks": number.select_from(deletions),
            "trash": number.where(deletions.c.reason == TRASH),
            "due": number.where(due),
            "oldest_due_at": oldest.where(due),
            "intents": number.select_from(intents),
            "dead_letters": number.select_from(dead_letters),
            "healing": number.select_from(healing),
        }
        columns = (query.scalar_subquery().label(name) for name, query in queries.items())
        (row,) = await self._read(sa.select(*columns))
        counts = row._asdict()
        oldest_due_at = counts.pop("oldest_due_at") or moment
        return QueueMetrics(**counts, oldest_due=moment - oldest_due_at)
