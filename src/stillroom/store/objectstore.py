"""Object store port: interface of the S3 operations that the bucket backend needs.

`store/s3` implements it. tests/contract/memory_store.py is a minimal example.
"""

import enum
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol, Self, runtime_checkable

from stillroom.errors import BackendUnavailable

DEADLINE_S: Final = 20.0  # of a request, including retries and waiting
MAX_LISTED: Final = 1000  # a page may have fewer entries, or a few more


@dataclass(frozen=True, slots=True)
class Guard:
    """Condition of a change: the object has the ETag `etag`, or is missing if `etag` is None."""

    etag: str | None = None


class Refusal(enum.Enum):
    """Reason for refusing a change."""

    MISSING = enum.auto()  # no object for the condition, no source of the copy, or no upload
    GUARD_FAILED = enum.auto()  # the object has another ETag than the condition or copy requires
    UNSUPPORTED = enum.auto()  # another reason; see `any_refusal` in `ObjectStore.put`


Headers = Mapping[str, str]  # header fields with lower-case names


@dataclass(frozen=True, slots=True)
class ChangeResult:
    """Result of a change to an object."""

    etag: str | None = None  # ETag of the new object; None after a refusal or a deletion
    refusal: Refusal | None = None  # reason for the refusal, or None if the change was made
    reason: str = ""  # reason as the store reported it, such as its status code
    doubtful: bool = False  # an earlier attempt got no response and may have been carried out

    def certain(self) -> Self:
        """Return this result, or raise `BackendUnavailable` if `doubtful` is set."""
        if self.doubtful:
            raise BackendUnavailable(
                "cannot find out what the bucket supports, because its requests fail: try again "
                "later"
            )
        return self


@dataclass(frozen=True, slots=True)
class Properties:
    """Properties that are stored and served with an object. Names in `metadata` are lower-case."""

    content_type: str | None = None
    cache_control: str | None = None
    content_disposition: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ObjectHead:
    """Metadata of one object."""

    etag: str  # strong ETag, with its quotes
    size: int
    modified_s: int  # time of the last write in seconds since the epoch, by the store's clock
    content_type: str  # stored content type, unchecked; empty if there is none
    metadata: Mapping[str, str]  # user metadata with lower-case names, also of other tools
    cache_control: str = ""  # stored value; empty if there is none


class Download(Protocol):
    """The content of an object, which can be read once. Close it after use."""

    def chunks(self) -> AsyncIterator[bytes]:
        """Yield the object's bytes."""

    def close(self) -> None:
        """Release the connection. The rest of the body cannot be read afterwards."""


@dataclass(frozen=True, slots=True)
class ListedPage:
    """Result of `ObjectStore.list`: keys and folders (with a slash at the end) in bucket order.

    An entry is None if its key is not valid UTF-8 or ends with a slash. `modified_ns` contains the
    time of each key's last write, in nanoseconds since the epoch, if the bucket has reported it.
    """

    entries: Sequence[str | None]
    next_token: str | None  # token for requesting the next page; None on the last page
    modified_ns: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CreatedUpload:
    """A new multipart upload."""

    upload_id: str
    doubtful: bool = False  # an attempt that got no response may have created another upload


@dataclass(frozen=True, slots=True)
class ListedUpload:
    """A multipart upload that was neither completed nor aborted."""

    key: str
    upload_id: str
    initiated: str  # creation time in ISO 8601 format, by the store's clock


@dataclass(frozen=True, slots=True)
class UploadsPage:
    """Result of `ObjectStore.list_uploads`."""

    uploads: Sequence[ListedUpload]
    next_markers: tuple[str, str] | None  # key and upload id before the next page, if there is one


