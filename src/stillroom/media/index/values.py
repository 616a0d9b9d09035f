"""Values of the search index: entries, queries and results."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from stillroom.generation.ai_mark import AiMark
from stillroom.generation.facts import Generation
from stillroom.media.index.words import MAX_TEXT, Phrase
from stillroom.paths import KeyPrefix, StorageKey
from stillroom.storage.values import StoredImage

MAX_LIMIT: Final = 1000
"""Maximum number of images on one page."""


@dataclass(frozen=True, slots=True)
class IndexedImage:
    """Entry of one image in the index.

    Attributes:
        image: The indexed save of the image.
        generation: Generation facts without `raw` and with long texts cut, or None.
        ai_mark: AI mark, or None if it is unknown.
    """

    image: StoredImage
    generation: Generation | None
    ai_mark: AiMark | None = None

    @classmethod
    def of(
        cls, image: StoredImage, generation: Generation | None, ai_mark: AiMark | None = None
    ) -> "IndexedImage":
        """Create the entry from full facts, which are cut as in `kept_of`."""
        return cls(image, kept_of(generation), ai_mark)


def kept_of(generation: Generation | None) -> Generation | None:
    """Return facts without `raw` and with long texts cut, as the index and resources store them."""
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
    """Deletion of an image.

    Attributes:
        key: Key of the image.
        at_ns: Time of the deletion. Later saves are not affected.
    """

    key: StorageKey
    at_ns: int


@dataclass(frozen=True, slots=True)
class Indexed:
    """Identity of the save that the index has for an image."""

    save_id: str
    etag: str

    def is_of(self, image: StoredImage) -> bool:
        """Return whether the index has this save of the image."""
        return (self.save_id, self.etag) == (image.save_id, image.etag)


BEHIND_ALL: Final = "\U0010ffff"
"""Suffix that sorts after every key: no key contains this character."""

KeyRange = tuple[str, str]
"""Keys after the first text, up to the second."""


def ranges_between(folders: Sequence[str], behind: str, last: str) -> list[KeyRange]:
    """Return the ranges of keys outside some folders.

    Args:
        folders: Folders, each with a slash at the end.
        behind: Text after which the first range begins.
        last: Text with which the last range ends.
    """
    ranges = []
    for folder in sorted(folders):
        ranges.append((behind, folder))
        behind = folder + BEHIND_ALL
    return [*ranges, (behind, last)]


class Term(NamedTuple):
    """Condition that an image must meet, or must not meet.

    Attributes:
        kind: Name of the filter. Empty for words in the prompt, the path, the model or the
            library's texts.
        words: Consecutive words, or the whole value of an exact filter.
        is_prefix: Whether the last word also matches longer words that begin with it.
        is_excluded: Whether images that meet the condition are excluded.
    """

    kind: str
    words: Phrase
    is_prefix: bool = False
    is_excluded: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class FactsQuery:
    """Conditions that images must meet. None and an empty tuple mean no condition.

    Attributes:
        terms: Terms that must all match.
        saved_from_ns: Earliest time of the save.
        saved_before_ns: Time before which the image was saved.
        size_from: Minimum size in bytes.
        size_below: Size in bytes that the image must not reach.
        sees_library: Whether words also match captions, alt texts and tags.
    """

    terms: tuple[Term, ...] = ()
    saved_from_ns: int | None = None
    saved_before_ns: int | None = None
    size_from: int | None = None
    size_below: int | None = None
    sees_library: bool = True


NO_FACTS: Final = FactsQuery()
"""Query without conditions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchQuery(FactsQuery):
    """Query for one page of a search.

    Attributes:
        prefix: Prefix of the keys.
        by_path: Whether to sort by path instead of by time of the save.
        descending: Whether to sort in descending order.
        after: Last position of the previous page: a key if sorted by path, else a row id.
    """

    prefix: KeyPrefix
    content_type: str | None = None
    by_path: bool = False
    descending: bool = True
    after: str | int | None = None
    limit: int = 100


@dataclass(frozen=True, slots=True)
class FoundPage:
    """Page of search results.

    Attributes:
        images: Entries in the order of the query.
        next_after: `SearchQuery.after` of the next page, or None on the last page.
    """

    images: Sequence[IndexedImage]
    next_after: str | int | None = None
