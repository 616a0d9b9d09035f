"""Optional capability of a storage: images that are made from uploads which wait for approval.

An upload has a storage key of its own (`prefix` and an id), which no image path leads to. A client
sent its bytes without a token, so nothing about them is trusted before the caller has checked it.
"""

from typing import Final, Protocol, runtime_checkable

from stillroom.paths import StorageKey
from stillroom.store.objectstore import TakesPresignedUploads
from stillroom.store.values import Condition, OpenedImage, StoredImage

PEEKED_BYTES: Final = 64 * 1024
"""Number of first bytes of an upload that are read in order to check it."""


class Uploads(Protocol):
    """Uploads of one storage."""

    @property
    def prefix(self) -> str:
        """Prefix of the keys of uploads."""

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
        """Save exactly this version of an upload as an image, without transferring its bytes.

        `wanted` has the key, content type and SHA-256 of the image, and the id of the grant as save
        id. `condition` is unconditional or create-only. The upload remains until it is deleted.
        Raises the errors of `ImageStorage.copy`, and `PreconditionFailed`.
        """

    async def delete(self, key: StorageKey) -> None:
        """Delete an upload, if it exists."""


@runtime_checkable
class SavesUploads(Protocol):
    """Optional capability of a storage: saving uploads."""

    uploads: Uploads
