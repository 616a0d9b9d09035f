"""Data classes of the media library: resources, ingest intents, pending and failed deletions."""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, ClassVar, Final

from stillroom.features.search.values import NO_FACTS, FactsQuery
from stillroom.paths import KeyPrefix, StorageKey
from stillroom.store.causes import Cause, Reason
from stillroom.wire.generation import AiMark, Generation

# Values of `MediaResource.resource_type`:
IMAGE: Final = "image"
VIDEO: Final = "video"

# Reasons for a pending deletion:
RELOCATED: Final = "relocated"  # the library has a copy of the image
DELETED: Final = "deleted"  # the resource or the run was deleted
EXPIRED: Final = "expired"  # the image's lifetime has ended (in older rows, or a rule applied)
RULE: Final = "rule"  # a retention rule applied; it is checked again before the deletion
ERASED: Final = "erased"  # an operator erased the resource; also deletes saves of the same bytes
ORPHAN: Final = "orphan"  # an operator requested to delete an image that has no row
TRASH: Final = "trash"  # an image in the trash, which is deleted for good when it is due

# Reasons in events about deleted images:
_REASONS: Final[Mapping[str, Reason]] = {
    EXPIRED: "expired",
    RULE: "retention",
    RELOCATED: "relocated",
    DELETED: "run",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaResource:
    """Image or video in the media library.

    Attributes:
        id: UUIDv7, so that ids sort by creation time.
        storage_key: Key of the library's copy of the file, below `media/`. The original key if the
            library has no copy.
        source_key: Key from which the file was first ingested; None if unknown.
        save_id: Version of the file at `storage_key`; see `StoredImage.save_id`.
        content_hash: SHA-256, 32 bytes. Unique among resources.
        extension: File extension for the content, without a dot.
        width: Width in pixels. For a video, the width after rotation.
        color_profile: Name such as `sRGB` or `Display P3`; None if the file has no named profile.
        deleted_at: Time of the deletion request (UTC); None if the resource is not deleted.
        duration: Duration in seconds, rounded to microseconds; None for images.
        dominant_color: `#rrggbb` in sRGB; None if it is not computed yet or cannot be computed.
        ai_mark: Label that says whether AI made the file's content; None if not read or unknown.
        generation: Generation metadata (model, prompt and so on) without `raw`; None if unknown.
    """

    id: uuid.UUID
    resource_type: str
    storage_key: StorageKey
    save_id: str
    content_hash: bytes
    extension: str
    content_type: str
    file_size: int
    width: int
    height: int
    color_profile: str | None
    protected: bool = False
    alt_text: str | None = None
    caption: str | None = None
    created_at: datetime
    deleted_at: datetime | None = None
    source_key: StorageKey | None = None
    duration: float | None = None
    dominant_color: str | None = None
    tags: tuple[str, ...] = ()
    ai_mark: AiMark | None = None
    generation: Generation | None = None

    COMPUTED: ClassVar = ("dominant_color", "ai_mark")
    """Names of the fields that are computed later if they are unknown after an ingest."""

    def is_from(self, folder: KeyPrefix) -> bool:
        """Return True if the source was in `folder` and the file is in `folder` or in `media/`."""
        return (
            self.source_key is not None
            and self.source_key.text.startswith(folder.text)
            and (self.storage_key.is_media or self.storage_key.text.startswith(folder.text))
        )


IN_PLACE: Final = uuid.UUID(int=0)  # `Intent.resource_id` if an image is recorded without a copy


@dataclass(frozen=True, slots=True)
class Intent:
    """Announcement of an ingest, written to the database before the ingest begins.

    The resource `resource_id` will use the copy at `media_key`. If `resource_id` is `IN_PLACE`, the
    image is not copied, and no sweeper may delete it until the ingest ends.
    """

    media_key: StorageKey
    resource_id: uuid.UUID
    source_key: StorageKey


@dataclass(frozen=True, slots=True)
class Mark:
    """Pending deletion of one specific version of an image.

    Attributes:
        save_id: Version to delete. Any other version is kept, even if the bytes are the same.
        reason: One of the constants above, such as `RELOCATED`.
        resource_id: Deleted resource that used the image; None if there is no such resource.
        content_hash: SHA-256 of an ingest's source. The source is deleted only if a resource has
            the same bytes.
        source_key: Source of the deleted resource; None if there is no such resource.
    """

    storage_key: StorageKey
    save_id: str
    reason: str
    due_at: datetime
    resource_id: uuid.UUID | None = None
    content_hash: bytes | None = None
    source_key: StorageKey | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DueMark(Mark):
    """Row of a pending deletion. Old versions of Stillroom did not store `content_hash`.

    Attributes:
        id: Id of the row, and of the dead letter if all attempts fail.
        attempts: Number of attempts. In a claimed row, it includes the current attempt.
        copy: Resource that had the SHA-256 `content_hash` when the row was claimed, or None.
    """

    id: uuid.UUID
    created_at: datetime
    attempts: int
    copy: MediaResource | None = None

    @property
    def cause(self) -> Cause:
        """Cause of the deletion, for the event about the deleted image."""
        if self.reason == DELETED and self.content_hash is not None:
            return Cause(reason="relocated")  # the source of a resource that was deleted meanwhile
        return Cause(reason=_REASONS.get(self.reason, "request"))


@dataclass(slots=True)
class Settlement:
    """Outcomes of the pending deletions that a sweeper (background job) has claimed."""

    done: list[uuid.UUID] = field(default_factory=list)  # completed or cancelled, to be removed
    # Images that no longer exist, with the time (nanoseconds) at which the deletion began:
    deleted: list[tuple[DueMark, int]] = field(default_factory=list)
    # Failed, with the error and the time of the next attempt:
    retried: list[tuple[DueMark, str, datetime]] = field(default_factory=list)
    dead_lettered: list[tuple[DueMark, str]] = field(default_factory=list)  # with the error
    left: list[DueMark] = field(default_factory=list)  # not attempted


DELETION: Final = "deletion"  # `DeadLetter.kind` of a deletion; the payload has fields of `DueMark`


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """Job that has failed permanently. `payload` is a JSON object with the data for a retry."""

    id: uuid.UUID
    kind: str
    payload: Mapping[str, Any]
    created_at: datetime
    failed_at: datetime
    attempts: int
    last_error: str | None


@dataclass(frozen=True, slots=True)
class RunDeletion:
    """Progress of the deletion of a run's images.

    Attributes:
        trash_id: Id of the images in the trash. If None, they are deleted after the grace period.
    """

    folder: str  # key prefix of the run's images: `compute/<folder>/`
    saved_until: datetime  # time of the latest save (UTC) that is deleted
    after: str = ""  # last key that was processed
    marked: int = 0  # number of images marked for deletion
    kept: int = 0  # number of images kept because they belong to a resource of the media library
    newer: int = 0  # number of images kept because they were saved later than `saved_until`
    trash_id: uuid.UUID | None = None


@dataclass(frozen=True, slots=True)
class QueueMetrics:
    """Numbers of rows in the queues of the media library."""

    marks: int  # pending deletions
    trash: int  # pending deletions of images in the trash
    due: int  # pending deletions that are due
    oldest_due: timedelta  # time since the earliest due date; 0 if no deletion is due
    intents: int
    dead_letters: int
    healing: int  # jobs that compute missing metadata


@dataclass(frozen=True, slots=True)
class HealingJob:
    """Claimed job that computes a resource's missing metadata."""

    resource: MediaResource
    attempts: int  # includes the current attempt
    reread: bool  # True to parse the file header, too
    until: datetime  # end of the claim


@dataclass(frozen=True, slots=True)
class ResourceQuery:
    """Query for a page of resources, newest first. Filters are combined with AND."""

    after: uuid.UUID | None = None  # id of the last resource on the previous page
    limit: int = 100
    content_hash: bytes | None = None
    content_type: str | None = None
    resource_type: str | None = None
    created_from: datetime | None = None  # inclusive
    created_before: datetime | None = None  # exclusive
    tags: Sequence[str] = ()  # each is required
    without_tags: Sequence[str] = ()  # each is excluded
    source_keys: Sequence[StorageKey] = ()  # allowed keys; empty to allow all
    source_prefix: KeyPrefix | None = None  # prefix of the source or of the file
    facts: FactsQuery = NO_FACTS  # filter on the generation metadata in the search index


@dataclass(frozen=True, slots=True)
class ResourcePage:
    """Page of resources, newest first. `more` is True if there is a next page."""

    resources: Sequence[MediaResource]
    more: bool = False


Change = dict[str, object]  # new values for fields of `MediaResource`, by name


class IntentLost(Exception):
    """Error: a sweeper (background job) may have deleted the copied file. Repeat the ingest."""


class MarkClaimed(Exception):
    """Error: a sweeper is already deleting the image that is to be ingested without a copy."""


class SourceChanged(Exception):
    """Error: the source image was saved again during the ingest. Repeat the ingest."""
