"""Value types of the storage port: images, conditions, queries, pages."""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, Protocol, runtime_checkable

from stillroom.errors import PreconditionFailed
from stillroom.paths import KeyPrefix, StorageKey

ANY: Final = "*"  # in `If-Match` or `If-None-Match`: any image

EntityTags = frozenset[str] | Literal["*"]  # strong entity tags with their quotes, or `ANY`

Version = tuple[bytes, bytes]  # file name, and bytes that differ after any change of the file


@dataclass(frozen=True, slots=True)
class StoredImage:
    """Metadata of one version of an image. Every save creates a new version."""

    key: StorageKey
    size: int  # size in bytes
    etag: str  # strong ETag, with its quotes. It changes whenever the content changes.
    modified_ns: int  # time of the save in nanoseconds since the epoch
    content_type: str  # detected from the content, never from the name
    sha256: bytes | None  # 32 bytes, or None if it has not been computed yet
    save_id: str  # id of this version. It changes with every save, even if the bytes are the same.
    version: Version | None = field(default=None, compare=False, repr=False)  # for caches


class OpenedImage(Protocol):
    """One version of an image, opened for reading in this process. Close it after use."""

    image: StoredImage

    def chunks(self, start: int, length: int) -> AsyncIterator[bytes]:
        """Yield `length` bytes beginning at offset `start`, or raise `BackendUnavailable`."""

    def close(self) -> None:
        """Release the file or connection; a second call does nothing."""


@runtime_checkable
class LocalImage(OpenedImage, Protocol):
    """An opened image whose bytes are in a local file."""

    def fileno(self) -> int:
        """Return the file descriptor, for sending the file with sendfile(2)."""


@dataclass(frozen=True, slots=True)
class RemoteImage:
    """Redirect target: another server sends the image. `content_type` is None if unknown."""

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
        """True if there is any condition."""
        return self.if_match is not None or self.if_none_match is not None

    @property
    def create_only(self) -> bool:
        """True if the only condition is that no image exists yet."""
        return self.if_none_match == ANY and self.if_match is None

    def check(self, etag: str | None) -> None:
        """Raise `PreconditionFailed` unless the condition holds for this ETag (None: no image)."""
        if self.if_match is not None and not _matches(self.if_match, etag):
            raise PreconditionFailed
        if self.if_none_match is not None and _matches(self.if_none_match, etag):
            raise PreconditionFailed


UNCONDITIONAL: Final = Condition()


def _matches(tags: EntityTags, etag: str | None) -> bool:
    return etag is not None and (tags == ANY or etag in tags)


@dataclass(frozen=True, slots=True)
class SaveRules:
    """Rules for saves on any backend: maximum size, and whether only images are allowed."""

    max_bytes: int
    require_image: bool = False


@dataclass(frozen=True, slots=True)
class ListQuery:
    """Query for one page of a listing."""

    prefix: KeyPrefix  # text that all listed keys begin with
    after: str = ""  # list only entries after this text, in the byte order of whole keys
    limit: int = 100  # maximum number of entries on the page, 1 to 10,000
    delimited: bool = False  # fold keys that are equal up to the first slash after the prefix
    reserved: bool = False  # include reserved names (`RESERVED_NAMES`), which are no images


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a listing, in the byte order of whole keys."""

    entries: Sequence[str]
    more: bool = False  # whether more entries follow
    modified_ns: Mapping[str, int] = field(default_factory=dict, compare=False)
    """Time of each key's last save in nanoseconds since the epoch. Always empty on a disk."""

    @property
    def next_after(self) -> str | None:
        """`ListQuery.after` for the next page; None on the last page."""
        return self.entries[-1] if self.more else None


Entry = StoredImage | KeyPrefix  # a `KeyPrefix` is a folder in a delimited listing


@dataclass(frozen=True, slots=True)
class EntryPage:
    """A `Page` with the metadata of each image. Images deleted during the call are left out.

    A page without entries is not always the last one; `next_after` is None on the last page.
    """

    entries: Sequence[Entry]
    next_after: str | None = None

    @property
    def images(self) -> list[StoredImage]:
        """Images on the page, without the folders of a delimited listing."""
        return [entry for entry in self.entries if isinstance(entry, StoredImage)]
