"""Optional capability of a storage: a trash, and uploads that need a grant but no token.

Neither an upload nor a deleted image has an image path, but both can become an image. The key of an
upload is `Uploads.prefix` and an id. Callers must check an upload before they save it as an image.
The key of a deleted image is `trash_prefix` and a random name.
"""

from typing import ClassVar, Final, Protocol, runtime_checkable

from stillroom.paths import StorageKey
from stillroom.store.objectstore import TakesPresignedUploads
from stillroom.store.values import Condition, OpenedImage, StoredImage

PEEKED_BYTES: Final = 64 * 1024  # read from the beginning of an upload to check it


class Uploads(Protocol):
    """Uploads with a grant, and deleted images, in one storage."""

    prefix: ClassVar[str]  # of the keys of uploads
    trash_prefix: ClassVar[str]  # of the keys of deleted images

    @property
    def store(self) -> TakesPresignedUploads | None:
        """Bucket to which clients upload; None if they upload to this server."""

    @property
    def unsupported(self) -> str | None:
        """Reason why uploads cannot be saved here; None if they can."""

    async def open(self, key: StorageKey) -> OpenedImage:
        """Open an upload. Its `sha256` is None unless this server has computed it."""

    async def find_saved(self, key: StorageKey, grant_id: str) -> StoredImage | None:
        """Return the image under `key` if it was saved durably with this grant, else None."""

    async def save(
        self, opened: OpenedImage, target: StoredImage, condition: Condition
    ) -> StoredImage:
        """Save an upload as an image, without transferring its bytes. The upload is not deleted.

        The image gets the key, content type and SHA-256 of `target`. The save id of `target` is the
        grant's id. `condition` is unconditional or create-only. Callers must not save an upload in
        two processes at once. Raises `PreconditionFailed` and the errors of `ImageStorage.copy`.
        """

    async def discard(self, image: StoredImage, place: StorageKey) -> None:
        """Move this version of an image to the key `place` in the trash.

        After a crash, the image is under its key, under `place`, or under both. Raises
        `ImageNotFound`, or `PreconditionFailed` if the image was replaced by another version.
        """

    async def restore(self, opened: OpenedImage, target: StoredImage) -> StoredImage:
        """Save a deleted image, as `save` does, if no image exists under the key of `target`.

        Raises `PreconditionFailed` if an image exists that an earlier call has not restored.
        """

    async def delete(self, key: StorageKey) -> None:
        """Delete an upload or a deleted image for good, if it exists."""


@runtime_checkable
class SavesUploads(Protocol):
    """Optional capability of a storage: saving uploads."""

    uploads: Uploads