class ObjectStore(Protocol):
    """One bucket. Each call sends at most one request that the cloud bills, apart from retries.

    Coroutines raise `BackendUnavailable` if the store is out of reach, refuses this server, or
    sends a malformed response. They also raise it at `deadline` (in the event loop's time; by
    default, after `DEADLINE_S`). It is then unknown whether a change was made.
    """

    keeps_guards: bool
    """True if the provider's documentation says that it supports conditional writes, but not
    conditional deletions. If False, tests find out what the bucket supports."""

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
    ) -> ChangeResult:
        """Store an object in one request, if the condition `guard` holds.

        With `any_refusal`, every refusal is returned. Otherwise, a refusal of an unsupported
        request, or of a write without a condition, raises `BackendUnavailable`.
        """

    async def head(self, key: str, *, deadline: float | None = None) -> ObjectHead | None:
        """Return the metadata of an object, or None if it does not exist."""

    async def get_range(self, key: str, etag: str, start: int, last: int) -> bytes | None:
        """Return the bytes `start` to `last`, or None if no object has this key and ETag."""

    async def download(self, key: str) -> tuple[ObjectHead, Download] | None:
        """Open an object and read its metadata in one request. Return None if it does not exist."""

    async def copy(
        self,
        source: str,
        etag: str,
        target: str,
        properties: Properties | None = None,
        *,
        guard: Guard | None = None,
        deadline: float | None = None,
        any_refusal: bool = False,
    ) -> ChangeResult:
        """Copy the object if it has this ETag. `properties` replace those of the source.

        With `guard`, the target must not exist. See `put` for `any_refusal`.
        """

    async def delete(
        self,
        key: str,
        *,
        guard: Guard | None = None,
        deadline: float | None = None,
        once: bool = False,
        any_refusal: bool = False,
    ) -> ChangeResult:
        """Delete an object if it exists and `guard` holds. With `once`, nothing is retried."""

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
        """List up to `limit` (at most `MAX_LISTED`) keys that begin with `prefix`.

        With `after`, only later keys are listed, and perhaps the folder that contains `after`. With
        `delimited`, keys that are equal up to the first slash after the prefix are one entry, a
        folder. `token` is the `next_token` of the previous page.
        """

    async def create_upload(self, key: str, properties: Properties) -> CreatedUpload:
        """Create a multipart upload for an object with these properties."""

    async def upload_part(
        self, key: str, upload_id: str, number: int, body: memoryview, sha256: str
    ) -> str:
        """Send a part (numbers start at 1) and return its ETag for `complete_upload`."""

    async def complete_upload(
        self,
        key: str,
        upload_id: str,
        parts: Sequence[str],
        *,
        guard: Guard | None = None,
        deadline: float | None = None,
        any_refusal: bool = False,
    ) -> ChangeResult:
        """Combine the parts into an object. Returns a refusal if the upload no longer exists."""

    async def abort_upload(self, key: str, upload_id: str) -> None:
        """Delete the parts of an upload; do nothing if it was completed or aborted."""

    async def has_parts(self, key: str, upload_id: str) -> bool:
        """Return whether an upload has any part. Also True if the upload no longer exists."""

    async def list_uploads(self, prefix: str, after: tuple[str, str] | None = None) -> UploadsPage:
        """List one page of unfinished uploads; `after` is `next_markers` of the previous page."""

    def presigned_url(self, key: str, *, valid_for_s: int) -> str:
        """Return a URL for reading an object without credentials. Sends no request."""

    async def check(self, *, writing: bool, deadline: float | None = None) -> None:
        """Raise an error unless objects can be read and, if `writing` is set, also written."""

    async def close(self) -> None:
        """Close all connections."""


@runtime_checkable
class TakesPresignedUploads(ObjectStore, Protocol):
    """Optional capability of an object store: uploads by clients without credentials."""

    def presigned_url(self, key: str, *, valid_for_s: int, upload: Headers | None = None) -> str:
        """Return a URL for reading an object or, with `upload`, for storing it with headers."""

    async def put_presigned(
        self, key: str, signed: Headers, sent: Headers, body: bytes, *, source: str = ""
    ) -> ChangeResult:
        """Presign a PUT for the headers `signed`, and send it with the headers `sent`.

        With `source`, the request also has an unsigned header that asks for a copy of that object.
        """

    async def peek(self, key: str, length: int) -> tuple[ObjectHead, bytes] | None:
        """Return the metadata and the first bytes of an object, or None if it does not exist."""

    async def bucket_rules(self, kind: str) -> Sequence[frozenset[tuple[str, str]]]:
        """Return the bucket's `cors` or `lifecycle` rules, each as pairs of XML tag and text."""
