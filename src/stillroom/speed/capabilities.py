"""Optional interfaces of storage backends that make faster responses possible."""

from typing import Protocol, runtime_checkable

from stillroom.paths import StorageKey
from stillroom.store.values import LocalImage, OpenedImage, RemoteImage, StoredImage


@runtime_checkable
class ServesNow(Protocol):
    """Optional interface of a disk storage: calls for `fast_path` that read without waiting."""

    def locate_now(self, key: StorageKey, known: StoredImage | None = None) -> LocalImage:
        """Open an image like `ImageStorage.locate`. Reuse the metadata `known` if it is current."""

    def is_current(self, image: StoredImage) -> bool:
        """Return True if `image` is certainly the stored version. Never raises."""

    def read_now(self, image: StoredImage, start: int, into: memoryview) -> bool:
        """Read an image from offset `start` without disk access. Return False if that fails."""

    def is_missing(self, key: StorageKey) -> bool:
        """Return True if the image certainly does not exist, False if it may exist."""


@runtime_checkable
class RedirectsNow(Protocol):
    """Optional interface of a bucket storage: a synchronous call that locates an image."""

    def redirect_now(self, key: StorageKey) -> RemoteImage | None:
        """Return the image's URL, or None if the bucket must be asked whether the image exists."""


@runtime_checkable
class PinsNames(Protocol):
    """Optional interface of a disk storage: file names for a proxy on the same machine (nginx).

    A pinned name is a hard link to one version of an image. It exists for at least a minute, even
    if the image is replaced or deleted. It has two segments of ASCII letters, digits and hyphens.
    """

    def known_name(self, image: StoredImage) -> str | None:
        """Return the hard link (pinned name) to this image version, or None if there is none."""

    async def pinned_name(self, image: OpenedImage) -> str | None:
        """Create a hard link for a proxy. Return None if the server must send the image."""
