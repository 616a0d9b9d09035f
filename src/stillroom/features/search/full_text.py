"""Full-text search in the index: FTS5 in SQLite, `tsvector` in PostgreSQL.

All words come from `features/search/words.py`, and consist of letters and digits. The databases
therefore never parse a client's text as a query.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import TSQUERY

from stillroom.features.search.tables import search_images
from stillroom.features.search.values import FactsQuery, IndexedImage, Term
from stillroom.features.search.words import (
    Phrase,
    facet,
    folder_facets,
    joined,
    starts_of,
    words_of,
)
from stillroom.generation.facets import FACETS
from stillroom.generation.origins import meanings
from stillroom.paths import COMPUTE_PREFIX, MEDIA_PREFIX
from stillroom.wire.generation import Generation

_COLUMNS: Final = ("prompt", "path")
_CLASSES: Final = dict(zip(_COLUMNS, "AB", strict=True))  # weights in PostgreSQL
_GAP: Final = 2
_MAX_POSITION: Final = 16_383  # https://www.postgresql.org/docs/17/textsearch-limitations.html

# Maximum nanoseconds between an image's save time and its row id: some buckets round the times.
SPREAD_NS: Final = 10**7

_LATEST_NS: Final = 2**63 - 1 - SPREAD_NS

# Prefixes of index words for file names and for texts in the media library. These words have
# positions, so that clients can search for phrases. Facets (index words for exact values) are
# hexadecimal, and never begin with these letters.
_NAME, _LIBRARY = "nw"

full_text: Final = sa.table(
    "search_words",
    sa.column("rowid", sa.BigInteger),
    *(sa.column(name, sa.Text) for name in (*_COLUMNS, "facets")),
)
"""Virtual FTS5 table in SQLite. Its columns `model` and `lora` are empty."""


class _Way(NamedTuple):  # to match a term
    words: Phrase
    is_prefix: bool = False
    columns: tuple[str, ...] = ()


def matching(
    query: FactsQuery, exact: Iterable[str] = (), *, is_sqlite: bool
) -> Sequence[sa.ColumnElement[bool]]:
    """Return a query's full-text conditions on `search_images`, or none if there are no terms.

    `exact` contains additional index words for exact values (facets) that an image must have.
    """
    required = [[*_ways(term, query)] for term in query.terms if not term.is_excluded]
    required += [[_Way((word,))] for word in exact]
    excluded = [way for term in query.terms if term.is_excluded for way in _ways(term, query)]
    if excluded and not required:  # NOT needs a left operand in FTS5
        required = [[_Way((facet("folder", tree),)) for tree in (COMPUTE_PREFIX, MEDIA_PREFIX)]]
    if not required:
        return ()
    if is_sqlite:
        matches = sa.literal_column("search_words").op("MATCH")(_fts5(required, excluded))
        return (search_images.c.id == full_text.c.rowid, matches)
    matches = search_images.c.words.op("@@")(sa.cast(_tsquery(required, excluded), TSQUERY))
    return (matches,)


def bounds_of(query: FactsQuery) -> Iterator[sa.ColumnElement[bool]]:
    """Yield the SQL conditions for the limits of a query on file size and save time."""
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
    """Limit a time in nanoseconds to the range that both databases can store (1970 to 2262)."""
    return min(max(moment, 0), _LATEST_NS)


def has_phrase(query: FactsQuery) -> bool:
    """Return whether any term in the query is a phrase of several words."""
    kinds = ("", "prompt", "name")
    return any(term.kind in kinds and len(term.words) > 1 for term in query.terms)


def texts_of(indexed: IndexedImage) -> dict[str, str]:
    """Return the index words of an image, separated by spaces, by column such as `prompt`."""
    key, facts = indexed.image.key.text, indexed.metadata.generation or Generation()
    path = key.partition("/")[2]
    texts = {"prompt": words_of(facts.prompt or ""), "path": words_of(path)}
    exact = [*folder_facets(key), facet("type", indexed.image.content_type)]
    for field in FACETS.values():
        values = field.values(indexed.metadata)
        if field.matches == "name":
            exact += [field.letter + start for start in starts_of(values)]
        elif field.matches == "origin":
            named = (text for origin in values for text in meanings(origin, path))
            exact += [facet(field.name, text) for text in named]
        elif field.is_exact:
            exact += [facet(field.name, value) for value in values]
    exact += [_NAME + word for word in words_of(path.rpartition("/")[2])]
    return {name: " ".join(words) for name, words in {**texts, "facets": exact}.items()}


def library_facets(texts: Sequence[str], tags: Sequence[str]) -> str:
    """Return the index words of an image's alt text, caption and tags, separated by spaces."""
    # An empty word separates two texts, so that a phrase never matches across both.
    words = [_LIBRARY + word for text in (*texts, *tags) for word in ("", *words_of(text))]
    return " ".join([*(facet("tag", tag) for tag in tags), *words])


