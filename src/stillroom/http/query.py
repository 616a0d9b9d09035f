"""The query of a listing: read strictly from its raw bytes, and written for the next page."""

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

from stillroom.errors import InvalidParameter
from stillroom.paths import ImagePrefix, decode_query_text

DEFAULT_LIMIT: Final = 100
MAX_LIMIT: Final = 10_000
"""A larger `limit` counts as this one."""

_NUMBER = re.compile(r"[0-9]+", re.ASCII)


@dataclass(frozen=True, slots=True)
class ListParameters:
    """What `GET /storage/images` was asked for."""

    prefix: ImagePrefix
    start_after: str
    limit: int
    fold: bool

    def link_to_next(self, last_entry: str) -> str:
        """The `Link` field of a page that was cut behind `last_entry` (RFC 8288)."""
        query = f"start_after={quote(last_entry, safe='')}&limit={self.limit}"
        if self.prefix.text:
            query = f"prefix={quote(self.prefix.text, safe='')}&{query}"
        if self.fold:
            query += "&delimiter=%2F"
        return f'<?{query}>; rel="next"'


def parse_list_query(raw: bytes) -> ListParameters:
    """Read the query of a listing. Unknown parameters are left alone.

    Raises:
        InvalidPath: text that is not valid UTF-8, or a prefix that no path can have.
        InvalidParameter: a parameter given twice, or of the wrong form.
    """
    given: dict[str, str] = {}
    for pair in raw.split(b"&"):
        raw_name, _, raw_value = pair.partition(b"=")
        name = decode_query_text(raw_name, at=("query",))
        if name not in ("prefix", "limit", "start_after", "delimiter"):
            continue
        if name in given:
            raise InvalidParameter("given more than once", at=("query", name))
        given[name] = decode_query_text(raw_value, at=("query", name))
    delimiter = given.get("delimiter", "")
    if delimiter not in ("", "/"):
        raise InvalidParameter("only `/` can be a delimiter", at=("query", "delimiter"))
    return ListParameters(
        prefix=ImagePrefix.parse(given.get("prefix", "")),
        start_after=given.get("start_after", ""),
        limit=_limit(given.get("limit")),
        fold=delimiter == "/",
    )


def _limit(text: str | None) -> int:
    if text is None:
        return DEFAULT_LIMIT
    digits = text.lstrip("0")
    if not _NUMBER.fullmatch(text) or not digits:
        raise InvalidParameter("a whole number from 1 on", at=("query", "limit"))
    return min(int(digits[:6]), MAX_LIMIT)  # six digits are more than counts
