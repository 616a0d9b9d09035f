"""The values that cross the storage port: images, conditions, queries, pages."""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, Protocol, runtime_checkable

from stillroom.errors import PreconditionFailed
from stillroom.paths import KeyPrefix, StorageKey

ANY: Final = "*"

"""An `If-Match` or `If-None-Match` that names any image at all."""

EntityTags = frozenset[str] | Literal["*"]

"""Strong entity tags with their quotes, or `ANY`."""


@dataclass(frozen=True, slots=True)
class StoredImage:
    """The facts about one saved image; all of them from the same save.

    Attributes:
        size: Bytes.
        etag: Strong, with its quotes; differs after every save that changes the content.
        modified_ns: When it was saved, nanoseconds since the epoch.
        content_type: By its content, never by its name.
        sha256: 32 bytes, or None where it has not been hashed yet.
        save_id: Names this very save: the same bytes saved again have another one.
        version: What a disk compares to tell whether a file is still the same save
            (`disk/known_files.py`); None where that cannot be told.
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
    """One save of an image, opened for this process, wherever it lies. Close it."""

    image: StoredImage

    def chunks(self, start: int, length: int) -> AsyncIterator[bytes]:
        """The bytes from `start` on, `length` of them; neither blocks the event loop.

        Raises:
            BackendUnavailable: they cannot be read, or are not those of this save any more.
        """
        ...

    def close(self) -> None:
        """Give back what it holds; a second call does nothing."""
        ...


@runtime_checkable
class LocalImage(OpenedImage, Protocol):
    """An image in a file."""

    def fileno(self) -> int:
        """The descriptor, for both_paths on which the kernel sends without copying."""
        ...


@dataclass(frozen=True, slots=True)
class RemoteImage:
    """An image that another server has, under `url`; None: its type was not looked at."""

    url: str
    content_type: str | None = None


Location = LocalImage | RemoteImage


@dataclass(frozen=True, slots=True)
class Condition:
    """What must hold of the stored image for a change to happen (RFC 9110, 13.1)."""

    if_match: EntityTags | None = None
    if_none_match: EntityTags | None = None

    @property
    def is_set(self) -> bool:
        """Whether anything is demanded at all."""
        return self.if_match is not None or self.if_none_match is not None

    @property
    def create_only(self) -> bool:
        """Whether the change may only make a new image, and nothing else is demanded."""
        return self.if_none_match == ANY and self.if_match is None

    def check(self, etag: str | None) -> None:
        """Raise unless the demand holds of the stored image's etag (None: no image).

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
    """What every save must keep to, whatever the backend.

    Attributes:
        max_bytes: More is `TooLarge`, as soon as it is known.
        require_image: Anything that is not an image by its content is refused.
    """

    max_bytes: int
    require_image: bool = False


@dataclass(frozen=True, slots=True)
class ListQuery:
    """One page of a listing.

    Attributes:
        prefix: Keys that begin with this literal text.
        after: Only entries behind this text in the byte order of whole keys;
            empty from the start.
        limit: Most entries on the page, 1 to 10,000.
        delimited: Answer everything below the next slash behind the prefix as one
            entry that ends in it.
        manifests: Also the manifests of runs, which are no images.
    """

    prefix: KeyPrefix
    after: str = ""
    limit: int = 100
    delimited: bool = False
    manifests: bool = False


@dataclass(frozen=True, slots=True)
class Page:
    """Entries in the byte order of whole keys, and whether more follow.

    Attributes:
        modified_ns: When an image was saved, where a bucket says it by the way: nanoseconds since
            the epoch, by the bucket's clock.
    """

    entries: Sequence[str]
    more: bool = False
    modified_ns: Mapping[str, int] = field(default_factory=dict, compare=False)


Entry = StoredImage | KeyPrefix

"""An image with its facts; or a folder, where a query folds, as what its keys begin with."""


@dataclass(frozen=True, slots=True)
class EntryPage:
    """A `Page` whose entries are described.

    Attributes:
        entries: In the same order, without the images that went away meanwhile.
        next_after: `ListQuery.after` for the next page; None behind the last one. It may be
            an entry that is left out, so an empty page may have a next one.
    """

    entries: Sequence[Entry]
    next_after: str | None = None
