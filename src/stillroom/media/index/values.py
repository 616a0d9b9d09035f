"""The values of the search index: what is written into it, asked of it and found in it."""

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
"""Images on one page."""


@dataclass(frozen=True, slots=True)
class IndexedImage:
    """An image as the index has it.

    Attributes:
        image: One save of it.
        generation: Its facts, without `raw`, long texts cut; None where there are none.
        ai_mark: Whether it says that AI made it; None where that is not known.
    """

    image: StoredImage
    generation: Generation | None
    ai_mark: AiMark | None = None

    @classmethod
    def of(
        cls, image: StoredImage, generation: Generation | None, ai_mark: AiMark | None = None
    ) -> "IndexedImage":
        """What the index keeps of these facts."""
        return cls(image, kept_of(generation), ai_mark)


def kept_of(generation: Generation | None) -> Generation | None:
    """Facts as the index and resources have them: without `raw`, long texts cut."""
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
    """An image that is not there any more.

    Attributes:
        key: Of the image.
        at_ns: When it was removed; a later save stays.
    """

    key: StorageKey
    at_ns: int


@dataclass(frozen=True, slots=True)
class Indexed:
    """Which save of an image the index has."""

    save_id: str
    etag: str

    def is_of(self, image: StoredImage) -> bool:
        """Whether it is this one."""
        return (self.save_id, self.etag) == (image.save_id, image.etag)


BEHIND_ALL: Final = "\U0010ffff"
"""No key has it: all keys with a prefix come before the prefix and this."""

KeyRange = tuple[str, str]
"""Keys behind the one text, up to the other one."""


def ranges_between(folders: Sequence[str], behind: str, last: str) -> list[KeyRange]:
    """Return the ranges of keys that are in none of some folders.

    Args:
        folders: What the keys in each begin with, with a slash at the end.
        behind: The first range begins behind this text.
        last: The last range ends with this text.
    """
    ranges = []
    for folder in sorted(folders):
        ranges.append((behind, folder))
        behind = folder + BEHIND_ALL
    return [*ranges, (behind, last)]


class Term(NamedTuple):
    """One thing that an image must have, or must not have.

    Attributes:
        kind: Empty for words of the prompt, the path, the model and the library's texts; else the
            name of the filter.
        words: Words that follow each other; of an exact filter its whole value.
        is_prefix: The last word may go on.
        is_excluded: An image must not have it.
    """

    kind: str
    words: Phrase
    is_prefix: bool = False
    is_excluded: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class FactsQuery:
    """Conditions that images must meet; None and an empty tuple are no condition.

    Attributes:
        terms: All must hold.
        saved_from_ns: Saved then or later.
        saved_before_ns: Saved earlier.
        size_from: Bytes, at least.
        size_below: Bytes, fewer.
        sees_library: Words are also looked for in captions, alt texts and tags.
    """

    terms: tuple[Term, ...] = ()
    saved_from_ns: int | None = None
    saved_before_ns: int | None = None
    size_from: int | None = None
    size_below: int | None = None
    sees_library: bool = True


NO_FACTS: Final = FactsQuery()
"""Asks for nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchQuery(FactsQuery):
    """One page of a search among stored images.

    Attributes:
        prefix: Of keys.
        by_path: In the order of paths, else of saves.
        descending: The other way round.
        after: The last place of the page before: a path's key, or `place` of a save.
    """

    prefix: KeyPrefix
    content_type: str | None = None
    by_path: bool = False
    descending: bool = True
    after: str | int | None = None
    limit: int = 100


@dataclass(frozen=True, slots=True)
class FoundPage:
    """A page of images that were found.

    Attributes:
        images: In the order asked for.
        next_after: `SearchQuery.after` of the next page; None behind the last one.
    """

    images: Sequence[IndexedImage]
    next_after: str | int | None = None
