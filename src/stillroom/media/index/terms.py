"""Parser for search queries: words, phrases, filters such as `model:sdxl`, and exclusions."""

import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from stillroom.generation.facets import FACETS
from stillroom.media.index.values import FactsQuery, Term
from stillroom.media.index.words import words_of

MAX_TERMS: Final = 32

_TERM: Final = re.compile(
    r'(-?)(?:([A-Za-z_]+):(?:"([^"]*)"?|([^\s"]*))|"([^"]*)"?|([^\s"]+))', re.ASCII
)
_PHRASE: Final = re.compile(r'(-?)(?:"([^"]*)"?|([^\s"]+))')
_BOUNDS: Final = ("before", "after", "size")
_FILTERS: Final = ("name", *FACETS, "tag", "type", *_BOUNDS)
EXACT: Final = ("tag", "type", *(name for name, facet in FACETS.items() if facet.is_exact))
"""Names of the filters that match a whole value. The other filters match words."""

_DAY: Final = re.compile(r"\d{4}(-\d\d(-\d\d)?)?", re.ASCII)
_SIZE: Final = re.compile(r"(<=?|>=?)(\d{1,12})(?:\.(\d))?([kmg]?)b?", re.ASCII | re.IGNORECASE)
_LARGEST: Final = 2**63 - 1  # the largest integer that both databases can compare
_UNITS: Final = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9}
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def parse_terms(text: str) -> FactsQuery:
    """Parse the text of a search query.

    Raises:
        ValueError: the text is invalid. The message is written for the user.
    """
    query, terms = FactsQuery(), list[Term]()
    for minus, name, quoted_value, value, quoted, plain in _TERM.findall(text):
        field, said = name.lower(), unicodedata.normalize("NFC", quoted_value or value)
        if field and field not in _FILTERS:
            raise ValueError(
                f'There is no filter "{field}:". The filters are {", ".join(_FILTERS)}. '
                f'To search for these words, put them in quotes: "{field}:{said}".'
            )
        if field and not said.strip():
            raise ValueError(f'The filter "{field}:" needs a value.')
        if field in _BOUNDS:
            if minus:
                raise ValueError(
                    f'The filter "{field}:" cannot be excluded: put the minus sign only before '
                    "words and other filters."
                )
            query = narrowed(query, **_PARSERS[field](said))
            continue
        is_open = not (quoted_value or quoted)
        found = term(field, said if field else quoted or plain, is_open=is_open)
        terms += [] if found is None else [found._replace(is_excluded=bool(minus))]
    if text.strip() and not terms and query == FactsQuery():
        raise ValueError("must contain a letter or a digit")
    return replace(query, terms=limited(terms))


def terms_of(name: str, text: str) -> tuple[Term, ...]:
    """Parse the non-empty value of a filter on one metadata field, such as `model` (a facet).

    Raises:
        ValueError: as in `parse_terms`.
    """
    has_phrases = FACETS[name].matches == "words"
    parts = _PHRASE.findall(text) if has_phrases else [("", "", text)]
    found = [
        (minus, term(name, quoted or plain, is_open=not quoted)) for minus, quoted, plain in parts
    ]
    terms = [one._replace(is_excluded=bool(minus)) for minus, one in found if one is not None]
    if not terms and (text.strip() or not has_phrases):
        raise ValueError("must contain a letter or a digit")
    return limited(terms)


def limited(terms: Sequence[Term]) -> tuple[Term, ...]:
    """Return the terms as a tuple, after checking their number.

    Raises:
        ValueError: there are too many terms for one search.
    """
    if len(terms) > MAX_TERMS:
        raise ValueError(f"must have at most {MAX_TERMS} words")
    return tuple(terms)


def term(kind: str, text: str, *, is_open: bool = True) -> Term | None:
    """Create a search term from a filter or from plain text. Return None if it has no words.

    Args:
        kind: Name of the filter, or empty for plain text; see `Term`.
        text: Value of the filter, or plain text.
        is_open: True if the last word also matches longer words that begin with it.

    Raises:
        ValueError: the value is invalid for this filter, or the text has too many words.
    """
    if kind in EXACT:
        try:
            return Term(kind, (FACETS[kind].check(text) if kind in FACETS else text,))
        except ValueError as error:
            raise ValueError(f'The filter "{kind}:" {error}.') from None
    words = tuple(words_of(text))
    if len(words) > MAX_TERMS:
        raise ValueError(f"must have at most {MAX_TERMS} words")
    # A prefix of one letter would match nearly every image.
    return Term(kind, words, is_open and len(words[-1]) > 1) if words else None


def narrowed(query: FactsQuery, **limits: int | None) -> FactsQuery:
    """Return the query with additional limits on the save time and the file size.

    The keyword arguments are fields of `FactsQuery`, such as `size_from`. A limit that is None, or
    wider than the query's own limit, changes nothing.
    """
    for name, limit in limits.items():
        known = getattr(query, name)
        if limit is not None:
            nearer = max if name in ("saved_from_ns", "size_from") else min
            narrower: dict[str, Any] = {name: limit if known is None else nearer(known, limit)}
            query = replace(query, **narrower)
    return query


def _time_ns(name: str, text: str) -> int:
    try:
        at = datetime.fromisoformat((text + "-01-01")[:10] if _DAY.fullmatch(text) else text)
        passed = (at if at.tzinfo else at.replace(tzinfo=UTC)) - _EPOCH
    except (ValueError, OverflowError):
        raise ValueError(
            f'The filter "{name}:" must be a day or month, such as 2026-11-24 or 2026-11.'
        ) from None
    return passed // timedelta(microseconds=1) * 1000


def _size(text: str) -> dict[str, int]:
    found = _SIZE.fullmatch(text)
    if found is None:
        raise ValueError('The filter "size:" must be a limit, such as size:>2MB or size:<500KB.')
    sign, whole, tenth, unit = found.groups()
    size = (int(whole) * 10 + int(tenth or 0)) * _UNITS[unit.lower()] // 10
    name = "size_below" if sign[0] == "<" else "size_from"
    return {name: min(size + (sign in ("<=", ">")), _LARGEST)}


_PARSERS: Final[dict[str, Callable[[str], dict[str, int]]]] = {
    "before": lambda text: {"saved_before_ns": _time_ns("before", text)},
    "after": lambda text: {"saved_from_ns": _time_ns("after", text)},
    "size": _size,
}
