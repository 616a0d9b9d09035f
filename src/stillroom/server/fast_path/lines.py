"""Cached header fields and request lines of the fast path."""

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
    """Header fields that have passed all checks, with the grant of their token."""

    fields: Fields
    conditions: Conditions | None  # None if there are no conditions
    grant: Grant
    until: float


@dataclass(slots=True, eq=False)
class Line:
    """Checked request line, with the cached response for the current version of the image.

    With thousands of lines, each access is a CPU cache miss. So everything that a typical response
    needs is stored here, without further dictionaries.
    """

    method: str
    path: ImagePath
    key: StorageKey
    image: StoredImage | RemoteImage | None = None
    is_missing: bool = False  # result of the last lookup
    answer: Answer | None = None  # to requests without conditions
    whole: CacheEntry[bytes] | None = None  # the head of `answer`, and the whole image

    def use(self, image: StoredImage | RemoteImage | None) -> None:
        """Set the image, and drop the cached response for another version."""
        self.image, self.is_missing = image, image is None
        self.answer = self.whole = None
