"""What some backends can do beyond the port, and what observes their calls."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Protocol, runtime_checkable

from stillroom.paths import KeyPrefix, StorageKey
from stillroom.storage.upload_checks import PassedBytes
from stillroom.storage.values import OpenedImage, StoredImage


class CallObserver(Protocol):
    """Hears what a storage asks its medium, for the numbers. Quick, from any thread."""

    def __call__(self, call: str, outcome: str, seconds: float, *, again: bool = False) -> None:
        """One attempt has ended.

        Args:
            call: `fsync_file`, `fsync_folder`, or S3's name of the operation.
            outcome: One word; there are few, see the backends.
            seconds: How long it took.
            again: It followed one that had failed.
        """
        ...


def unobserved(call: str, outcome: str, seconds: float, *, again: bool = False) -> None:
    """A `CallObserver` that ignores what it is told."""
    del call, outcome, seconds, again


class ChangeObserver(Protocol):
    """Hears what a storage has changed, on its event loop. Quick: an answer waits for it."""

    def saved(self, image: StoredImage, passed: PassedBytes | None) -> None:
        """A save is durable; `passed` are some of its bytes."""
        ...

    def copied(self, image: StoredImage, source: StoredImage) -> None:
        """A copy is durable."""
        ...

    def removed(self, key: StorageKey, at_ns: int) -> None:
        """An image was deleted; what was saved before `at_ns` is not there any more."""
        ...


class _Unwatched:
    def saved(self, image: StoredImage, passed: PassedBytes | None) -> None:
        pass

    def copied(self, image: StoredImage, source: StoredImage) -> None:
        pass

    def removed(self, key: StorageKey, at_ns: int) -> None:
        pass


UNWATCHED: Final[ChangeObserver] = _Unwatched()
"""A `ChangeObserver` that ignores what it is told."""


@runtime_checkable
class TurnsReadOnly(Protocol):
    """Optional power: a disk whose sync has failed takes no more."""

    @property
    def is_read_only(self) -> bool:
        """Whether that has happened, in any process."""
        ...


@dataclass(frozen=True, slots=True)
class Limitation:
    """What a bucket cannot do that others can.

    Attributes:
        said: A clause about the bucket, such as "ignores If-Match".
        consequence: What that means for requests, a clause, too.
    """

    said: str
    consequence: str


@runtime_checkable
class TriesFeatures(Protocol):
    """Optional power: a bucket may be of a kind that lacks something; a disk lacks nothing."""

    async def lacking_conditions(self) -> Sequence[Limitation]:
        """Try it, if that was not done yet; what it does wrong.

        Saves with such a condition raise `ConditionUnsupported`.

        Raises:
            BackendUnavailable: that could not be found out.
        """
        ...

    async def lacking_order(self) -> Sequence[Limitation]:
        """Try in which order it lists; what is not byte order.

        Raises:
            BackendUnavailable: that could not be found out.
        """
        ...


@runtime_checkable
class RemovesEmptyFolders(Protocol):
    """Optional power: a disk has folders, a bucket has none."""

    async def remove_empty_folders(self, empty_for: timedelta) -> int:
        """Remove folders that have been empty for so long, if it is time to look for them.

        Returns:
            How many were removed.

        Raises:
            BackendUnavailable: the medium failed.
        """
        ...


@runtime_checkable
class FindsChangedFolders(Protocol):
    """Optional power: a disk has folders, each with the time of its last change."""

    def changed_folders(self, since_ns: int) -> AsyncIterator[Sequence[KeyPrefix]]:
        """Folders in which an image may have been saved or deleted then or later, in no order.

        Args:
            since_ns: Nanoseconds since the epoch.

        Raises:
            BackendUnavailable: the medium failed.
        """
        ...


@runtime_checkable
class PinsNames(Protocol):
    """Optional power: a proxy on the same machine can open one save of an image by a name.

    A name is one segment, a slash and another one, of ASCII letters, digits and hyphens. It leads
    to that save and to nothing else, whatever becomes of the image, for a minute at least.
    """

    def known_name(self, image: StoredImage) -> str | None:
        """The name that this save has already; None: ask `pinned_name`."""
        ...

    async def pinned_name(self, image: OpenedImage) -> str | None:
        """A name for this save; None where it can have none, so that its bytes must be sent."""
        ...
