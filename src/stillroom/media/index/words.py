"""Words of the search index: one way to take texts apart, whatever the database.

The databases' own parsers differ, and their query languages are not for clients: both are given
words of letters and digits only.
"""

import functools
import hashlib
import itertools
import re
import unicodedata
from collections.abc import Iterable, Iterator
from typing import Final

MAX_TEXT: Final = 16 * 1024
"""Characters of one text that are indexed, and shown in answers to a search."""

_MAX_WORD: Final = 64
_MAX_WORDS: Final = 4096
_MAX_FOLDERS: Final = 16
_MAX_NAME: Final = 32
"""Words of a name of a model or LoRA."""

_REMEMBERED: Final = 256
"""Folders, tools, models and types are the same again and again."""

# Written without blanks: each character is a word, and what is looked for a phrase of them.
_UNSPACED: Final = "\u0e00-\u0eff\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_ASCII_WORD = re.compile(r"[a-z0-9]+")
_WORD = re.compile(rf"[{_UNSPACED}]|[^\W_{_UNSPACED}]+")

Phrase = tuple[str, ...]
"""Words that follow each other."""


def words_of(text: str) -> list[str]:
    """The words of a text, without regard to case and accents."""
    text = text[:MAX_TEXT]
    if text.isascii():
        found = _ASCII_WORD.findall(text.lower())
    else:
        spread = unicodedata.normalize("NFKD", text.casefold())[: 2 * MAX_TEXT]
        plain = "".join(one for one in spread if not unicodedata.combining(one))
        found = _WORD.findall(plain.casefold())
    return [word[:_MAX_WORD] for word in found[:_MAX_WORDS]]


@functools.lru_cache(_REMEMBERED)
def facet(name: str, value: str) -> str:
    """A word that stands for a fact with this very value, without regard to case."""
    digest = hashlib.blake2b(f"{name}={value.casefold()}".encode(), digest_size=10)
    return digest.hexdigest()


def starts_of(names: Iterable[str]) -> list[str]:
    """Return each name without its punctuation, from each of its words on.

    A search for any part of a name is then a search for the beginning of one word of the index,
    and `sdxl` finds `sd_xl_base`.
    """
    found = itertools.chain.from_iterable(_starts_of(name) for name in names)
    return list(itertools.islice(found, _MAX_WORDS))


@functools.lru_cache(_REMEMBERED)
def _starts_of(name: str) -> tuple[str, ...]:
    words = words_of(name)[:_MAX_NAME]
    return tuple(dict.fromkeys(joined(words[at:]) for at in range(len(words))))


def joined(words: Iterable[str]) -> str:
    """Return words as one word, as long as the index has any."""
    return "".join(words)[:_MAX_WORD]


def folder_facets(key: str) -> Iterator[str]:
    """A word for each folder that a key lies in, the upper ones first."""
    end = key.find("/")
    for _ in range(_MAX_FOLDERS):
        if end < 0:
            return
        yield _folder_facet(key[: end + 1])
        end = key.find("/", end + 1)


def folder_facet(prefix: str) -> str | None:
    """The word of the lowest folder in which all keys with this beginning lie."""
    return next(iter([*folder_facets(prefix)][::-1]), None)


@functools.lru_cache(_REMEMBERED)
def _folder_facet(folder: str) -> str:
    return hashlib.blake2b(f"folder={folder}".encode(), digest_size=10).hexdigest()
