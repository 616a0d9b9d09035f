"""Data classes for the search index: entries, queries and results."""

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
COUNTS_SCAN: Final = "counts"  # counts the images that `search_counts` does not contain
INDEX_SCAN: Final = "index"  # finds images that are missing in the search index
REBUILD_SCAN: Final = "rebuild"  # reads every image again, because an operator rebuilds the index
NEVER_NS: Final = 2**63  # later than every save


@dataclass(frozen=True, slots=True)
class IndexedImage:
    """Search-index entry of one image. Long texts in `metadata` are cut (`kept_of`)."""

    image: StoredImage
    metadata: Found

    @classmethod
    def of(cls, image: StoredImage, found: Found) -> "IndexedImage":
        """Create an entry from complete metadata."""
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
    """Deletion of an image at `at_ns` (nanoseconds). An image saved later is not affected."""

    key: StorageKey
    at_ns: int
    cause: Cause = REQUEST


@dataclass(frozen=True, slots=True)
class Indexed:
    """Version of an image in the search index."""

    save_id: str
    etag: str

    def is_of(self, image: StoredImage) -> bool:
        """Return whether the index contains this version of the image."""
        return (self.save_id, self.etag) == (image.save_id, image.etag)


BEHIND_ALL: Final = "\U0010ffff"  # sorts after every key, because keys never contain it
Place = str | int | tuple[int, int]  # of an image among search results; see `SearchQuery`
KeyRange = tuple[str, str]  # keys after the first text, up to and including the second


class Term(NamedTuple):
    """Search condition that an image must match, or must not match.

    Attributes:
        kind: Name of the filter. Empty for plain words, which match the prompt, path and model
            name, and also captions, alt texts and tags in the media library.
        words: Consecutive words, or the whole value of an exact filter. An image then matches if
            it has any of several values.
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
    If `sees_library` is True, words also match captions, alt texts and tags. `folder` limits the
    images whose hashes and paths the query may use, because the token is limited to this folder.
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
    """Query for one page of a search, sorted by path, by size or by the time of the save.

    `after` is the last position on the previous page: a key if sorted by path, else a row id. If
    sorted by size, it is a size and a row id.
    """

    prefix: KeyPrefix
    content_type: str | None = None
    by_path: bool = False
    by_size: bool = False
    descending: bool = True
    after: Place | None = None
    limit: int = 100


@dataclass(frozen=True, slots=True)
class FoundPage:
    """Page of search results. `next_after` is the next page's `after`; None on the last page."""

    images: Sequence[IndexedImage]
    next_after: Place | None = None
