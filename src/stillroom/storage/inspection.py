"""What looking after a store needs beyond the port of the five operations; see `verify.py`."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from stillroom.paths import KeyPrefix, StorageKey
from stillroom.storage.values import OpenedImage, StoredImage


@dataclass(frozen=True, slots=True)
class UnexpectedFile:
    """Something in the store that is no image, and has no business there.

    Attributes:
        name: Where it lies, for people; not checked at all.
        reason: Why it cannot be an image.
    """

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class Inspected:
    """An image opened for reading; close `opened`.

    Attributes:
        outdated_sha256: A hash that was noted for another state of the file than the one that
            it is in: it was touched or changed since.
    """

    opened: OpenedImage
    outdated_sha256: bytes | None = None


class Inspection(Protocol):
    """A store as its operator looks at it; runs beside servers that use it.

    Attributes:
        description: One line that names the store, and is the same as long as it is that one.
        at_once: How many images to read at the same time.
    """

    description: str
    at_once: int

    def walk(self, prefix: KeyPrefix, after: str) -> AsyncIterator[StorageKey | UnexpectedFile]:
        """All images behind `after`, in the order of the store's listings, and all strays.

        Raises:
            BackendUnavailable: the medium failed.
        """
        ...

    async def open(self, key: StorageKey) -> Inspected:
        """The image's facts and its bytes, from one save.

        Raises:
            ImageNotFound, BackendUnavailable: as their names say.
        """
        ...

    async def stat(self, key: StorageKey) -> StoredImage:
        """The facts as they are now.

        Raises:
            ImageNotFound, BackendUnavailable: as their names say.
        """
        ...

    async def quarantine(self, image: StoredImage, facts: bytes) -> str | None:
        """Move an image out of every reader's way, with a document of what is known about it.

        Returns:
            Where it lies now; None if it was replaced or deleted meanwhile.

        Raises:
            BackendUnavailable: as its name says; the image may be in both places.
        """
        ...

    async def check(self) -> None:
        """Return if the store can be read at all.

        Raises:
            BackendUnavailable: with the reason.
        """
        ...

    async def close(self) -> None:
        """Give everything back."""
        ...


@runtime_checkable
class AdoptsHashes(Protocol):
    """Optional power: a disk has it. A bucket takes metadata only with a whole new object.

    That copy of an object over itself takes no condition, so whatever a server saves in that
    very moment would be lost.
    """

    async def adopt(self, inspected: Inspected, sha256: bytes) -> None:
        """Note the hash of an image that has none.

        Raises:
            ConfigurationError: there is no place for it.
            BackendUnavailable: the medium failed.
        """
        ...
