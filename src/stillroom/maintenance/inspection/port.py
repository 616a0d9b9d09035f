"""Interface for inspecting a store, used by commands such as `stillroom verify`."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Protocol

from stillroom.paths import KeyPrefix, StorageKey
from stillroom.store.values import OpenedImage, StoredImage


@dataclass(frozen=True, slots=True)
class UnexpectedFile:
    """A file in the store that cannot be an image: its raw name, and the reason."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class Inspected:
    """An image opened for reading. Close `opened` after use."""

    opened: OpenedImage
    outdated_sha256: bytes | None = None  # recorded before the file was last modified


class Inspection(Protocol):
    """A store opened for maintenance. Servers may use it at the same time.

    Every method raises `BackendUnavailable` if the storage failed; `open` and `stat` raise
    `ImageNotFound` if there is no image.
    """

    description: str  # one line that identifies the store, and never changes
    at_once: int  # number of images to read at the same time

    def walk(self, prefix: KeyPrefix, after: str) -> AsyncIterator[StorageKey | UnexpectedFile]:
        """Yield the keys after `after` that begin with `prefix`, and the unexpected files."""
        ...

    async def open(self, key: StorageKey) -> Inspected:
        """Open the image and return it with its metadata, both from the same version."""
        ...

    async def stat(self, key: StorageKey) -> StoredImage:
        """Return the image's current metadata."""
        ...

    async def quarantine(self, image: StoredImage, facts: bytes) -> str | None:
        """Move an image to a quarantine folder, where it cannot be read through the API.

        `facts` is a document that describes the image, and is stored next to the image. Returns the
        new location, or None if `image` is no longer the current version. After an error, the
        image may exist in both locations.
        """
        ...

    async def check(self) -> None:
        """Raise `BackendUnavailable` unless the store can be read."""
        ...

    async def close(self) -> None:
        """Close all files and connections."""
        ...
