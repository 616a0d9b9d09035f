"""The storage port: what every backend promises."""

from typing import Protocol

from stillroom.paths import StorageKey
from stillroom.storage.sources import ImageSource
from stillroom.storage.values import (
    UNCONDITIONAL,
    Condition,
    EntryPage,
    ListQuery,
    Location,
    OpenedImage,
    Page,
    StoredImage,
)


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

    def locate_now(self, key: StorageKey, known: StoredImage | None = None) -> Location | None:
        """As `locate`, if the answer can be had without waiting; else None: ask `locate`.

        Args:
            key: Of the image.
            known: What was found there before. The very same object is found again, at less cost,
                while it is the same save.
        """
        ...

    def is_current(self, image: StoredImage) -> bool:
        """Whether an image is still this very save, with this content, at this moment.

        For who remembers what it has read from a location. It waits for nothing and raises
        nothing; False also says that it cannot be told so cheaply: locate it again.
        """
        ...

    def read_now(self, image: StoredImage, start: int, into: memoryview) -> bool:
        """Fill `into` with the bytes from `start` on, if it is still this very save.

        It waits for nothing and raises nothing; False also says that it cannot be had so cheaply.
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
            ListingUnsupported, BackendUnavailable: as their names say.
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
                looking and removing are one step. In a bucket there is a moment between; one that
                deletes on condition of an ETag spares what is saved in it.

        Raises:
            ImageNotFound, PreconditionFailed, BackendUnavailable: as their names say.
        """
        ...

    async def copy(
        self, source: StorageKey, target: StorageKey, *, save_id: str | None = None
    ) -> StoredImage:
        """Save the image at `source` under `target` as well, replacing what is there.

        The copy has the same bytes, content type and SHA-256, and a save id of its own; nothing
        that happens to one changes the other. The bytes do not pass through this process. A
        cache may keep a copy below `media/` for good: no such key ever has other bytes.

        Args:
            source: What is copied.
            target: Where to.
            save_id: Copy this very save, and nothing if `source` has another one.

        Raises:
            ImageNotFound: nothing at `source`.
            PreconditionFailed: another save than `save_id` there; `target` is as it was.
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
