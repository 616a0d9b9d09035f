"""The words of the search index: FTS5's in SQLite, a `tsvector` in PostgreSQL.

Words come from `media/index/words.py` alone, letters and digits, so nothing of a client's text is
read as a query.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import TSQUERY

from stillroom.generation.facts import Generation
from stillroom.media.index.values import FactsQuery, IndexedImage, Term
from stillroom.media.index.words import (
    Phrase,
    facet,
    folder_facet,
    folder_facets,
    joined,
    starts_of,
    words_of,
)
from stillroom.media.rows.tables import search_images
from stillroom.paths import COMPUTE_PREFIX, MEDIA_PREFIX

_COLUMNS: Final = ("prompt", "path")
_CLASSES: Final = dict(zip(_COLUMNS, "AB", strict=True))
"""PostgreSQL's weights say where a word stands."""

_GAP: Final = 2
_MAX_POSITION: Final = 16_383  # https://www.postgresql.org/docs/17/textsearch-limitations.html

SPREAD_NS: Final = 10**7
"""Nanoseconds by which an id may lie behind the save: some buckets tell whole seconds."""

_LATEST_NS: Final = 2**63 - 1 - SPREAD_NS

_MODEL, _LORA, _NAME, _LIBRARY = "mlnw"
"""First letters of words that stand for parts of names and for the library's texts.

Facets are hexadecimal, so these begin no facet. Those of `_NAME` and `_LIBRARY` follow each other.
"""

full_text: Final = sa.table(
    "search_words",
    sa.column("rowid", sa.BigInteger),
    *(sa.column(name, sa.Text) for name in (*_COLUMNS, "facets")),
)
"""The virtual table of SQLite. It has columns `model` and `lora`, too, which are empty."""


class _Way(NamedTuple):
    """Words that follow each other in some columns, or among the facets."""

    words: Phrase
    is_prefix: bool = False
    columns: tuple[str, ...] = ()


def matching(
    query: FactsQuery, exact: Iterable[str] = (), *, is_sqlite: bool
) -> Sequence[sa.ColumnElement[bool]]:
    """Return the conditions on rows of `search_images`; none if nothing is asked for.

    Args:
        query: What the images must have.
        exact: Facets that they must have, too.
        is_sqlite: Else it is PostgreSQL. With SQLite the statement reads `full_text`, too.
    """
    wanted = [[*_ways(one, query)] for one in query.terms if not one.is_excluded]
    wanted += [[_Way((one,))] for one in exact]
    unwanted = [way for one in query.terms if one.is_excluded for way in _ways(one, query)]
    if unwanted and not wanted:  # FTS5 takes words away from other words only
        trees = map(folder_facet, (COMPUTE_PREFIX, MEDIA_PREFIX))
        wanted = [[_Way((one,)) for one in trees if one is not None]]
    if not wanted:
        return ()
    if is_sqlite:
        matches = sa.literal_column("search_words").op("MATCH")(_fts5(wanted, unwanted))
        return (search_images.c.id == full_text.c.rowid, matches)
    matches = search_images.c.words.op("@@")(sa.cast(_tsquery(wanted, unwanted), TSQUERY))
    return (matches,)


def bounds_of(query: FactsQuery) -> Iterator[sa.ColumnElement[bool]]:
    """Return the conditions on the size and the time of a save."""
    saved, size = search_images.c.saved_ns, search_images.c.size
    if query.saved_from_ns is not None:
        yield saved >= known_ns(query.saved_from_ns)
    if query.saved_before_ns is not None:
        yield saved < known_ns(query.saved_before_ns)
    if query.size_from is not None:
        yield size >= query.size_from
    if query.size_below is not None:
        yield size < query.size_below


def known_ns(moment: int) -> int:
    """Return a time that both databases can hold: 1970 to 2262."""
    return min(max(moment, 0), _LATEST_NS)


def has_phrase(query: FactsQuery) -> bool:
    """Return whether words must follow each other."""
    follow = ("", "prompt", "name")
    return any(one.kind in follow and len(one.words) > 1 for one in query.terms)