def _ways(term: Term, query: FactsQuery) -> Iterator[_Way]:
    # An image must match in one of these ways.
    kind, words, is_prefix, _ = term
    name = joined(words)
    if kind == "":
        yield _Way(words, is_prefix, _COLUMNS)
        if len(name) > 1:
            yield _Way((FACETS["model"].letter + name,), True)
        if query.sees_library:
            yield _Way(tuple(_LIBRARY + word for word in words), is_prefix)
    elif kind == "prompt":
        yield _Way(words, is_prefix, ("prompt",))
    elif kind == "name":
        yield _Way(tuple(_NAME + word for word in words), is_prefix)
    elif kind in FACETS and FACETS[kind].matches == "name":
        yield _Way((FACETS[kind].letter + name,), True)
    else:
        yield from (_Way((facet(kind, word),)) for word in words)


def _fts5(required: Iterable[Iterable[_Way]], excluded: Sequence[_Way]) -> str:
    # https://www.sqlite.org/fts5.html#full_text_query_syntax
    def one_of(ways: Iterable[_Way]) -> str:
        parts = (
            f'{{{" ".join(columns or ["facets"])}}} : "{" ".join(words)}"{" *" * is_prefix}'
            for words, is_prefix, columns in ways
        )
        return f"({' OR '.join(parts)})"

    found = f"({' AND '.join(map(one_of, required))})"
    return f"{found} NOT {one_of(excluded)}" if excluded else found


def _tsquery(required: Iterable[Iterable[_Way]], excluded: Sequence[_Way]) -> str:
    # https://www.postgresql.org/docs/17/datatype-textsearch.html
    def phrase(way: _Way) -> str:
        # PostgreSQL does not index weights: it checks each row that contains the word.
        classes = "".join(_CLASSES[name] for name in way.columns if way.columns != _COLUMNS)
        ends = [":" + classes] * (len(way.words) - 1) + [":" + "*" * way.is_prefix + classes]
        mark = "" if way.columns else "="
        lexemes = zip(way.words, ends, strict=True)
        return " <-> ".join(f"'{mark}{word}'{end.rstrip(':')}" for word, end in lexemes)

    def one_of(ways: Iterable[_Way]) -> str:
        return f"({' | '.join(f'({phrase(way)})' for way in ways)})"

    found = " & ".join(map(one_of, required))
    return f"{found} & !{one_of(excluded)}" if excluded else found


def tsvector(texts: Mapping[str, str]) -> str:
    """Build the `tsvector` of an image (PostgreSQL) from the result of `texts_of`."""
    lexemes: list[str] = []
    position = 1
    for name in _COLUMNS:
        for word in texts[name].split():
            at = min(position, _MAX_POSITION)
            lexemes.append(f"'{word}':{at}{_CLASSES[name]}")
            position += 1
        # Phrases must not match across columns.
        position += _GAP
    for position, word in enumerate(texts["facets"].split(), 1):
        has_position = word[0] in (_NAME, _LIBRARY)
        lexemes.append(f"'={word}'" + f":{min(position, _MAX_POSITION)}" * has_position)
    return " ".join(lexemes)
