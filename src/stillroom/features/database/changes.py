"""Changes that transactions report to other features, through `TransactionHooks.written`."""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Change:
    """Change that a transaction makes to an image, a run or a media resource.

    Attributes:
        type: Type of the event, such as `image.saved`.
        path: Path of the image, the folder of the run, or the path of a resource's source. None if
            there is none of these.
        resource_id: Id of the media resource. None for changes of images and runs.
        actor: Subject of the token that requested the change. None if it is unknown.
        reason: Reason for the deletion of an image. None for other changes.
        data: Other members of the event's JSON object `data`.
        found: True if the change was found by comparing the storage with the search index.
    """

    type: str
    path: str | None
    resource_id: uuid.UUID | None = None
    actor: str | None = None
    reason: str | None = None
    data: Mapping[str, object] = field(default_factory=dict)
    found: bool = False