def texts_of(indexed: IndexedImage) -> dict[str, str]:
    """What stands in the full text for an image, by column, words parted by blanks."""
    key, facts = indexed.image.key.text, indexed.generation or Generation()
    path = key.partition("/")[2]
    found = {"prompt": words_of(facts.prompt or ""), "path": words_of(path)}
    exact = [*folder_facets(key), facet("type", indexed.image.content_type)]
    for name in ("tool", "sampler", "seed"):
        value = getattr(facts, name)
        if value is not None:
            exact.append(facet(name, str(value)))
    if indexed.ai_mark is not None:
        exact.append(facet("ai_mark", indexed.ai_mark))
    exact += [_MODEL + one for one in starts_of([facts.model or ""])]
    exact += [_LORA + one for one in starts_of(one.name for one in facts.loras or ())]
    exact += [_NAME + one for one in words_of(path.rpartition("/")[2])]
    return {name: " ".join(words) for name, words in {**found, "facets": exact}.items()}


def library_facets(texts: Sequence[str], tags: Sequence[str]) -> str:
    """Return what stands among the facets for the library's texts and tags of an image."""
    # A letter alone is between two texts, so that no phrase is in both.
    words = [_LIBRARY + one for text in (*texts, *tags) for one in ("", *words_of(text))]
    return " ".join([*(facet("tag", tag) for tag in tags), *words])


def _ways(term: Term, query: FactsQuery) -> Iterator[_Way]:
    """The ways of an image to have what a term asks for; one is enough."""
    kind, words, is_prefix, _ = term
    name = joined(words)
    if kind == "":
        yield _Way(words, is_prefix, _COLUMNS)
        if len(name) > 1:
            yield _Way((_MODEL + name,), True)
        if query.sees_library:
            yield _Way(tuple(_LIBRARY + one for one in words), is_prefix)
    elif kind == "prompt":
        yield _Way(words, is_prefix, ("prompt",))
    elif kind == "name":
        yield _Way(tuple(_NAME + one for one in words), is_prefix)
    elif kind in ("model", "lora"):
        yield _Way(((_MODEL if kind == "model" else _LORA) + name,), True)
    else:
        yield _Way((facet(kind, words[0]),))


def _fts5(wanted: Iterable[Iterable[_Way]], unwanted: Sequence[_Way]) -> str:
    """https://www.sqlite.org/fts5.html#full_text_query_syntax; each word stands in quotes."""

    def one_of(ways: Iterable[_Way]) -> str:
        parts = (
            f'{{{" ".join(columns or ["facets"])}}} : "{" ".join(words)}"{" *" * is_prefix}'
            for words, is_prefix, columns in ways
        )
        return f"({' OR '.join(parts)})"

    found = f"({' AND '.join(map(one_of, wanted))})"
    return f"{found} NOT {one_of(unwanted)}" if unwanted else found


def _tsquery(wanted: Iterable[Iterable[_Way]], unwanted: Sequence[_Way]) -> str:
    """https://www.postgresql.org/docs/17/datatype-textsearch.html; each word stands in quotes."""

    def phrase(way: _Way) -> str:
        # A class is not in the index of PostgreSQL: each row that has the word is looked at.
        classes = "".join(_CLASSES[name] for name in way.columns if way.columns != _COLUMNS)
        ends = [":" + classes] * (len(way.words) - 1) + [":" + "*" * way.is_prefix + classes]
        mark = "" if way.columns else "="
        lexemes = zip(way.words, ends, strict=True)
        return " <-> ".join(f"'{mark}{word}'{end.rstrip(':')}" for word, end in lexemes)

    def one_of(ways: Iterable[_Way]) -> str:
        return f"({' | '.join(f'({phrase(way)})' for way in ways)})"

    found = " & ".join(map(one_of, wanted))
    return f"{found} & !{one_of(unwanted)}" if unwanted else found


def tsvector(texts: Mapping[str, str]) -> str:
    """Return the words of an image as PostgreSQL's full text has them."""
    lexemes: list[str] = []
    position = 1
    for name in _COLUMNS:
        for word in texts[name].split():
            at = min(position, _MAX_POSITION)
            lexemes.append(f"'{word}':{at}{_CLASSES[name]}")
            position += 1
        # No phrase begins in one column and ends in another.
        position += _GAP
    for position, one in enumerate(texts["facets"].split(), 1):
        follows = one[0] in (_NAME, _LIBRARY)
        lexemes.append(f"'={one}'" + f":{min(position, _MAX_POSITION)}" * follows)
    return " ".join(lexemes)
