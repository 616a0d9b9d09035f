"""The object store port: operations of a cloud's API that the bucket backend needs.

`storage/s3` implements it, independently of images. Another cloud's API would be another driver;
tests/contract/memory_store.py is a minimal one.
"""

import enum
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

DEADLINE_S: Final = 20.0
"""Seconds for one request with its retries and all waiting, before the client gets an error."""

MAX_LISTED: Final = 1000
"""Maximum entries of a listing request; the response may have fewer, or a few more."""


@dataclass(frozen=True, slots=True)
class Guard:
    """Precondition of a change: the ETag that the object must have, or None for no object."""

    etag: str | None = None


class Refusal(enum.Enum):
    """Reason why a change was not carried out."""

    MISSING = enum.auto()
    """The guarded object, the source of a copy, or the upload does not exist."""

    GUARD_FAILED = enum.auto()
    """The object has another ETag than the guard, or the copy, requires."""

    UNSUPPORTED = enum.auto()
    """The store does not support such a request; see `any_refusal`."""


@dataclass(frozen=True, slots=True)
class Written:
    """Result of a put, a copy, or the completion of an upload.

    Attributes:
        etag: ETag of the new object, or None if the write was refused.
        refusal: Reason of the refusal.
        reason: The same in the store's words, such as its status code.
        doubtful: An earlier attempt had no response, and may have been carried out.
    """

    etag: str | None
    refusal: Refusal | None = None
    reason: str = ""
    doubtful: bool = False


@dataclass(frozen=True, slots=True)
class Deleted:
    """Result of a deletion.

    Attributes:
        refusal: Reason of the refusal, or None if the object does not exist any more.
        reason: The same in the store's words, such as its status code.
        doubtful: An earlier attempt had no response, and may have been carried out.
    """

    refusal: Refusal | None = None
    reason: str = ""
    doubtful: bool = False


@dataclass(frozen=True, slots=True)
class Properties:
    """Properties that are stored with an object and served with it.

    The names in `metadata` are lower-case.
    """

    content_type: str | None = None
    cache_control: str | None = None
    content_disposition: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ObjectHead:
    """Facts of one object.

    Attributes:
        etag: Strong, with its quotes.
        modified_s: Seconds since the epoch, by the store's clock.
        content_type: Not checked at all; empty if there is none.
        metadata: Lower-case names, including those stored by other tools.
    """

    etag: str
    size: int
    modified_s: int
    content_type: str
    metadata: Mapping[str, str]


class Download(Protocol):
    """An object that can be read once, from the start. Close it after use."""

    head: ObjectHead

    def chunks(self) -> AsyncIterator[bytes]:
        """Yield the whole body."""
        ...

    def close(self) -> None:
        """Release the connection."""
        ...


@dataclass(frozen=True, slots=True)
class ListedPage:
    """Response to `ObjectStore.list`.

    Attributes:
        entries: Keys, and folders (with a slash at the end), in the bucket's order. None replaces
            keys that are no text, or that a web console created for a folder.
        next_token: Token of the next page; None on the last one.
        modified_ns: Nanoseconds since the epoch when each key was saved, by the bucket's clock,
            for those keys whose time the bucket reports.
    """

    entries: Sequence[str | None]
    next_token: str | None
    modified_ns: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CreatedUpload:
    """A multipart upload that was created.

    If it is `doubtful`, there may be a second one, whose id was lost with a response.
    """

    upload_id: str
    doubtful: bool = False


@dataclass(frozen=True, slots=True)
class ListedUpload:
    """A multipart upload that is neither completed nor aborted.

    Attributes:
        initiated: Time of its creation in ISO 8601, by the store's clock.
    """

    key: str
    upload_id: str
    initiated: str


@dataclass(frozen=True, slots=True)
class UploadsPage:
    """Response to `ObjectStore.list_uploads`.

    Attributes:
        next_markers: Key and upload id at which the next page starts; None on the last one.
    """

    uploads: Sequence[ListedUpload]
    next_markers: tuple[str, str] | None


class ObjectStore(Protocol):
    """One bucket. Each call is at most one operation that the cloud bills, apart from retries.

    Every coroutine raises `BackendUnavailable` if the store cannot be reached, refuses this
    server, sends a malformed response, or has not decided by `deadline` (on the event loop's
    clock; `DEADLINE_S` by default). Whether a change was made is then unknown. Bodies are passed
    as a whole, with their SHA-256 in hexadecimal, since they may have to be sent again.
    """

    keeps_guards: bool
    """The store's documentation promises guarded writes, and no guarded deletions. Such a store is
    not probed."""

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
        """Store an object in one request, if `guard` holds.

        With `any_refusal` every refusal is returned as a result. Otherwise unsupported requests
        raise, as do refusals of a write without a guard.
        """
        ...

    async def head(self, key: str, *, deadline: float | None = None) -> ObjectHead | None:
        """Return the facts of an object, or None if there is none."""
        ...

    async def get_range(self, key: str, etag: str, start: int, last: int) -> bytes | None:
        """Return bytes `start` to `last` of the object with this ETag; None if there is none."""
        ...

    async def download(self, key: str) -> Download | None:
        """Read an object with its facts by one request; None if there is none."""
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
        """Copy the object with this ETag, with its own properties unless others are given."""
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
        """Delete an object if it exists and `guard` holds.

        With `once` a failed attempt is not retried. See `put` for `any_refusal`.
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
        """List one page of the keys that begin with `prefix`.

        Args:
            prefix: Literal text.
            limit: Number of entries to request, up to `MAX_LISTED`.
            after: Only keys after this text; a folder of this name may be listed again.
            token: `next_token` of the previous page; `after` is ignored then.
            delimited: List keys with a slash after `prefix` as one entry, which ends in it.
            deadline: Time on the event loop's clock.
        """
        ...

    async def create_upload(self, key: str, properties: Properties) -> CreatedUpload:
        """Create a multipart upload of an object with these properties."""
        ...

    async def upload_part(
        self, key: str, upload_id: str, number: int, body: memoryview, sha256: str
    ) -> str:
        """Send a part, numbered from 1, and return its ETag for `complete_upload`."""
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
        """Combine the parts into an object, like `put`. An upload that is over is a refusal."""
        ...

    async def abort_upload(self, key: str, upload_id: str) -> None:
        """Delete the parts of an upload, unless it is over already."""
        ...

    async def has_parts(self, key: str, upload_id: str) -> bool:
        """Return whether an upload has any part; also True if the upload is over."""
        ...

    async def list_uploads(self, prefix: str, after: tuple[str, str] | None = None) -> UploadsPage:
        """List one page of unfinished uploads, from the `next_markers` of the previous one."""
        ...

    def presigned_url(self, key: str, *, valid_for_s: int) -> str:
        """Return a URL that reads an object without credentials for a while; sends no request."""
        ...

    async def check(self, *, writing: bool, deadline: float | None = None) -> None:
        """Return if objects can be read, and written if `writing`. Nothing is changed."""
        ...

    async def close(self) -> None:
        """Close all connections."""
        ...
