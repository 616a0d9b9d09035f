"""The object store port: what a bucket's policy needs of one cloud's API.

`storage/s3` implements it, and knows nothing of images. Another cloud's API is one more driver;
tests/contract/memory_store.py is the skeleton of one.
"""

import enum
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

DEADLINE_S: Final = 20.0
"""For one request with its repetitions and all waiting; then the client is told to come back."""

MAX_LISTED: Final = 1000
"""Entries that one request for a listing may ask for; the answer may hold fewer, or a few more."""


@dataclass(frozen=True, slots=True)
class Guard:
    """A precondition: what must be at a key for a change to happen, checked in one step with it.

    Attributes:
        etag: Of the object that must be there; None: there must be none.
    """

    etag: str | None = None


class Refusal(enum.Enum):
    """Why a change was not carried out."""

    MISSING = enum.auto()
    """What it names is not there: the guarded object, the source of a copy, the upload."""

    GUARD_FAILED = enum.auto()
    """Another object is there than its guard, or the ETag of its source, demands."""

    UNSUPPORTED = enum.auto()
    """The store does not carry out such a request; see `any_refusal`."""


@dataclass(frozen=True, slots=True)
class Written:
    """What became of a put, a copy, or the completion of an upload.

    Attributes:
        etag: Of the object that is there now; None if the write was refused.
        refusal: Why it was.
        reason: The same in the store's own words, such as its status.
        doubtful: An attempt before the last one had no answer, and may have been carried out.
    """

    etag: str | None
    refusal: Refusal | None = None
    reason: str = ""
    doubtful: bool = False


@dataclass(frozen=True, slots=True)
class Deleted:
    """What became of a deletion.

    Attributes:
        refusal: Why it was not carried out; None: the object is not there any more.
        reason: The same in the store's own words, such as its status.
        doubtful: An attempt before the last one had no answer, and may have been carried out.
    """

    refusal: Refusal | None = None
    reason: str = ""
    doubtful: bool = False


@dataclass(frozen=True, slots=True)
class Properties:
    """What is stored with an object, and served with it.

    Attributes:
        metadata: Of our own names, lower-case.
    """

    content_type: str | None = None
    cache_control: str | None = None
    content_disposition: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ObjectHead:
    """The facts about one object.

    Attributes:
        etag: Strong, with its quotes.
        modified_s: Seconds since the epoch, by the store's clock.
        content_type: Not checked at all; empty if there is none.
        metadata: Lower-case names, also those that other tools have stored.
    """

    etag: str
    size: int
    modified_s: int
    content_type: str
    metadata: Mapping[str, str]


class Download(Protocol):
    """An object whose bytes come once, from the start; close it."""

    head: ObjectHead

    def chunks(self) -> AsyncIterator[bytes]:
        """All of it, as it comes."""
        ...

    def close(self) -> None:
        """Give back what it holds."""
        ...


@dataclass(frozen=True, slots=True)
class ListedPage:
    """One answer to `ObjectStore.list`.

    Attributes:
        entries: Keys, and folders (these end in a slash), in the bucket's order; None
            stands for a key that is no text, or is a web console's stand-in for a folder.
        next_token: Where the bucket goes on; None on the last page.
        modified_ns: When each key was saved, nanoseconds since the epoch by the bucket's clock,
            as far as the bucket says it.
    """

    entries: Sequence[str | None]
    next_token: str | None
    modified_ns: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class BegunUpload:
    """A multipart upload that has begun.

    Attributes:
        doubtful: There may be another one, whose id was lost with an answer.
    """

    upload_id: str
    doubtful: bool = False


@dataclass(frozen=True, slots=True)
class ListedUpload:
    """A multipart upload that is neither completed nor aborted.

    Attributes:
        key: Of the object that it would become.
        upload_id: As the store calls it.
        initiated: When it was begun, in ISO 8601, by the store's clock.
    """

    key: str
    upload_id: str
    initiated: str


@dataclass(frozen=True, slots=True)
class UploadsPage:
    """One answer to `ObjectStore.list_uploads`.

    Attributes:
        uploads: In the store's order.
        next_markers: Key and upload id where it goes on; None on the last page.
    """

    uploads: Sequence[ListedUpload]
    next_markers: tuple[str, str] | None


