"""Parser for search queries: words, phrases, filters such as `model:sdxl`, and exclusions."""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

from stillroom.features.database.clock import to_nanoseconds
from stillroom.features.search.values import FactsQuery, Term
from stillroom.features.search.words import words_of
from stillroom.generation.facets import FACETS

_MAX_TERMS: Final = 32

_TERM: Final = re.compile(
    r'(-?)(?:([A-Za-z_]+):(?:"((?:[^"]|"")*)"?|([^\s"]*))|"([^"]*)"?|([^\s"]+))', re.ASCII
)
_PHRASE: Final = re.compile(r'(-?)(?:"([^"]*)"?|([^\s"]+))')
_BOUNDS: Final = ("before", "after", "size")
_FILTERS: Final = ("name", *FACETS, "tag", "type", *_BOUNDS)
# Filters that match a whole value. The other filters match words.
_EXACT: Final = ("tag", "type", *(name for name, facet in FACETS.items() if facet.is_exact))
_DAY: Final = re.compile(r"\d{4}(-\d\d(-\d\d)?)?", re.ASCII)
_SIZE: Final = re.compile(r"(<=?|>=?)(\d{1,12})(?:\.(\d))?([kmg]?)b?", re.ASCII | re.IGNORECASE)
_LARGEST: Final = 2**63 - 1  # the largest integer that both databases can compare
_UNITS: Final = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9}

Item = TypeVar("Item")


def parse_terms(text: str) -> FactsQuery:
    """Parse the text of a search query. If it is invalid, raise ValueError with a user message."""
    query, terms = FactsQuery(), list[Term]()
    for minus, name, quoted_value, value, quoted, plain in _TERM.findall(text):
        argument = unicodedata.normalize("NFC", quoted_value.replace('""', '"') or value)
        field = name.lower()
        if field and field not in _FILTERS:
            raise ValueError(
                f'There is no filter "{field}:". The filters are {", ".join(_FILTERS)}. '
                f'To search for these words, put them in quotes: "{field}:{argument}".'
            )
        if field and not argument.strip():
            raise ValueError(f'The filter "{field}:" needs a value.')
        if field in _BOUNDS:
            if minus:
                raise ValueError(
                    f'The filter "{field}:" cannot be excluded: put the minus sign only before '
                    "words and other filters."
                )
            query = narrowed(query, **_parse_bound(field, argument))
            continue
        is_open = not (quoted_value or quoted)
        terms += _terms(minus, field, argument if field else quoted or plain, is_open=is_open)
    if text.strip() and not terms and query == FactsQuery():
        raise ValueError("must contain a letter or a digit")
    return replace(query, terms=_limited(terms))


def terms_of(name: str, text: str) -> tuple[Term, ...]:
    """Parse the value of a query parameter such as `model`. If invalid, raise ValueError."""
    has_phrases = FACETS[name].matches == "words"
    parts = _PHRASE.findall(text) if has_phrases else [("", "", text)]
    terms = list[Term]()
    for minus, quoted, plain in parts:
        terms += _terms(minus, name, quoted or plain, is_open=not quoted)
    if not terms and (text.strip() or not has_phrases):
        raise ValueError("must contain a letter or a digit")
    return _limited(terms)


def _terms(minus: str, kind: str, text: str, *, is_open: bool) -> list[Term]:
    is_excluded = bool(minus)
    if kind in _EXACT:
        try:
            value = FACETS[kind].check(text) if kind in FACETS else text
        except ValueError as error:
            raise ValueError(f'The filter "{kind}:" {error}.') from None
        return [Term(kind, (value,), is_excluded=is_excluded)]
    words = _limited(words_of(text))
    # A prefix of one letter would match nearly every image.
    return [Term(kind, words, is_open and len(words[-1]) > 1, is_excluded)] if words else []


def _limited(items: Sequence[Item]) -> tuple[Item, ...]:
    if len(items) > _MAX_TERMS:
        raise ValueError(f"must have at most {_MAX_TERMS} words")
    return tuple(items)


def narrowed(query: FactsQuery, **limits: int) -> FactsQuery:
    """Return the query with additional limits on the save time and the file size.

    The keyword arguments are fields of `FactsQuery`, such as `size_from`. Wider limits are ignored.
    """
    for name, limit in limits.items():
        known = getattr(query, name)
        nearer = max if name in ("saved_from_ns", "size_from") else min
        narrower: dict[str, Any] = {name: limit if known is None else nearer(known, limit)}
        query = replace(query, **narrower)
    return query


def _parse_bound(name: str, text: str) -> dict[str, int]:
    if name == "size":
        return _parse_size(text)
    try:
        at = datetime.fromisoformat((text + "-01-01")[:10] if _DAY.fullmatch(text) else text)
        time_ns = to_nanoseconds(at if at.tzinfo else at.replace(tzinfo=UTC))
    except (ValueError, OverflowError):
        raise ValueError(
            f'The filter "{name}:" must be a day or month, such as 2026-11-24 or 2026-11.'
        ) from None
    return {"saved_from_ns" if name == "after" else "saved_before_ns": time_ns}


def _parse_size(text: str) -> dict[str, int]:
    match = _SIZE.fullmatch(text)
    if match is None:
        raise ValueError('The filter "size:" must be a limit, such as size:>2MB or size:<500kB.')
    sign, whole, tenth, unit = match.groups()
    size = (int(whole) * 10 + int(tenth or 0)) * _UNITS[unit.lower()] // 10
    name = "size_below" if sign[0] == "<" else "size_from"
    return {name: min(size + (sign in ("<=", ">")), _LARGEST)}
