"""Tokenizer for the search index, for both SQLite and PostgreSQL.

The databases receive only words that consist of letters and digits, because their own parsers
differ, and clients must not be able to use the query languages of the databases.
"""

import functools
import hashlib
import itertools
import re
import unicodedata
from collections.abc import Iterable, Iterator
from typing import Final

MAX_TEXT: Final = 16 * 1024  # characters per text that are indexed, and returned in results
_MAX_WORD: Final = 64
_MAX_WORDS: Final = 4096
_MAX_FOLDERS: Final = 16
_MAX_NAME: Final = 32  # words in the name of a model or LoRA
_REMEMBERED: Final = 512  # because the same folders, tools, models and types recur
_CASED: Final = ("derived_from", "folder")  # names of fields whose values are paths

# Scripts without spaces: each character is one word, and a search term is a phrase.
_UNSPACED: Final = "\u0e00-\u0eff\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_ASCII_WORD = re.compile(r"[a-z0-9]+")
_WORD = re.compile(rf"[{_UNSPACED}]|[^\W_{_UNSPACED}]+")
Phrase = tuple[str, ...]  # consecutive words


def words_of(text: str) -> list[str]:
    """Split a text into lower-case words without accents."""
    text = text[:MAX_TEXT]
    if text.isascii():
        words = _ASCII_WORD.findall(text.lower())
    else:
        spread = unicodedata.normalize("NFKD", text.casefold())[: 2 * MAX_TEXT]
        plain = "".join(one for one in spread if not unicodedata.combining(one))
        words = _WORD.findall(plain.casefold())
    return [word[:_MAX_WORD] for word in words[:_MAX_WORDS]]


@functools.lru_cache(_REMEMBERED)
def facet(name: str, value: str) -> str:
    """Encode the whole value of a field as one index word, for exact matches.

    Case is ignored, except in paths.
    """
    text = value if name in _CASED else value.casefold()
    return hashlib.blake2b(f"{name}={text}".encode(), digest_size=10).hexdigest()


def starts_of(names: Iterable[str]) -> list[str]:
    """Return the index words for names, so that a prefix search can begin at any word of a name.

    For `sd_xl_base`, these are `sdxlbase`, `xlbase` and `base`.
    """
    found = itertools.chain.from_iterable(_starts_of(name) for name in names)
    return list(itertools.islice(found, _MAX_WORDS))


@functools.lru_cache(_REMEMBERED)
def _starts_of(name: str) -> tuple[str, ...]:
    words = words_of(name)[:_MAX_NAME]
    return tuple(dict.fromkeys(joined(words[at:]) for at in range(len(words))))


def joined(words: Iterable[str]) -> str:
    """Join words into a single word, cut to the maximum length."""
    return "".join(words)[:_MAX_WORD]


def folder_facets(key: str) -> Iterator[str]:
    """Yield the index words for the folders that contain a storage key, outermost first."""
    end = key.find("/")
    for _ in range(_MAX_FOLDERS):
        if end < 0:
            return
        yield facet("folder", key[: end + 1])
        end = key.find("/", end + 1)


def folder_facet(prefix: str) -> str | None:
    """Return the index word for the innermost folder of a key prefix, or None if it has none."""
    return [None, *folder_facets(prefix)][-1]
