"""Values of the media library: resources, intents, marks and dead letters, without SQL."""

import secrets
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime, timedelta
from typing import Final

from stillroom.generation.ai_mark import AiMark
from stillroom.generation.facts import Generation
from stillroom.media.index.values import NO_FACTS, FactsQuery
from stillroom.paths import KeyPrefix, StorageKey

IMAGE: Final = "image"
VIDEO: Final = "video"
"""Resource types."""

RELOCATED: Final = "relocated"
"""Reason of a mark: the library has a copy of the image."""

DELETED: Final = "deleted"
"""Reason of a mark: the resource or the run was deleted."""

EXPIRED: Final = "expired"
"""Reason of a mark: saved with an expiration, or marked by a version without retention rules."""

RULE: Final = "rule"
"""Reason of a mark: expired by a retention rule, which is checked again before the deletion."""

ORPHAN: Final = "orphan"
"""Reason of a mark: no row refers to the image, and an operator requested its deletion."""


@dataclass(frozen=True, slots=True)
class MediaResource:
    """Image or video of the library.

    Attributes:
        id: UUIDv7, so that ids sort by creation time.
        resource_type: `IMAGE` or `VIDEO`.
        storage_key: Key of the bytes: below `media/`, or the key at which they were recorded.
        source_key: First key from which the bytes were ingested; None if unknown.
        save_id: Save at `storage_key` that was recorded; see `StoredImage.save_id`.
        content_hash: SHA-256, 32 bytes. It is unique among resources.
        extension: File extension for the content, without a dot.
        file_size: Bytes.
        width: Pixels as stored, like `height`: an orientation in the metadata is not applied.
        color_profile: Name, such as `sRGB` or `Display P3`; None if the file names none.
        protected: The resource cannot be deleted.
        deleted_at: Time of the deletion request (UTC); None for a resource that is not deleted.
        duration: Seconds, for a video.
        dominant_color: `#rrggbb`, sRGB; None until it is computed, and if it cannot be.
        tags: Sorted; see `media/tags.py`.
        ai_mark: AI mark in the bytes; None if it was not read yet or cannot be determined.
        generation: Generation facts from the search index, without `raw`; None if unknown.
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
    protected: bool
    alt_text: str | None
    caption: str | None
    created_at: datetime
    deleted_at: datetime | None = None
    source_key: StorageKey | None = None
    duration: float | None = None
    dominant_color: str | None = None
    tags: tuple[str, ...] = ()
    ai_mark: AiMark | None = None
    generation: Generation | None = None

    def is_from(self, folder: KeyPrefix) -> bool:
        """Return whether it was first ingested from a folder and is not stored in another one."""
        return (
            self.source_key is not None
            and self.source_key.text.startswith(folder.text)
            and (self.storage_key.is_media or self.storage_key.text.startswith(folder.text))
        )


IN_PLACE: Final = uuid.UUID(int=0)
"""`Intent.resource_id` of an ingest without a copy."""


@dataclass(frozen=True, slots=True)
class Intent:
    """Announcement of an ingest: its row is committed before the ingest relies on anything.

    Attributes:
        media_key: Key of the copy; never written if `resource_id` is `IN_PLACE`.
        resource_id: Resource that will have the copy. `IN_PLACE`: the source is recorded where it
            is, and no sweeper claims a pending deletion of it meanwhile.
        lease_until: Time after which the ingest is presumed dead, and the sweeper deletes the
            intent and any copy.
    """

    media_key: StorageKey
    resource_id: uuid.UUID
    source_key: StorageKey
    lease_until: datetime


@dataclass(frozen=True, slots=True)
class Mark:
    """Pending deletion of one specific save of an image.

    Attributes:
        save_id: Save to delete. Any other save, even with the same bytes, is kept.
        reason: `RELOCATED`, `DELETED`, `EXPIRED`, `RULE` or `ORPHAN`.
        due_at: Earliest time of the deletion (UTC).
        resource_id: Resource that was deleted; None for a source.
        content_hash: Hash of a source: before its deletion, a resource must have these bytes.
    """

    storage_key: StorageKey
    save_id: str
    reason: str
    due_at: datetime
    resource_id: uuid.UUID | None = None
    content_hash: bytes | None = None


@dataclass(frozen=True, slots=True)
class DueMark:
    """Mark as read by a sweeper.

    Attributes:
        id: Id of the mark, and of its dead letter if it is given up.
        due_at: Earliest time of the next attempt (UTC).
        attempts: Number of attempts, including the current one if the mark is claimed.
        content_hash: See `Mark`; also None in marks of older versions.
        copy: Resource with this hash at the time of the claim, for a source.
    """

    id: uuid.UUID
    storage_key: StorageKey
    save_id: str
    reason: str
    created_at: datetime
    due_at: datetime
    attempts: int
    content_hash: bytes | None = None
    copy: MediaResource | None = None


@dataclass(frozen=True, slots=True)
class ClaimedMarks:
    """Marks claimed by a sweeper. Those in `skipped` were dropped: a resource uses the key."""

    marks: Sequence[DueMark]
    skipped: Sequence[DueMark]


@dataclass(frozen=True, slots=True)
class ClaimedIntents:
    """Intents claimed by a sweeper. Those in `skipped` were dropped: a resource uses the key."""

    media_keys: Sequence[StorageKey]
    skipped: Sequence[StorageKey]
    lease_until: datetime


@dataclass(frozen=True, slots=True)
class Retry:
    """Mark whose deletion failed, with the time of the next attempt."""

    mark: DueMark
    error: str
    due_at: datetime


@dataclass(slots=True)
class Settlement:
    """Outcomes of claimed marks.

    Attributes:
        done: Ids of marks that were carried out or dropped, and are removed.
        retried: Marks to retry after a failure.
        dead_lettered: Marks that were given up, each with its error.
        left: Marks that were not attempted.
    """

    done: list[uuid.UUID] = field(default_factory=list)
    retried: list[Retry] = field(default_factory=list)
    dead_lettered: list[tuple[DueMark, str]] = field(default_factory=list)
    left: list[DueMark] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """Deletion that was given up and needs an operator's attention.

    Attributes:
        id: Id of the mark. Fields without a description are as in `DueMark`.
        failed_at: Time of the last attempt (UTC).
    """

    id: uuid.UUID
    storage_key: StorageKey
    save_id: str
    reason: str
    created_at: datetime
    failed_at: datetime
    attempts: int
    last_error: str | None
    content_hash: bytes | None = None


@dataclass(frozen=True, slots=True)
class RunDeletion:
    """Progress of the deletion of a run.

    Attributes:
        folder: Prefix of the keys of its images: `compute/<folder>/`.
        saved_until: Images that were saved later are kept (UTC).
        after: Last key that was processed; empty at the start.
        marked: Number of images marked for deletion.
        kept: Number of images kept because a resource uses them in place.
        newer: Number of images kept because they were saved after `saved_until`.
    """

    folder: str
    saved_until: datetime
    after: str = ""
    marked: int = 0
    kept: int = 0
    newer: int = 0


@dataclass(frozen=True, slots=True)
class QueueMetrics:
    """Metrics of the deletion queue.

    Attributes:
        marks: Number of marks, due or not.
        oldest_due: Duration for which the oldest due mark has been due; zero if none is.
        intents: Number of copies in progress or left by a crash.
        dead_letters: Number of deletions that were given up.
        healing: Number of resources with facts to compute.
    """

    marks: int
    due: int
    oldest_due: timedelta
    intents: int
    dead_letters: int
    healing: int


@dataclass(frozen=True, slots=True)
class HealingJob:
    """Claimed resource whose missing facts are to be computed.

    Attributes:
        resource: The resource at the time of the claim.
        attempts: Number of attempts, including this one.
        reread: Also read the header again.
    """

    resource: MediaResource
    attempts: int
    reread: bool


@dataclass(frozen=True, slots=True)
class ClaimedHealing:
    """Jobs claimed by a process until `lease_until`."""

    jobs: Sequence[HealingJob]
    lease_until: datetime


@dataclass(frozen=True, slots=True)
class ResourceQuery:
    """Query for a page of resources, newest first. Filters are combined with AND.

    Attributes:
        after: Id of the last resource of the previous page.
        created_from: Earliest creation time, inclusive. `created_before` is exclusive.
        tags: Tags that the resource must all have. It must have none of `without_tags`.
        source_keys: Allowed values of `source_key`; empty: any.
        facts: Filter on the generation facts in the search index.
    """

    after: uuid.UUID | None = None
    limit: int = 100
    content_hash: bytes | None = None
    content_type: str | None = None
    resource_type: str | None = None
    created_from: datetime | None = None
    created_before: datetime | None = None
    tags: Sequence[str] = ()
    without_tags: Sequence[str] = ()
    source_keys: Sequence[StorageKey] = ()
    facts: FactsQuery = NO_FACTS


@dataclass(frozen=True, slots=True)
class ResourcePage:
    """Page of resources, newest first. `more` is True if another page follows."""

    resources: Sequence[MediaResource]
    more: bool = False


UNCHANGED: Final = object()
"""Value of a field that a change does not set. None clears the field."""


@dataclass(frozen=True, slots=True)
class Change:
    """New values for fields of `MediaResource`; `UNCHANGED` for the others."""

    alt_text: object = UNCHANGED
    caption: object = UNCHANGED
    protected: object = UNCHANGED
    width: object = UNCHANGED
    height: object = UNCHANGED
    duration: object = UNCHANGED
    color_profile: object = UNCHANGED
    dominant_color: object = UNCHANGED
    ai_mark: object = UNCHANGED

    @property
    def values(self) -> dict[str, object]:
        """Fields that are set, with their new values."""
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        return {name: value for name, value in values.items() if value is not UNCHANGED}


class IntentLost(Exception):
    """The sweeper has claimed an intent and may have deleted its copy, so the ingest restarts."""


class MarkClaimed(Exception):
    """The sweeper is deleting an image that was about to be recorded in place."""


class SourceChanged(Exception):
    """The image was saved again after the ingest had read it, so the ingest restarts."""


def new_id() -> uuid.UUID:
    """Return a UUIDv7 (RFC 9562, 5.7), which Python provides only from 3.14 on.

    It contains the milliseconds since the epoch and 74 random bits.
    """
    milliseconds = time.time_ns() // 1_000_000
    return uuid.UUID(
        int=milliseconds << 80
        | 0x7 << 76
        | secrets.randbits(12) << 64
        | 0b10 << 62
        | secrets.randbits(62)
    )


def now() -> datetime:
    """Return the current time in UTC."""
    return datetime.now(UTC)
