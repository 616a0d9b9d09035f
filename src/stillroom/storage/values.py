"""Values that the storage port uses: images, conditions, queries, pages."""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, Protocol, runtime_checkable

from stillroom.errors import PreconditionFailed
from stillroom.paths import KeyPrefix, StorageKey

ANY: Final = "*"
"""An `If-Match` or `If-None-Match` that matches any image."""

EntityTags = frozenset[str] | Literal["*"]
"""Strong entity tags with their quotes, or `ANY`."""


@dataclass(frozen=True, slots=True)
class StoredImage:
    """Facts of one saved image, all from the same save.

    Attributes:
        size: Bytes.
        etag: Strong, with its quotes; differs after every save that changes the content.
        modified_ns: Time of the save in nanoseconds since the epoch.
        content_type: Detected from the content, never from the name.
        sha256: 32 bytes, or None if it has not been computed yet.
        save_id: Id of this save: the same bytes saved again have another one.
        version: Bytes by which a disk recognizes an unchanged file (`disk/known_files.py`), or
            None if it cannot.
    """

    key: StorageKey
    size: int
    etag: str
    modified_ns: int
    content_type: str
    sha256: bytes | None
    save_id: str
    version: tuple[bytes, bytes] | None = field(default=None, compare=False, repr=False)


class OpenedImage(Protocol):
    """One save of an image, opened for reading in this process. Close it after use."""

    image: StoredImage

    def chunks(self, start: int, length: int) -> AsyncIterator[bytes]:
        """Yield `length` bytes from `start` on, without blocking the event loop.

        Raises:
            BackendUnavailable: they cannot be read, or no longer belong to this save.
        """
        ...

    def close(self) -> None:
        """Release the file or connection; a second call does nothing."""
        ...


@runtime_checkable
class LocalImage(OpenedImage, Protocol):
    """An image in a file."""

    def fileno(self) -> int:
        """Return the descriptor, from which the kernel can send without copying."""
        ...


@dataclass(frozen=True, slots=True)
class RemoteImage:
    """An image that another server serves at `url`. The type is None if it is not known."""

    url: str
    content_type: str | None = None


Location = LocalImage | RemoteImage


@dataclass(frozen=True, slots=True)
class Condition:
    """Precondition of a change, checked against the stored image (RFC 9110, 13.1)."""

    if_match: EntityTags | None = None
    if_none_match: EntityTags | None = None

    @property
    def is_set(self) -> bool:
        """Return whether there is any condition."""
        return self.if_match is not None or self.if_none_match is not None

    @property
    def create_only(self) -> bool:
        """Return whether the only condition is that no image exists."""
        return self.if_none_match == ANY and self.if_match is None

    def check(self, etag: str | None) -> None:
        """Check the condition against an image's ETag (None: no image).

        Raises:
            PreconditionFailed: it does not hold.
        """
        if self.if_match is not None and not _matches(self.if_match, etag):
            raise PreconditionFailed
        if self.if_none_match is not None and _matches(self.if_none_match, etag):
            raise PreconditionFailed


UNCONDITIONAL: Final = Condition()


def _matches(tags: EntityTags, etag: str | None) -> bool:
    return etag is not None and (tags == ANY or etag in tags)


@dataclass(frozen=True, slots=True)
class SaveRules:
    """Rules for saves, the same on every backend: maximum size, and whether it must be an image."""

    max_bytes: int
    require_image: bool = False


@dataclass(frozen=True, slots=True)
class ListQuery:
    """Query for one page of a listing.

    Attributes:
        prefix: Literal text with which keys begin.
        after: Only entries after this text, in the byte order of whole keys; empty for all.
        limit: Maximum number of entries on the page, 1 to 10,000.
        delimited: Combine all keys with a slash after the prefix into one entry that ends in it.
        manifests: Include the manifests of runs, which are not images.
    """

    prefix: KeyPrefix
    after: str = ""
    limit: int = 100
    delimited: bool = False
    manifests: bool = False


@dataclass(frozen=True, slots=True)
class Page:
    """Entries in the byte order of whole keys.

    Attributes:
        more: Whether more entries follow.
        modified_ns: Time of the save of each image in nanoseconds since the epoch, by a bucket's
            clock, if the listing contains it.
    """

    entries: Sequence[str]
    more: bool = False
    modified_ns: Mapping[str, int] = field(default_factory=dict, compare=False)


Entry = StoredImage | KeyPrefix
"""An image with its facts, or the key prefix of a folder in a delimited listing."""


@dataclass(frozen=True, slots=True)
class EntryPage:
    """A `Page` whose images have facts, without images that were deleted meanwhile.

    Attributes:
        next_after: `ListQuery.after` for the next page; None after the last one. That entry may
            be left out here, so an empty page may have a next one.
    """

    entries: Sequence[Entry]
    next_after: str | None = None
