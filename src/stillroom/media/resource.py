"""Values of the media library: resources, intents, marks, dead letters; nothing here knows SQL."""

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
"""The resource types."""

RELOCATED: Final = "relocated"
"""Why a mark: the library has a copy."""

DELETED: Final = "deleted"
"""A resource was deleted."""

EXPIRED: Final = "expired"
"""Saved with an end, which has come; or by a version that had no rules."""

RULE: Final = "rule"
"""A rule of retention ended it. Before it is deleted the rules are asked again."""

ORPHAN: Final = "orphan"
"""Nothing knew of it, and an operator asked for its deletion."""


@dataclass(frozen=True, slots=True)
class MediaResource:
    """One image or video of the library.

    Attributes:
        id: A UUIDv7, so that ids sort by the time at which they were made.
        resource_type: `IMAGE` or `VIDEO`.
        storage_key: Where the bytes are: below `media/`, or where they were recorded in place.
        source_key: The first key from which they were ingested; None where that is not known.
        save_id: Of the save at `storage_key` that was recorded; see `StoredImage.save_id`.
        content_hash: SHA-256, 32 bytes; no two resources have the same.
        extension: By the content, without a dot.
        content_type: By the content.
        file_size: Bytes.
        width: Pixels, as stored: an orientation that a reader should apply is not applied.
        height: Pixels, as stored.
        color_profile: Its name, such as `sRGB` or `Display P3`; None where the file names none.
        protected: It is not deleted.
        alt_text: For those who cannot see it.
        caption: Shown with it.
        created_at: UTC.
        deleted_at: Since when its deletion is due, UTC; None for what is there to stay.
        duration: Seconds, of a video.
        dominant_color: `#rrggbb`, sRGB; None until it is computed, and where it cannot be.
        tags: Sorted; see `media/tags.py`.
        ai_mark: Whether the bytes say that AI made it; None where that was not looked at, or cannot
            be told.
        generation: How it was made, as the search index has it, without `raw`; None where nothing
            is known, or not yet.
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
        """Whether it was first ingested from this folder, and lies in no other one."""
        return (
            self.source_key is not None
            and self.source_key.text.startswith(folder.text)
            and (self.storage_key.is_media or self.storage_key.text.startswith(folder.text))
        )


IN_PLACE: Final = uuid.UUID(int=0)
"""`Intent.resource_id` of an ingest that makes no copy."""


@dataclass(frozen=True, slots=True)
class Intent:
    """Announcement of an ingest: its row is committed before the ingest relies on anything.

    Attributes:
        media_key: Where the copy will be; nothing is ever written there if `resource_id` is
            `IN_PLACE`.
        resource_id: Resource that will have the copy; `IN_PLACE`: the source is recorded where it
            is, and no sweeper claims a pending deletion of it meanwhile.
        source_key: Image that is ingested.
        lease_until: Then the ingest is presumed dead, and the sweeper deletes the copy, if any,
            and the intent.
    """

    media_key: StorageKey
    resource_id: uuid.UUID
    source_key: StorageKey
    lease_until: datetime


@dataclass(frozen=True, slots=True)
class Mark:
    """A deletion that is due some day: of one very save under a key, and of no other.

    Attributes:
        storage_key: What is to be deleted.
        save_id: The save that was marked; other bytes, or the same saved again, stay.
        reason: `RELOCATED`, `DELETED`, `EXPIRED`, `RULE` or `ORPHAN`.
        due_at: Not before this, UTC.
        resource_id: Whose deletion this is; None for a source.
        content_hash: Of a source: before it is deleted, a resource must have these bytes.
    """

    storage_key: StorageKey
    save_id: str
    reason: str
    due_at: datetime
    resource_id: uuid.UUID | None = None
    content_hash: bytes | None = None


@dataclass(frozen=True, slots=True)
class DueMark:
    """A mark that is due, as a sweeper reads it.

    Attributes:
        id: Also that of its dead letter, if it is given up.
        storage_key: See `Mark`, also for `save_id` and `reason`.
        created_at: When it was marked, UTC.
        due_at: Not to be tried before, UTC.
        attempts: How often it was tried, this time included once it is claimed.
        content_hash: See `Mark`; None also in marks that an older version made.
        copy: Of a source that is claimed: the resource with this hash, as the claim found it.
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
    """Marks that a sweeper has claimed; `skipped` are dropped, since a resource has the key."""

    marks: Sequence[DueMark]
    skipped: Sequence[DueMark]


