"""Events, with their JSON representation in the feed and in webhooks."""

import uuid
from dataclasses import dataclass
from datetime import UTC, datetime

from stillroom.features.database.changes import Change
from stillroom.features.events.types import LIBRARY_TYPES, RUN_TYPES


@dataclass(frozen=True, slots=True, kw_only=True)
class Event(Change):
    """Event in the feed: a change with id, position and time. Positions ascend over time."""

    id: uuid.UUID
    position: int
    occurred_at: datetime

    def is_below(self, prefix: str) -> bool:
        """Return whether the event matches a prefix of paths, as `matching` in `tables.py` does."""
        path = self.path or ""
        is_run = self.type in RUN_TYPES and f"{path}/" == prefix
        return is_run or path.startswith(prefix)

    def as_json(self, cursor: str | None = None) -> dict[str, object]:
        """Return the event as a JSON object. Only events in the feed have a cursor."""
        data: dict[str, object] = {"path": self.path, **self.data}
        if self.type in LIBRARY_TYPES:
            data["id"] = self.resource_id and str(self.resource_id)
        if self.reason is not None:
            data["reason"] = self.reason
        moment = self.occurred_at.astimezone(UTC).isoformat(timespec="milliseconds")
        return {
            "id": f"evt_{self.id.hex}",  # also the header `webhook-id`
            "type": self.type,
            "timestamp": moment.replace("+00:00", "Z"),
            **({} if cursor is None else {"cursor": cursor}),
            "data": data,
            "actor": self.actor,
            "found": self.found,
        }