class ObjectStore(Protocol):
    """One bucket. What is asked of it once is one operation that the cloud bills, if any.

    Every coroutine raises `BackendUnavailable` if the store cannot be reached, refuses this
    server, answers what cannot be read, or has not decided by `deadline` (of the event loop's
    clock; without it, in `DEADLINE_S`). Whether a change was made is then unknown. Bodies
    come whole, with their SHA-256 in hexadecimal, since they may have to be sent again.
    """

    keeps_guards: bool
    """Its documents promise that writes hold to guards, and know none of deletions: nothing need
    be written to try it."""

    async def put(
        self,
        key: str,
        body: bytes | memoryview,
        sha256: str,
        properties: Properties,
        *,
        guard: Guard | None = None,
        deadline: float | None = None,
        any_refusal: bool = False,
    ) -> Written:
        """Store an object in one request.

        Args:
            key: Any text.
            body: Whole.
            sha256: Of the body.
            properties: Stored with it.
            guard: Refused unless this holds.
            deadline: When to give up.
            any_refusal: Also a request that the store does not carry out is a result; else that
                raises, and so does any refusal of a write without a guard.
        """
        ...

    async def head(self, key: str, *, deadline: float | None = None) -> ObjectHead | None:
        """The facts about an object; None if there is none."""
        ...

    async def get_range(self, key: str, etag: str, start: int, last: int) -> bytes | None:
        """Bytes `start` to `last` of the object with this ETag; None if it is not there."""
        ...

    async def download(self, key: str) -> Download | None:
        """The facts and all bytes of an object, in one request; None if there is none."""
        ...

    async def copy(
        self,
        source: str,
        etag: str,
        target: str,
        properties: Properties | None = None,
        *,
        deadline: float | None = None,
    ) -> Written:
        """Copy the object with this ETag; with its own properties unless others are given."""
        ...

    async def delete(
        self,
        key: str,
        *,
        guard: Guard | None = None,
        deadline: float | None = None,
        once: bool = False,
        any_refusal: bool = False,
    ) -> Deleted:
        """Remove an object, if it is there.

        Args:
            key: Any text.
            guard: Refused unless the object with this ETag is there.
            deadline: When to give up.
            once: A failed attempt is not repeated.
            any_refusal: As `put` has it.
        """
        ...

    async def list(
        self,
        prefix: str,
        *,
        limit: int,
        after: str = "",
        token: str | None = None,
        delimited: bool = False,
        deadline: float | None = None,
    ) -> ListedPage:
        """One page of the keys that begin with `prefix`.

        Args:
            prefix: Literal text.
            limit: Entries to ask for, up to `MAX_LISTED`.
            after: Keys behind this text; a folder of this name may be listed once more.
            token: Where an earlier page of the same listing ended; `after` is not used then.
            delimited: Keys with a slash behind `prefix` are one entry, which ends in it.
            deadline: When to give up.
        """
        ...

    async def create_upload(self, key: str, properties: Properties) -> BegunUpload:
        """Begin a multipart upload of an object with these properties."""
        ...

    async def upload_part(
        self, key: str, upload_id: str, number: int, body: memoryview, sha256: str
    ) -> str:
        """Send a part, numbered from 1; answers what `complete_upload` wants of it."""
        ...

    async def complete_upload(
        self,
        key: str,
        upload_id: str,
        parts: Sequence[str],
        *,
        guard: Guard | None = None,
        deadline: float | None = None,
        any_refusal: bool = False,
    ) -> Written:
        """Make the parts an object; as `put`, but an upload that is over is a refusal."""
        ...

    async def abort_upload(self, key: str, upload_id: str) -> None:
        """Throw the parts of an upload away; one that is over already is fine."""
        ...

    async def has_parts(self, key: str, upload_id: str) -> bool:
        """Whether any part has come in; also true of an upload that is over."""
        ...

    async def list_uploads(self, prefix: str, after: tuple[str, str] | None = None) -> UploadsPage:
        """One page of the uploads under way, from the `next_markers` of the one before."""
        ...

    def presigned_url(self, key: str, *, valid_for_s: int) -> str:
        """A URL that reads an object without credentials for a while; makes no request."""
        ...

    async def check(self, *, writing: bool, deadline: float | None = None) -> None:
        """Return if objects can be read, and written if `writing`; changes nothing."""
        ...

    async def close(self) -> None:
        """Close all connections."""
        ...
