"""Optional capability of a storage: files outside of the image paths that become images.

An upload has a storage key outside of the image paths: `Uploads.prefix` and an id. Clients send its
bytes without a token, so callers must check the file before they save it as an image. A deleted
image is in the trash under such a key: `trash_prefix` and a random name.
"""

from typing import Final, Protocol, runtime_checkable

from stillroom.paths import StorageKey
from stillroom.store.objectstore import TakesPresignedUploads
from stillroom.store.values import Condition, OpenedImage, StoredImage

PEEKED_BYTES: Final = 64 * 1024  # read from the beginning of an upload to check it


class Uploads(Protocol):
    """Uploads and deleted images of one storage."""

    @property
    def prefix(self) -> str:
        """Prefix of the keys of uploads."""

    @property
    def trash_prefix(self) -> str:
        """Prefix of the keys of deleted images."""

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
        self, opened: OpenedImage, wanted: StoredImage, condition: Condition
    ) -> StoredImage:
        """Save an upload as an image, without transferring its bytes.

        The image gets the key, content type and SHA-256 of `wanted`. The save id of `wanted` is the
        id of the grant. `condition` is unconditional or create-only. The upload is not deleted.
        No other process of this machine may save it at the same time. Raises `PreconditionFailed`
        and the errors of `ImageStorage.copy`.
        """

    async def discard(self, image: StoredImage, place: StorageKey) -> None:
        """Move exactly this version of an image to the key `place`.

        After a crash, the image is under its key, under `place`, or under both. Raises
        `ImageNotFound`, or `PreconditionFailed` if there is another version.
        """

    async def restore(self, opened: OpenedImage, wanted: StoredImage) -> StoredImage:
        """Save a deleted image, as `save` does, if no image exists under the key of `wanted`.

        Raises `PreconditionFailed` if one exists that was not restored with this save id.
        """

    async def delete(self, key: StorageKey) -> None:
        """Delete an upload or a deleted image for good, if it exists."""


@runtime_checkable
class SavesUploads(Protocol):
    """Optional capability of a storage: saving uploads."""

    uploads: Uploads
