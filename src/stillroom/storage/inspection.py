"""Port for the maintenance of a store, in addition to the storage port; see `verify.py`."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from stillroom.paths import KeyPrefix, StorageKey
from stillroom.storage.values import OpenedImage, StoredImage


@dataclass(frozen=True, slots=True)
class UnexpectedFile:
    """A file in the store that cannot be an image: its unchecked name, and the reason."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class Inspected:
    """An image opened for reading. Close `opened` after use.

    `outdated_sha256` is a hash recorded before the file was touched or changed.
    """

    opened: OpenedImage
    outdated_sha256: bytes | None = None


class Inspection(Protocol):
    """A store opened for maintenance, also while servers use it.

    Every method raises `BackendUnavailable` if the medium failed; `open` and `stat` raise
    `ImageNotFound` if there is no image.

    Attributes:
        description: One line that identifies the store, and stays the same.
        at_once: Number of images to read at the same time.
    """

    description: str
    at_once: int

    def walk(self, prefix: KeyPrefix, after: str) -> AsyncIterator[StorageKey | UnexpectedFile]:
        """Yield all images after `after` in the store's order, and all unexpected files."""
        ...

    async def open(self, key: StorageKey) -> Inspected:
        """Open the image with its facts, from one save."""
        ...

    async def stat(self, key: StorageKey) -> StoredImage:
        """Return the current facts."""
        ...

    async def quarantine(self, image: StoredImage, facts: bytes) -> str | None:
        """Move an image, with a document of its facts, to where no reader finds it.

        Returns:
            Its new place; None if it was replaced or deleted meanwhile.

        Raises:
            BackendUnavailable: the medium failed; the image may be in both places.
        """
        ...

    async def check(self) -> None:
        """Return if the store can be read."""
        ...

    async def close(self) -> None:
        """Close all files and connections."""
        ...


@runtime_checkable
class AdoptsHashes(Protocol):
    """Optional capability of a disk: adding a hash to an image.

    A bucket changes metadata only by copying an object over itself. That is unconditional, so an
    image saved at the same moment would be lost.
    """

    async def adopt(self, inspected: Inspected, sha256: bytes) -> None:
        """Record the hash of an image that has none.

        Raises:
            ConfigurationError: the filesystem cannot store it.
            BackendUnavailable: the medium failed.
        """
        ...
