"""The storage port: the interface that every storage backend implements."""

from typing import Protocol

from stillroom.paths import StorageKey
from stillroom.store import values
from stillroom.store.sources import ImageSource


class ImageStorage(Protocol):
    """Storage that saves and returns images by key.

    Every backend guarantees the following. `tests/contract` checks each guarantee:

    * atomic: a reader gets either the old or the new version of an image, even after a crash, and
      everything read from one `Location` belongs to the same version;
    * durable: once `save` or `delete` has returned, its result survives a power cut;
    * a save that is refused or interrupted changes nothing and leaves no file behind;
    * conditions work across processes: of two concurrent create-only saves, one succeeds;
    * a listing reflects all saves and deletions that any process completed before the request;
    * a missing image raises `ImageNotFound`; if the disk or bucket fails, `BackendUnavailable` is
      raised with the driver's exception as its cause.
    """

    description: str
    """Backend and location, in one line for the log."""

    async def save(
        self,
        key: StorageKey,
        source: ImageSource,
        condition: values.Condition = values.UNCONDITIONAL,
    ) -> values.StoredImage:
        """Save `source` under `key`, replacing an existing image.

        If a save is certain to fail, the error is raised before `source` is read.

        Raises:
            PreconditionFailed, ConditionUnsupported, PathConflict, TooLarge, UnsupportedMedia,
            EmptyFile, DigestMismatch, StorageFull, BackendUnavailable: see `errors.py`.
        """

    async def locate(self, key: StorageKey) -> values.Location:
        """Return the image as an open file or as a URL. Close a `LocalImage` after use."""

    async def open(self, key: StorageKey) -> values.OpenedImage:
        """Open the image for reading in this process. Close it after use."""

    async def stat(self, key: StorageKey) -> values.StoredImage:
        """Return the image's metadata."""

    async def list(self, query: values.ListQuery) -> values.Page:
        """List one page. Memory use does not grow with the number of stored images.

        Raises `ListingUnsupported` if the bucket does not list keys in a stable order.
        """

    async def entries(self, query: values.ListQuery) -> values.EntryPage:
        """List the same page as `list`, with the metadata of each image.

        The metadata of one image always belongs to a single version, but the page is no snapshot:
        images deleted while the page is read are left out. Memory use depends on the page size.
        """

    async def delete(
        self,
        key: StorageKey,
        condition: values.Condition = values.UNCONDITIONAL,
        *,
        save_id: str | None = None,
    ) -> None:
        """Delete the image, durably.

        With `save_id`, only that version is deleted, not a later one with the same bytes. On a
        disk, the check and the deletion are one atomic operation. In a bucket, a version
        saved between the two survives only if the bucket supports conditional deletions.

        Raises:
            ImageNotFound, PreconditionFailed, BackendUnavailable: see `errors.py`.
        """

    async def copy(
        self, source: StorageKey, target: StorageKey, *, save_id: str | None = None
    ) -> values.StoredImage:
        """Save the image at `source` also under `target`, replacing an existing image.

        The copy is independent of the original. It has the same bytes, content type and SHA-256,
        but a new save id. The bytes do not pass through this process. A copy below `media/` may be
        cached forever, since the bytes under such a key never change.

        Raises:
            ImageNotFound: `source` does not exist.
            PreconditionFailed: `source` has another save id; `target` is unchanged.
            PathConflict, StorageFull, BackendUnavailable: see `errors.py`.
        """

    async def check(self) -> None:
        """Raise a `StillroomError` unless images can be saved and read right now."""

    async def close(self) -> None:
        """Finish running jobs and release all resources."""
