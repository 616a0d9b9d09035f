"""Optional capabilities of storage backends, and observers of their calls and changes."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Protocol, runtime_checkable

from stillroom.paths import KeyPrefix, StorageKey
from stillroom.store.causes import Cause
from stillroom.store.values import StoredImage


class CallObserver(Protocol):
    """Callback for metrics, called for each fsync or bucket request. Must be thread-safe."""

    def __call__(self, call: str, outcome: str, seconds: float, *, again: bool = False) -> None:
        """Record one attempt of `call`, or a retry if `again` is set.

        `call` is `fsync_file`, `fsync_folder` or an S3 operation. `outcome` is a word such as `ok`.
        """


def unobserved(call: str, outcome: str, seconds: float, *, again: bool = False) -> None:
    """Do nothing: the `CallObserver` for callers without metrics."""
    del call, outcome, seconds, again


class SaveWatcher(Protocol):
    """Callbacks for one save, called on the event loop: they must be fast."""

    def passed(self, chunk: bytes) -> None:
        """Inspect the next chunk of the upload. The save may still be refused afterwards."""

    def saved(self, image: StoredImage) -> None:
        """Record a completed save. Not called for a save that was refused or interrupted."""


class ChangeObserver(Protocol):
    """Callbacks for changes to stored images, called on the event loop: they must be fast."""

    def saving(self, key: StorageKey, cause: Cause) -> SaveWatcher | None:
        """Return a watcher for the save that begins now, or None to ignore the save."""

    def copied(self, image: StoredImage, source: StoredImage, cause: Cause) -> None:
        """Record a completed copy."""

    def removed(self, key: StorageKey, at_ns: int, cause: Cause) -> None:
        """Record a deletion: images saved under this key before `at_ns` no longer exist."""


class _Unwatched:
    def saving(self, *_: object) -> None:
        pass

    copied = removed = saving


UNWATCHED: Final[ChangeObserver] = _Unwatched()  # ignores all changes


@dataclass(slots=True, eq=False)
class ChangeRelay:
    """`ChangeObserver` that passes changes to `observer`, which a feature sets when it opens."""

    observer: ChangeObserver = UNWATCHED

    def saving(self, key: StorageKey, cause: Cause) -> SaveWatcher | None:
        """Return the watcher of the observer for the save that begins now."""
        return self.observer.saving(key, cause)

    def copied(self, image: StoredImage, source: StoredImage, cause: Cause) -> None:
        """Record a completed copy."""
        self.observer.copied(image, source, cause)

    def removed(self, key: StorageKey, at_ns: int, cause: Cause) -> None:
        """Record a deletion."""
        self.observer.removed(key, at_ns, cause)


@runtime_checkable
class TurnsReadOnly(Protocol):
    """Optional capability of a storage on a disk: becoming read-only after a failed fsync."""

    @property
    def is_read_only(self) -> bool:
        """True if an fsync has failed in any process."""


@dataclass(frozen=True, slots=True)
class Limitation:
    """A feature of S3 that a bucket does not support."""

    fault: str  # verb phrase without the subject "the bucket", such as "ignores If-Match"
    consequence: str  # clause about the effect on requests


@runtime_checkable
class TriesFeatures(Protocol):
    """Optional capability of a storage in a bucket: testing which features of S3 are missing.

    Both methods raise `BackendUnavailable` if the test was not completed.
    """

    async def lacking_conditions(self) -> Sequence[Limitation]:
        """Test conditional requests once, and return the kinds that the bucket does not support."""

    async def lacking_order(self) -> Sequence[Limitation]:
        """Test the order of listings, and return deviations from byte order."""


@runtime_checkable
class RemovesEmptyFolders(Protocol):
    """Optional capability of a storage on a disk: removing empty folders."""

    async def remove_empty_folders(self, empty_for: timedelta) -> int:
        """Remove folders that have been empty for `empty_for`, and return their number.

        A call that follows another one within `empty_for` removes nothing, and returns 0.
        """


@runtime_checkable
class FindsChangedFolders(Protocol):
    """Optional capability of a storage on a disk: finding changed folders by modification time."""

    def changed_folders(self, since_ns: int) -> AsyncIterator[Sequence[KeyPrefix]]:
        """Yield folders in which an image may have been saved or deleted since `since_ns`.

        The order is arbitrary. `since_ns` is in nanoseconds since the epoch.
        """
