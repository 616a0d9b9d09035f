"""Cache entries of the fast path: header fields and request lines."""

from dataclasses import dataclass

from stillroom.auth.grants import Grant
from stillroom.bounded_cache import CacheEntry
from stillroom.http.fields import Fields
from stillroom.paths import ImagePath, StorageKey
from stillroom.server.fast_path.answers import Answer
from stillroom.storage.values import RemoteImage, StoredImage

Conditions = tuple[str | None, ...]


@dataclass(frozen=True, slots=True)
class CheckedFields:
    """Header fields of a request that passed all checks, with the permissions of its token."""

    fields: Fields
    conditions: Conditions | None  # None if there are no conditions
    grant: Grant
    until: float


@dataclass(slots=True, eq=False)
class Line:
    """Valid request line, with the cached response for the image's current version.

    With thousands of lines, each memory access is a CPU cache miss. So this object contains
    everything that a typical response needs, without further dictionaries.
    """

    method: str
    path: ImagePath
    key: StorageKey
    image: StoredImage | RemoteImage | None = None
    is_missing: bool = False  # result of the last lookup
    answer: Answer | None = None  # to requests without conditions
    whole: CacheEntry[bytes] | None = None  # the head of `answer`, and the whole image

    def use(self, image: StoredImage | RemoteImage | None) -> None:
        """Set the image. Drops the cached response if the image has another version."""
        self.image, self.is_missing = image, image is None
        self.answer = self.whole = None
