"""The words of the search index: FTS5's in SQLite, a `tsvector` in PostgreSQL.

Words come from `media/index/words.py` alone, letters and digits, so nothing of a client's text is
read as a query.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import TSQUERY

from stillroom.generation.facts import Generation
from stillroom.media.index.values import FactsQuery, IndexedImage
from stillroom.media.index.words import (
    Phrase,
    facet,
    folder_facets,
    name_facets,
    phrase_facets,
    words_of,
)
from stillroom.media.rows.tables import search_images

_COLUMNS: Final = ("prompt", "path", "model")
_CLASSES: Final = dict(zip(_COLUMNS, "ABC", strict=True))
"""PostgreSQL's weights say where a word stands."""

_GAP: Final = 2
_MAX_POSITION: Final = 16_383  # https://www.postgresql.org/docs/17/textsearch-limitations.html

full_text: Final = sa.table(
    "search_words",
    sa.column("rowid", sa.BigInteger),
    *(sa.column(name, sa.Text) for name in (*_COLUMNS, "facets")),
)
"""The virtual table of SQLite. It has a column `lora`, too, which is empty."""


def matching(
    query: FactsQuery, exact: Iterable[str] = (), *, is_sqlite: bool
) -> Sequence[sa.ColumnElement[bool]]:
    """What rows of `search_images` must fulfil to have these facts; nothing if none is asked for.

    Args:
        query: The facts.
        exact: Facets that they must have, too.
        is_sqlite: Else it is PostgreSQL. With SQLite the statement reads `full_text`, too.
    """
    terms, facets = [*_terms(query)], [*_facets(query), *exact]
    if not terms and not facets:
        return ()
    if is_sqlite:
        matches = sa.literal_column("search_words").op("MATCH")(_fts5(terms, facets))
        return search_images.c.id == full_text.c.rowid, matches
    return (search_images.c.words.op("@@")(sa.cast(_tsquery(terms, facets), TSQUERY)),)


def has_phrase(query: FactsQuery) -> bool:
    """Whether words must follow each other."""
    return any(len(phrase) > 1 for phrase, _ in _terms(query))


def texts_of(indexed: IndexedImage) -> dict[str, str]:
    """What stands in the full text for an image, by column, words parted by blanks."""
    key, facts = indexed.image.key.text, indexed.generation or Generation()
    texts = {
        "prompt": facts.prompt or "",
        "path": key.partition("/")[2],
        "model": facts.model or "",
    }
    found = {name: " ".join(words_of(text)) for name, text in texts.items()}
    exact = [*folder_facets(key), facet("type", indexed.image.content_type)]
    for name in ("tool", "sampler", "seed"):
        value = getattr(facts, name)
        if value is not None:
            exact.append(facet(name, str(value)))
    exact += name_facets("model", [texts["model"]])
    exact += name_facets("lora", [one.name for one in facts.loras or ()])
    if indexed.ai_mark is not None:
        exact.append(facet("mark", indexed.ai_mark))
    return {**found, "facets": " ".join(exact)}


Term = tuple[Phrase, tuple[str, ...]]
"""A phrase, and the columns of which one must have it."""


def _terms(query: FactsQuery) -> Iterable[Term]:
    for phrase in query.words:
        yield phrase, _COLUMNS
    for phrase in query.prompt:
        yield phrase, ("prompt",)


def _facets(query: FactsQuery) -> Iterable[str]:
    for name, value in (
        ("tool", query.tool),
        ("sampler", query.sampler),
        ("seed", query.seed),
        ("mark", query.ai_mark),
    ):
        if value is not None:
            yield facet(name, str(value))
    for name, phrase in (("model", query.model), ("lora", query.lora)):
        if phrase:
            yield from phrase_facets(name, phrase)


def _fts5(terms: Sequence[Term], facets: Sequence[str]) -> str:
    """https://www.sqlite.org/fts5.html#full_text_query_syntax; each word stands in quotes."""
    parts = [f'{{{" ".join(columns)}}} : "{" ".join(phrase)}"' for phrase, columns in terms]
    return " AND ".join([*parts, *(f'facets : "{one}"' for one in facets)])


def _tsquery(terms: Sequence[Term], facets: Sequence[str]) -> str:
    """https://www.postgresql.org/docs/17/datatype-textsearch.html; each word stands in quotes."""
    parts = []
    for phrase, columns in terms:
        # Between columns there is a gap, so that no phrase begins in one and ends in another.
        # A class is not in the index of PostgreSQL: each row that has the word is looked at.
        classes = "" if columns == _COLUMNS else ":" + "".join(_CLASSES[name] for name in columns)
        parts.append("(" + " <-> ".join(f"'{word}'{classes}" for word in phrase) + ")")
    return " & ".join([*parts, *(f"'={one}'" for one in facets)])


def tsvector(texts: Mapping[str, str]) -> str:
    """The words of an image as PostgreSQL's full text has them."""
    lexemes: list[str] = []
    position = 1
    for name in _COLUMNS:
        for word in texts[name].split():
            at = min(position, _MAX_POSITION)
            lexemes.append(f"'{word}':{at}{_CLASSES[name]}")
            position += 1
        position += _GAP
    return " ".join([*lexemes, *(f"'={one}'" for one in texts["facets"].split())])
