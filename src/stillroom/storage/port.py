"""The storage port, which every backend implements."""

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
    """Storage of bytes under keys.

    Every backend keeps these promises, and `tests/contract` checks each of them:

    * atomic: a reader gets the old image or the new one, never a part of one, even after a
      crash; all that is read from one location is one image;
    * durable: a power cut after the return of `save` or `delete` changes nothing;
    * a refused or broken save leaves nothing behind and changes nothing;
    * conditions hold across processes: only one of two create-only saves succeeds;
    * a page contains every image saved, and none deleted, before the request, by any process;
    * a missing image raises `ImageNotFound`; a failure of the medium raises
      `BackendUnavailable` with the driver's exception as its cause.
    """

    description: str
    """One line for the log: backend and location."""

    async def save(
        self, key: StorageKey, source: ImageSource, condition: Condition = UNCONDITIONAL
    ) -> StoredImage:
        """Save `source` under `key`, replacing an existing image.

        A save is refused before `source` is read, if it can be.

        Raises:
            PreconditionFailed, ConditionUnsupported, PathConflict, TooLarge, UnsupportedMedia,
            EmptyFile, DigestMismatch, StorageFull, BackendUnavailable: as their names say.
        """
        ...

    async def locate(self, key: StorageKey) -> Location:
        """Return where the image can be read. Close a `LocalImage` after use."""
        ...

    def locate_now(self, key: StorageKey, known: StoredImage | None = None) -> Location | None:
        """Return the location, or None if only `locate`, which may wait, can find it.

        `known` are facts found earlier. If it is still the same save, the location has this very
        object as its facts, which costs less.
        """
        ...

    def is_current(self, image: StoredImage) -> bool:
        """Return whether an image is still the same save, with the same content.

        For callers that cache what they read. It neither waits nor raises; False may also mean that
        it would have to wait, so the image must be located again.
        """
        ...

    def read_now(self, image: StoredImage, start: int, into: memoryview) -> bool:
        """Fill `into` with the bytes from `start` on, if the image is still the same save.

        It neither waits nor raises; False may also mean that it would have to wait.
        """
        ...

    def is_missing(self, key: StorageKey) -> bool:
        """Return whether there is certainly no image, without waiting; False if unknown."""
        ...

    async def open(self, key: StorageKey) -> OpenedImage:
        """Open the image for reading in this process. Close it after use."""
        ...

    async def stat(self, key: StorageKey) -> StoredImage:
        """Return the facts without the bytes."""
        ...

    async def list(self, query: ListQuery) -> Page:
        """List one page, in memory that does not grow with the number of images.

        Raises `ListingUnsupported` if pages of the bucket cannot be joined.
        """
        ...

    async def entries(self, query: ListQuery) -> EntryPage:
        """List the same page as `list`, with the facts of each image.

        The facts of one image are from one save, but the page is not a snapshot. Images deleted
        meanwhile are left out. Memory is bounded by the page, and the event loop is not blocked.
        """
        ...

    async def delete(
        self,
        key: StorageKey,
        condition: Condition = UNCONDITIONAL,
        *,
        save_id: str | None = None,
    ) -> None:
        """Delete the image, durably.

        With `save_id` only this save is deleted, and no other one with the same bytes. On a disk,
        check and deletion are one step. In a bucket, another save may come in between; a bucket
        with conditional deletion keeps it.

        Raises:
            ImageNotFound, PreconditionFailed, BackendUnavailable: as their names say.
        """
        ...

    async def copy(
        self, source: StorageKey, target: StorageKey, *, save_id: str | None = None
    ) -> StoredImage:
        """Save the image at `source` also under `target`, replacing an existing image.

        The copy has the same bytes, content type and SHA-256, a new save id, and is independent of
        the original. The bytes do not pass through this process. A copy below `media/` may be
        cached forever, since the bytes under such a key never change.

        Raises:
            ImageNotFound: there is no image at `source`.
            PreconditionFailed: `source` is another save than `save_id`; `target` is unchanged.
            PathConflict, StorageFull, BackendUnavailable: as their names say.
        """
        ...

    async def check(self) -> None:
        """Return if images can be saved and read right now, else raise a `StillroomError`."""
        ...

    async def close(self) -> None:
        """Finish running jobs and release all resources."""
        ...
