"""What every backend promises, and the values that cross the port."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Literal, Protocol, Self, runtime_checkable

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
        sha256: 32 bytes, or None where nobody has hashed it yet.
        save_id: Names this very save: the same bytes saved again have another one.
    """

    key: StorageKey
    size: int
    etag: str
    modified_ns: int
    content_type: str
    sha256: bytes | None
    save_id: str


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
        """The descriptor, for roads on which the kernel sends without copying."""
        ...


@dataclass(frozen=True, slots=True)
class RemoteImage:
    """An image that somebody else serves, under `url`."""

    url: str


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

_MOST_TYPE: Final = 255


def _matches(tags: EntityTags, etag: str | None) -> bool:
    return etag is not None and (tags == ANY or etag in tags)


class ImageSource(Protocol):
    """The bytes of one upload on their way in.

    Attributes:
        most_bytes: No more than this will come; None where nobody knows.
        expected_sha256: What the client says the bytes hash to. Read it after the
            last chunk: a multipart part announces it only when it begins.
    """

    most_bytes: int | None
    expected_sha256: bytes | None

    def __aiter__(self) -> AsyncIterator[bytes]:
        """The chunks. Any exception means that the upload broke off."""
        ...


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
        fold: Answer everything below the next slash behind the prefix as one
            entry that ends in it.
    """

    prefix: KeyPrefix
    after: str = ""
    limit: int = 100
    fold: bool = False


@dataclass(frozen=True, slots=True)
class Page:
    """Entries in the byte order of whole keys, and whether more follow."""

    entries: Sequence[str]
    more: bool = False


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


class ImageStorage(Protocol):
    """Bytes under keys, nothing more.

    Every backend keeps these promises; `tests/contract` checks each by name:

    * whole or absent: a reader meets the old image or the new one, never a part of
      one, also after a crash; what a location reads is one image from end to end;
    * durable: once `save` or `delete` has returned, a power cut changes nothing;
    * a refused or broken save leaves nothing behind and changes nothing;
    * conditions hold across processes: of two create-only saves one wins;
    * a page shows what was saved, and nothing that was deleted, before it was asked for,
      by whatever process;
    * a missing image raises `ImageNotFound`; a failure of the medium raises
      `BackendUnavailable` with the driver's exception as its cause.
    """

    description: str
    """One line for the log: which backend, and where."""

    async def save(
        self, key: StorageKey, source: ImageSource, condition: Condition = UNCONDITIONAL
    ) -> StoredImage:
        """Store what `source` gives under `key`, replacing what is there.

        What can be refused beforehand is refused before `source` is read at all.

        Raises:
            PreconditionFailed, ConditionUnsupported, PathConflict, TooLarge, UnsupportedMedia,
            EmptyFile, DigestMismatch, StorageFull, BackendUnavailable: as their names say.
        """
        ...

    async def locate(self, key: StorageKey) -> Location:
        """Where the image can be had; close a `LocalImage` after use.

        Raises:
            ImageNotFound, BackendUnavailable: as their names say.
        """
        ...

    def locate_now(self, key: StorageKey) -> Location | None:
        """As `locate`, if the answer can be had without waiting; else None: ask `locate`."""
        ...

    def is_current(self, image: StoredImage) -> bool:
        """Whether an image is still this very save, with this content, at this moment.

        For who remembers what it has read from a location. It waits for nothing and raises
        nothing; False also says that it cannot be told so cheaply: locate it again.
        """
        ...

    def is_missing(self, key: StorageKey) -> bool:
        """Whether there is certainly no image at this moment. As cheap, and as reserved."""
        ...

    async def open(self, key: StorageKey) -> OpenedImage:
        """The image for this process itself, wherever it lies; close it after use.

        Raises:
            ImageNotFound, BackendUnavailable: as their names say.
        """
        ...

    async def stat(self, key: StorageKey) -> StoredImage:
        """The facts without the bytes.

        Raises:
            ImageNotFound, BackendUnavailable: as their names say.
        """
        ...

    async def list(self, query: ListQuery) -> Page:
        """One page, in memory that does not grow with the number of images.

        Raises:
            BackendUnavailable: the medium failed.
        """
        ...

    async def entries(self, query: ListQuery) -> EntryPage:
        """The page that `list` gives, with what `stat` says of each image on it.

        The facts of one image belong to one save; the page is no moment's picture of them
        all. An image that is gone by the time it is looked at is left out. Memory is bounded
        by the page, and looking at its images does not block the event loop.

        Raises:
            BackendUnavailable: the medium failed, for the page or for an image on it.
        """
        ...

    async def delete(
        self,
        key: StorageKey,
        condition: Condition = UNCONDITIONAL,
        *,
        save_id: str | None = None,
    ) -> None:
        """Remove the image; once this returns it stays removed.

        Args:
            key: Names it.
            condition: What its ETag must be.
            save_id: Remove this very save and no other, also if that has the same bytes. On a disk
                looking and removing are one step; in a bucket there is a moment between.

        Raises:
            ImageNotFound, PreconditionFailed, BackendUnavailable: as their names say.
        """
        ...

    async def copy(self, source: StorageKey, target: StorageKey) -> StoredImage:
        """Save the image at `source` under `target` as well, replacing what is there.

        The copy has the same bytes, content type and SHA-256, and a save id of its own; nothing
        that happens to one changes the other. The bytes do not pass through this process. Whoever
        serves a copy below `media/` may keep it for good: no such key ever has other bytes.

        Raises:
            ImageNotFound: nothing at `source`.
            PathConflict, StorageFull, BackendUnavailable: as their names say.
        """
        ...

    async def check(self) -> None:
        """Return if images can be saved and read right now.

        Raises:
            StillroomError: with the reason, for people.
        """
        ...

    async def close(self) -> None:
        """Finish what runs and give everything back."""
        ...


class CallObserver(Protocol):
    """Hears what a storage asks its medium, for the numbers. Quick, from any thread."""

    def __call__(self, call: str, outcome: str, seconds: float, *, again: bool = False) -> None:
        """One attempt has ended.

        Args:
            call: `fsync_file`, `fsync_folder`, or S3's name of the operation.
            outcome: One word; there are few, see the backends.
            seconds: How long it took.
            again: It followed one that had failed.
        """
        ...


def unobserved(call: str, outcome: str, seconds: float, *, again: bool = False) -> None:
    """A `CallObserver` for whom nobody counts."""
    del call, outcome, seconds, again


@runtime_checkable
class TurnsReadOnly(Protocol):
    """Optional power: a disk whose sync has failed takes no more."""

    @property
    def is_read_only(self) -> bool:
        """Whether that has happened, in any process."""
        ...


@runtime_checkable
class TriesConditions(Protocol):
    """Optional power: a bucket may be of a kind that cannot hold to conditions; a disk can."""

    async def lacking_conditions(self) -> Sequence[str]:
        """Try it, if that was not done yet; what it does wrong, a clause each.

        Saves with such a condition raise `ConditionUnsupported`.

        Raises:
            BackendUnavailable: that could not be found out.
        """
        ...


@runtime_checkable
class RemovesEmptyFolders(Protocol):
    """Optional power: a disk has folders, a bucket has none."""

    async def remove_empty_folders(self, empty_for: timedelta) -> int:
        """Remove folders that have been empty for so long, if it is time to look for them.

        Returns:
            How many were removed.

        Raises:
            BackendUnavailable: the medium failed.
        """
        ...


class Arrival:
    """An image that comes from another store, with what is known of it there.

    A backend keeps of that what it has a place for: the content type, and on a disk the time.

    Attributes:
        image: As the other store describes it.
        content_type: To be kept; None if it is longer than any that is in use (RFC 6838, 4.2).
    """

    def __init__(self, image: StoredImage, sha256: bytes, chunks: AsyncIterator[bytes]) -> None:
        """Bring `chunks`, which must hash to `sha256`."""
        self.image = image
        self.most_bytes: int | None = image.size
        self.expected_sha256: bytes | None = sha256
        self.content_type = image.content_type if len(image.content_type) <= _MOST_TYPE else None
        self._chunks = chunks

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._chunks


class BytesSource:
    """An upload that is already in memory; tests and small tools use it."""

    def __init__(self, data: bytes, *, expected_sha256: bytes | None = None) -> None:
        self._data = data
        self.most_bytes: int | None = len(data)
        self.expected_sha256 = expected_sha256

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        if not self._data:
            raise StopAsyncIteration
        await asyncio.sleep(0)
        data, self._data = self._data, b""
        return data
