"""Optional capabilities of backends beyond the port, and observers of their calls."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Protocol, runtime_checkable

from stillroom.paths import KeyPrefix, StorageKey
from stillroom.storage.upload_checks import PassedBytes
from stillroom.storage.values import OpenedImage, StoredImage


class CallObserver(Protocol):
    """Observer of a storage's calls to its medium, for metrics. Fast, and called in any thread."""

    def __call__(self, call: str, outcome: str, seconds: float, *, again: bool = False) -> None:
        """Record one attempt.

        Args:
            call: `fsync_file`, `fsync_folder`, or S3's name of the operation.
            outcome: One of a few words; see the backends.
            seconds: Duration.
            again: The attempt is a retry.
        """
        ...


def unobserved(call: str, outcome: str, seconds: float, *, again: bool = False) -> None:
    """Ignore a call; a `CallObserver`."""
    del call, outcome, seconds, again


class ChangeObserver(Protocol):
    """Observer of a storage's changes, on its event loop. Fast, since the response waits for it."""

    def saved(self, image: StoredImage, passed: PassedBytes | None) -> None:
        """Record a durable save; `passed` are some of its bytes."""
        ...

    def copied(self, image: StoredImage, source: StoredImage) -> None:
        """Record a durable copy."""
        ...

    def removed(self, key: StorageKey, at_ns: int) -> None:
        """Record a deletion; images under this key saved before `at_ns` do not exist any more."""
        ...


class _Unwatched:
    def saved(self, image: StoredImage, passed: PassedBytes | None) -> None:
        pass

    def copied(self, image: StoredImage, source: StoredImage) -> None:
        pass

    def removed(self, key: StorageKey, at_ns: int) -> None:
        pass


UNWATCHED: Final[ChangeObserver] = _Unwatched()
"""A `ChangeObserver` that ignores all changes."""


@runtime_checkable
class TurnsReadOnly(Protocol):
    """Optional capability of a disk, which becomes read-only after a failed sync."""

    @property
    def is_read_only(self) -> bool:
        """Return whether a sync has failed in any process."""
        ...


@dataclass(frozen=True, slots=True)
class Limitation:
    """A feature that a bucket lacks.

    Attributes:
        said: Verb phrase about the bucket, such as "ignores If-Match".
        consequence: Clause about the effect on requests.
    """

    said: str
    consequence: str


@runtime_checkable
class TriesFeatures(Protocol):
    """Optional capability of a bucket, which may lack features of S3; a disk lacks none."""

    async def lacking_conditions(self) -> Sequence[Limitation]:
        """Probe conditions, unless that was done before, and return the unsupported ones.

        Saves with such a condition raise `ConditionUnsupported`.

        Raises:
            BackendUnavailable: the probe failed.
        """
        ...

    async def lacking_order(self) -> Sequence[Limitation]:
        """Probe the order of listings, and return how it differs from byte order.

        Raises:
            BackendUnavailable: the probe failed.
        """
        ...


@runtime_checkable
class RemovesEmptyFolders(Protocol):
    """Optional capability of a disk; a bucket has no folders."""

    async def remove_empty_folders(self, empty_for: timedelta) -> int:
        """Remove folders that have been empty for so long, if a search is due. Return their number.

        Raises:
            BackendUnavailable: the medium failed.
        """
        ...


@runtime_checkable
class FindsChangedFolders(Protocol):
    """Optional capability of a disk, whose folders have modification times."""

    def changed_folders(self, since_ns: int) -> AsyncIterator[Sequence[KeyPrefix]]:
        """Find folders in which an image may have been saved or deleted at or after `since_ns`.

        The folders are in no order. `since_ns` is in nanoseconds since the epoch.

        Raises:
            BackendUnavailable: the medium failed.
        """
        ...


@runtime_checkable
class PinsNames(Protocol):
    """Optional capability: names by which a proxy on the same machine opens one save of an image.

    A name consists of two segments of ASCII letters, digits and hyphens, separated by a slash. It
    leads only to that save, whatever happens to the image, for at least a minute.
    """

    def known_name(self, image: StoredImage) -> str | None:
        """Return the existing name of a save, or None if `pinned_name` must create one."""
        ...

    async def pinned_name(self, image: OpenedImage) -> str | None:
        """Return a name for a save, or None if it cannot have one and its bytes must be sent."""
        ...
