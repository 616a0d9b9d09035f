"""Repository for one media library: one object per table, and queries on several tables."""

from collections.abc import Sequence

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
    """Database rows of one library: one attribute for each table."""

    def __init__(self, engine: RowsEngine) -> None:
        super().__init__(engine)
        self.resources = ResourceRows(engine)
        self.tags = TagRows(engine)
        self.healing = HealingRows(engine)
        self.intents = IntentRows(engine)
        self.deletions = DeletionRows(engine)
        self.dead_letters = DeadLetterRows(engine)

    async def unknown_keys(self, keys: Sequence[StorageKey]) -> Sequence[StorageKey]:
        """Return the members of `keys` to which no database row refers."""
        async with self._engine.reading() as connection:
            known = await known_keys(connection, keys)
        return [key for key in keys if key not in known]

    async def queue_metrics(self) -> QueueMetrics:
        """Return the numbers of pending deletions, dead letters, intents and healing jobs."""
        moment = now()
        due = deletions.c.due_at <= moment
        statement = sa.select(
            _count(deletions).scalar_subquery().label("marks"),
            _count(deletions).where(deletions.c.reason == TRASH).scalar_subquery().label("trash"),
            _count(deletions).where(due).scalar_subquery().label("due"),
            sa.select(sa.func.min(deletions.c.due_at, type_=deletions.c.due_at.type))
            .where(due)
            .scalar_subquery()
            .label("oldest_due_at"),
            _count(intents).scalar_subquery().label("intents"),
            _count(dead_letters).scalar_subquery().label("dead_letters"),
            _count(healing).scalar_subquery().label("healing"),
        )
        (row,) = await self._read(statement)
        counts = row._asdict()
        oldest_due_at = counts.pop("oldest_due_at") or moment
        return QueueMetrics(**counts, oldest_due=moment - oldest_due_at)


def _count(table: sa.Table) -> sa.Select[int]:
    return sa.select(sa.func.count()).select_from(table)
