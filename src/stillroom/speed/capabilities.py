"""Optional capabilities of storage backends for faster responses."""

from typing import Protocol, runtime_checkable

from stillroom.paths import StorageKey
from stillroom.store.values import LocalImage, OpenedImage, RemoteImage, StoredImage


@runtime_checkable
class ServesNow(Protocol):
    """Optional capability of a disk: reading images without waiting, for `fast_path`."""

    def locate_now(self, key: StorageKey, known: StoredImage | None = None) -> LocalImage:
        """Open an image like `ImageStorage.locate`. Reuse the metadata `known` if it is current."""

    def is_current(self, image: StoredImage) -> bool:
        """Return whether `image` is the stored version; False if unknown. Never raises."""

    def read_now(self, image: StoredImage, start: int, into: memoryview) -> bool:
        """Read from offset `start` without waiting. Return False if this fails. Never raises."""

    def is_missing(self, key: StorageKey) -> bool:
        """Return True if the image certainly does not exist, False if it may exist."""


@runtime_checkable
class RedirectsNow(Protocol):
    """Optional capability of a bucket: locating images without waiting, for `fast_path`."""

    def redirect_now(self, key: StorageKey) -> RemoteImage | None:
        """Return the image's URL. Return None if its existence must be checked first."""


@runtime_checkable
class PinsNames(Protocol):
    """Optional capability of a disk: file names for a proxy such as nginx on the same machine.

    A pinned name leads to one version of an image for at least a minute, even if the image is
    replaced or deleted. The name has two segments of ASCII letters, digits and hyphens.
    """

    def known_name(self, image: StoredImage) -> str | None:
        """Return the name of the hard link to this version, or None if there is none yet."""

    async def pinned_name(self, image: OpenedImage) -> str | None:
        """Create and return a pinned name. Return None if the server must send the bytes."""
