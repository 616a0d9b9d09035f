"""Event types, and the JSON representation of an event in the feed and in webhooks."""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

IMAGE_SAVED: Final = "image.saved"
IMAGE_DELETED: Final = "image.deleted"
RUN_PUBLISHED: Final = "run.published"
RUN_DELETED: Final = "run.deleted"
MEDIA_INGESTED: Final = "media.ingested"
MEDIA_CHANGED: Final = "media.changed"
MEDIA_DELETED: Final = "media.deleted"
DELETION_FAILED: Final = "deletion.failed"
RUN_TYPES: Final = (RUN_PUBLISHED, RUN_DELETED)  # about runs; the path is that of a folder
# To read events of these types, a token needs the scope `media`.
LIBRARY_TYPES: Final = (MEDIA_INGESTED, MEDIA_CHANGED, MEDIA_DELETED, DELETION_FAILED)
TYPES: Final = (IMAGE_SAVED, IMAGE_DELETED, *RUN_TYPES, *LIBRARY_TYPES)


@dataclass(frozen=True, slots=True)
class Event:
    """Event of the feed.

    Attributes:
        position: Position in the feed. Later events have higher positions.
        path: Path of the image, the folder of the run, or the path of a resource's source. None
            if the event has none of these.
        resource_id: Id of the media resource, for events about the library.
        actor: Subject of the token that made the change. None if it is unknown.
        reason: Reason for the deletion of an image. None for other events.
        data: Other members of the JSON object `data`, in addition to `path` and `reason`.
        found: True if the change was found by comparing the storage with the search index.
    """

    id: uuid.UUID
    position: int
    type: str
    occurred_at: datetime
    path: str | None
    resource_id: uuid.UUID | None
    actor: str | None
    reason: str | None
    data: Mapping[str, object]
    found: bool = False

    @property
    def public_id(self) -> str:
        """Id of the event in responses and in `webhook-id`: `evt_` and 32 hexadecimal digits."""
        return f"evt_{self.id.hex}"

    def is_below(self, prefix: str) -> bool:
        """Return whether the path begins with a prefix. See `matching` in `tables.py`."""
        path = self.path or ""
        is_run = self.type in RUN_TYPES and f"{path}/" == prefix
        return is_run or path.startswith(prefix)

    def as_json(self, cursor: str | None = None) -> dict[str, object]:
        """Return the JSON object of the event. Webhooks have no `cursor`."""
        data: dict[str, object] = {"path": self.path, **self.data}
        if self.type in LIBRARY_TYPES:
            data["id"] = self.resource_id and str(self.resource_id)
        if self.reason is not None:
            data["reason"] = self.reason
        moment = self.occurred_at.astimezone(UTC).isoformat(timespec="milliseconds")
        return {
            "id": self.public_id,
            "type": self.type,
            "timestamp": moment.replace("+00:00", "Z"),
            **({} if cursor is None else {"cursor": cursor}),
            "data": data,
            "actor": self.actor,
            "found": self.found,
        }
