"""Interface for inspecting a store, used by commands such as `stillroom verify`."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Protocol

from stillroom.paths import KeyPrefix, StorageKey
from stillroom.store.values import OpenedImage, StoredImage


@dataclass(frozen=True, slots=True)
class UnexpectedFile:
    """File in the store that cannot be an image: its name, and the reason."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class Inspected:
    """Image that is opened for reading. Close `opened` after use."""

    opened: OpenedImage
    outdated_sha256: bytes | None = None  # hash that was recorded before a later modification


class Inspection(Protocol):
    """Store that is opened for maintenance. Servers may use it at the same time.

    All methods may raise `BackendUnavailable`, and `open` and `stat` also `ImageNotFound`.
    """

    description: str  # one line that identifies the store, and never changes
    at_once: int  # number of images to read at the same time
    trash_prefix: str  # prefix of the keys of deleted images, which can be restored

    def walk(self, prefix: KeyPrefix, after: str) -> AsyncIterator[StorageKey | UnexpectedFile]:
        """Yield the keys after `after` that begin with `prefix`, and the unexpected files."""

    async def open(self, key: StorageKey) -> Inspected:
        """Open an image. The bytes and the metadata belong to the same version."""

    async def stat(self, key: StorageKey) -> StoredImage:
        """Return the current metadata of an image."""

    async def quarantine(self, image: StoredImage, facts: bytes) -> str | None:
        """Move an image to a quarantine folder, where the API cannot read it.

        `facts` is a document to store next to the image. Returns the new location, or None if
        `image` is not the current version. After an error, the image may exist in both locations.
        """

    async def check(self) -> None:
        """Raise `BackendUnavailable` unless the store can be read."""

    async def close(self) -> None:
        """Close all files and connections."""
