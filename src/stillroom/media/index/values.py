"""The values of the search index: what is written into it, asked of it and found in it."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

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


@dataclass(frozen=True, slots=True, kw_only=True)
class FactsQuery:
    """What images must have; None and empty tuples ask for nothing.

    Attributes:
        words: Each in the prompt, the path or the model.
        prompt: Each in the prompt.
        model: One phrase in its name.
        lora: One phrase in a name of one.
    """

    words: tuple[Phrase, ...] = ()
    prompt: tuple[Phrase, ...] = ()
    model: Phrase = ()
    lora: Phrase = ()
    sampler: str | None = None
    seed: int | None = None
    tool: str | None = None
    ai_mark: str | None = None


NO_FACTS: Final = FactsQuery()
"""Asks for nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchQuery(FactsQuery):
    """One page of a search among stored images.

    Attributes:
        prefix: Of keys.
        saved_from_ns: Then or later.
        saved_before_ns: Earlier.
        by_path: In the order of paths, else of saves.
        descending: The other way round.
        after: The last place of the page before: a path's key, or `place` of a save.
    """

    prefix: KeyPrefix
    content_type: str | None = None
    saved_from_ns: int | None = None
    saved_before_ns: int | None = None
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
