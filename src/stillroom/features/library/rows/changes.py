"""Changes that transactions of the library report for the feed of events."""

import uuid
from typing import Final

from stillroom.features.database.changes import Change
from stillroom.features.library.resource import DELETED, DueMark, MediaResource
from stillroom.paths import StorageKey, image_entry
from stillroom.store import causes

INGESTED: Final = "media.ingested"
CHANGED: Final = "media.changed"
GONE: Final = "media.deleted"


def change_of(type_: str, resource: MediaResource) -> Change:
    """Describe a change of a resource by the user of the current request."""
    return Change(
        type_,
        _path_of(resource.source_key),
        resource_id=resource.id,
        actor=causes.current.get().actor,
        data={"storage_key": resource.storage_key.text},
    )


def change_of_copy(mark: DueMark) -> Change | None:
    """Describe the deletion of a resource's file. Return None if no resource had this file."""
    if mark.reason != DELETED or (resource_id := _resource_of(mark.storage_key)) is None:
        return None
    data = {"storage_key": mark.storage_key.text}
    return Change(GONE, _path_of(mark.source_key), resource_id=resource_id, data=data)


def change_of_failure(mark: DueMark, error: str) -> Change:
    """Describe a deletion that has failed permanently."""
    key = mark.storage_key
    return Change(
        "deletion.failed",
        _path_of(mark.source_key if key.is_media else key),
        resource_id=_resource_of(key),
        data={"storage_key": key.text, "dead_letter": str(mark.id), "error": error},
    )


def _path_of(key: StorageKey | None) -> str | None:
    return None if key is None else image_entry(key.text)


def _resource_of(key: StorageKey) -> uuid.UUID | None:
    try:
        return uuid.UUID(key.text.split("/")[1]) if key.is_media else None
    except ValueError:
        return None
