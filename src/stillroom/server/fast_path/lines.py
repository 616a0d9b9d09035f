"""What the fast path knows of a request that came before: its fields, and its line."""

from dataclasses import dataclass

from stillroom.auth.grants import Grant
from stillroom.bounded_cache import CacheEntry
from stillroom.http.fields import Fields
from stillroom.paths import ImagePath, StorageKey
from stillroom.server.fast_path.answers import Answer
from stillroom.storage.values import RemoteImage, StoredImage

Conditions = tuple[str | None, ...]


@dataclass(frozen=True, slots=True)
class Rights:
    """The fields of a head that passed every check, and who its token's holder is."""

    fields: Fields
    conditions: Conditions | None  # None: there is none
    grant: Grant
    until: float


@dataclass(slots=True, eq=False)
class Line:
    """A request line that was checked, and the answer to it while the image is the same.

    Of thousands each is read from memory that no processor cache holds, so what a usual answer
    needs lies here and not behind one more dictionary.
    """

    method: str
    path: ImagePath
    key: StorageKey
    image: StoredImage | RemoteImage | None = None
    is_missing: bool = False  # it was, when it was last looked for
    answer: Answer | None = None  # without conditions
    whole: CacheEntry[bytes] | None = None  # the head of `answer`, and all of the image

    def use(self, image: StoredImage | RemoteImage | None) -> None:
        """Forget the answer, since the image is another one."""
        self.image, self.is_missing = image, image is None
        self.answer = self.whole = None