@dataclass(frozen=True, slots=True)
class ClaimedIntents:
    """Intents that a sweeper has claimed until `lease_until`; `skipped`: a resource has the key."""

    media_keys: Sequence[StorageKey]
    skipped: Sequence[StorageKey]
    lease_until: datetime


@dataclass(frozen=True, slots=True)
class Retry:
    """A mark whose deletion failed, and when it is tried again."""

    mark: DueMark
    error: str
    due_at: datetime


@dataclass(slots=True)
class Settlement:
    """Outcomes of claimed marks.

    Attributes:
        done: Deleted, or dropped; the mark goes.
        retried: Failed, for now.
        dead_lettered: Given up, with the error.
        left: Not begun.
    """

    done: list[uuid.UUID] = field(default_factory=list)
    retried: list[Retry] = field(default_factory=list)
    dead_lettered: list[tuple[DueMark, str]] = field(default_factory=list)
    left: list[DueMark] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A deletion that was given up: an operator has to look at it.

    Attributes:
        id: The mark's.
        storage_key: What should have been deleted.
        save_id: The very save of it.
        reason: Why it should have been.
        created_at: When it was marked, UTC.
        failed_at: When it was given up, UTC.
        attempts: How often it was tried.
        last_error: What the last attempt met.
        content_hash: See `Mark`.
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
    """A run that is being deleted, as far as it has come.

    Attributes:
        folder: What begins the keys of its images: `compute/<folder>/`.
        saved_until: What was saved later stays, UTC.
        after: The last key that was looked at; empty at the start.
        marked: Images that are marked for deletion.
        kept: Images that stay, since a resource has them in place.
        newer: Images that stay, since they were saved later.
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
        marks: All of them, due or not.
        due: Those whose time has come.
        oldest_due: For how long the one that waits longest has been due; zero if none is.
        intents: Copies under way, or left by a crash.
        dead_letters: Deletions that were given up.
        healing: Resources of which something is to be computed.
    """

    marks: int
    due: int
    oldest_due: timedelta
    intents: int
    dead_letters: int
    healing: int


@dataclass(frozen=True, slots=True)
class HealingJob:
    """A resource of which something is to be computed, as it is claimed.

    Attributes:
        resource: As it was when it was claimed.
        attempts: How often it was tried, this time included.
        reread: Whether its header is read again, too.
    """

    resource: MediaResource
    attempts: int
    reread: bool


@dataclass(frozen=True, slots=True)
class ClaimedHealing:
    """Jobs that a process has claimed until `lease_until`."""

    jobs: Sequence[HealingJob]
    lease_until: datetime


@dataclass(frozen=True, slots=True)
class ResourceQuery:
    """One page of the library, newest first.

    Attributes:
        after: Only what is older than the resource with this id: the last one of a page.
        limit: Most resources on the page.
        content_hash: Only the one with this SHA-256.
        content_type: Only of this type, such as `image/png`.
        resource_type: Only of this one.
        created_from: Only what was made then or later.
        created_before: Only what was made earlier.
        tags: Only what has all of these.
        without_tags: Only what has none of these.
        source_keys: Only what was first ingested from one of these; none: from wherever.
        facts: Only what was made like this, as far as the search index knows.
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
    """Resources, newest first, and whether more follow."""

    resources: Sequence[MediaResource]
    more: bool = False


UNCHANGED: Final = object()
"""A field that a change leaves alone; None takes its text away."""


@dataclass(frozen=True, slots=True)
class Change:
    """New values of what may be changed, by the names of `MediaResource`, else `UNCHANGED`."""

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
        """What is changed, by its name."""
        given = {one.name: getattr(self, one.name) for one in fields(self)}
        return {name: value for name, value in given.items() if value is not UNCHANGED}


class IntentLost(Exception):
    """The sweeper has claimed an intent, and perhaps deleted its copy: start again."""


class MarkClaimed(Exception):
    """The sweeper is deleting an image that was about to be recorded in place."""


class SourceChanged(Exception):
    """The image was saved again after the ingest had read it: start again."""


def new_id() -> uuid.UUID:
    """A UUIDv7 (RFC 9562, 5.7): milliseconds since the epoch, then 74 random bits.

    Python has its own from 3.14 on; this is all that it takes.
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
    """The time, UTC."""
    return datetime.now(UTC)
