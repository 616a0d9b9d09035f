"""Data classes of the search index: entries, queries and results."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from stillroom.features.search.words import MAX_TEXT, Phrase
from stillroom.generation.reading import Found
from stillroom.paths import KeyPrefix, StorageKey
from stillroom.store.causes import REQUEST, Cause
from stillroom.store.values import StoredImage
from stillroom.wire.generation import Generation

# Names of background scans:
COUNTS_SCAN: Final = "counts"  # counts rows that are not counted yet
INDEX_SCAN: Final = "index"  # finds images that are missing in the search index
REBUILD_SCAN: Final = "rebuild"  # reads every image again, because an operator rebuilds the index
NEVER_NS: Final = 2**63  # later than every save


@dataclass(frozen=True, slots=True)
class IndexedImage:
    """Entry of the search index for an image. Long texts in `metadata` are cut (`kept_of`)."""

    image: StoredImage
    metadata: Found

    @classmethod
    def of(cls, image: StoredImage, found: Found) -> "IndexedImage":
        """Create an entry from the complete metadata of a file."""
        return cls(image, dataclasses.replace(found, generation=kept_of(found.generation)))


def kept_of(generation: Generation | None) -> Generation | None:
    """Return the generation metadata to store: without `raw`, and with long texts cut."""
    if generation is None:
        return None
    cut = {
        name: text[:MAX_TEXT]
        for name in ("tool", "prompt", "negative_prompt", "sampler", "scheduler", "model")
        if (text := getattr(generation, name)) is not None
    }
    return dataclasses.replace(generation, raw=None, **cut)


@dataclass(frozen=True, slots=True)
class Removed:
    """Deletion of an image, at the time `at_ns` in nanoseconds. A later save is not affected."""

    key: StorageKey
    at_ns: int
    cause: Cause = REQUEST


@dataclass(frozen=True, slots=True)
class Indexed:
    """Version of an image that the search index contains."""

    save_id: str
    etag: str

    def is_of(self, image: StoredImage) -> bool:
        """Return whether the indexed version is that of `image`."""
        return (self.save_id, self.etag) == (image.save_id, image.etag)


BEHIND_ALL: Final = "\U0010ffff"  # sorts after every key, because keys never contain it
Place = str | int | tuple[int, int]  # of an image among search results; see `SearchQuery`
KeyRange = tuple[str, str]  # keys after the first text, up to and including the second


class Term(NamedTuple):
    """Search condition that an image must match, or must not match.

    Attributes:
        kind: Name of the filter. Empty for plain words, which match the prompt, path and model
            name, and also captions, alt texts and tags in the media library.
        words: Consecutive words. A filter on exact values has values here, and an image matches if
            it has any of these values.
        is_prefix: True if the last word also matches longer words that begin with it.
        is_excluded: True if images that match the condition are excluded.
    """

    kind: str
    words: Phrase
    is_prefix: bool = False
    is_excluded: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class FactsQuery:
    """Conditions that images must meet. All terms must match. A limit that is None is ignored.

    Times are nanoseconds since the epoch. The bounds `…_from` are inclusive, the others exclusive.
    If `sees_library` is True, words also match captions, alt texts and tags. If the token is
    limited to a folder, `folder` is this folder, and a search by origin uses only images in it.
    """

    terms: tuple[Term, ...] = ()
    saved_from_ns: int | None = None
    saved_before_ns: int | None = None
    size_from: int | None = None
    size_below: int | None = None
    sees_library: bool = True
    folder: str = ""


NO_FACTS: Final = FactsQuery()  # matches every image


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchQuery(FactsQuery):
    """Query for a page of search results.

    The results are sorted by `order`: `saved` (time of the save), `path` or `size`. `after` is the
    position of the last image on the previous page: its row id, storage key, or size and row id.
    """

    prefix: KeyPrefix
    content_type: str | None = None
    order: str = "saved"
    descending: bool = True
    after: Place | None = None
    limit: int = 100


@dataclass(frozen=True, slots=True)
class FoundPage:
    """Page of search results. `next_after` is `after` of the next page; None on the last page."""

    images: Sequence[IndexedImage]
    next_after: Place | None = None
