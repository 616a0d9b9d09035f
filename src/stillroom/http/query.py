"""The query of a listing: read strictly from its raw bytes, and written for the next page."""

import re
import uuid
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final
from urllib.parse import quote, urlencode

from stillroom.errors import InvalidParameter
from stillroom.paths import ImagePrefix, decode_query_text

DEFAULT_LIMIT: Final = 100
MAX_LIMIT: Final = 10_000
"""A larger `limit` counts as this one."""

MAX_MEDIA_LIMIT: Final = 1000

_NUMBER = re.compile(r"[0-9]+", re.ASCII)
_SHA256 = re.compile(r"[0-9A-Fa-f]{64}", re.ASCII)
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII | re.IGNORECASE)
_VISIBLE = re.compile(r"[\x21-\x7e]{1,255}")
_RFC3339 = re.compile(
    r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)", re.ASCII
)
_AFTER = ("query", "start_after")


@dataclass(frozen=True, slots=True)
class ListParameters:
    """What `GET /storage/images` was asked for."""

    prefix: ImagePrefix
    start_after: str
    limit: int
    delimited: bool

    def link_to_next(self, last_entry: str) -> str:
        """The `Link` field of a page that was cut behind `last_entry` (RFC 8288)."""
        query = f"start_after={quote(last_entry, safe='')}&limit={self.limit}"
        if self.prefix.text:
            query = f"prefix={quote(self.prefix.text, safe='')}&{query}"
        if self.delimited:
            query += "&delimiter=%2F"
        return f'<?{query}>; rel="next"'


def parse_list_query(raw: bytes) -> ListParameters:
    """Read the query of a listing. Unknown parameters are left alone.

    Raises:
        InvalidPath: text that is not valid UTF-8, or a prefix that no path can have.
        InvalidParameter: a parameter given twice, or of the wrong form.
    """
    given = _given(raw, ("prefix", "limit", "start_after", "delimiter"))
    delimiter = given.get("delimiter", "")
    if delimiter not in ("", "/"):
        raise InvalidParameter("only `/` can be a delimiter", at=("query", "delimiter"))
    return ListParameters(
        prefix=ImagePrefix.parse(given.get("prefix", "")),
        start_after=given.get("start_after", ""),
        limit=_limit(given.get("limit"), MAX_LIMIT),
        delimited=delimiter == "/",
    )


@dataclass(frozen=True, slots=True)
class PageParameters:
    """What a listing by ids was asked for."""

    limit: int
    start_after: uuid.UUID | None

    def link_to_next(self, last_id: uuid.UUID) -> str:
        """The `Link` field of a page that was cut behind `last_id` (RFC 8288)."""
        return f'<?limit={self.limit}&start_after={last_id}>; rel="next"'


def parse_page_query(raw: bytes) -> PageParameters:
    """Read the query of a listing by ids. Unknown parameters are left alone.

    Raises:
        InvalidPath: text that is not valid UTF-8.
        InvalidParameter: a parameter given twice, or of the wrong form.
    """
    given = _given(raw, ("limit", "start_after"))
    start_after = given.get("start_after")
    return PageParameters(
        limit=_limit(given.get("limit"), MAX_MEDIA_LIMIT),
        start_after=None if start_after is None else resource_id(start_after, _AFTER),
    )


@dataclass(frozen=True, slots=True)
class MediaParameters:
    """What `GET /media-resources` was asked for; None where anything will do."""

    limit: int
    start_after: uuid.UUID | None
    content_hash: bytes | None
    content_type: str | None
    resource_type: str | None
    created_from: datetime | None
    created_before: datetime | None
    given: tuple[tuple[str, str], ...]

    def link_to_next(self, last_id: uuid.UUID) -> str:
        """The `Link` field of a page that was cut behind `last_id` (RFC 8288)."""
        kept = [pair for pair in self.given if pair[0] != "start_after"]
        return f'<?{urlencode([*kept, ("start_after", str(last_id))])}>; rel="next"'


def parse_media_query(raw: bytes) -> MediaParameters:
    """Read the query of the media library's listing. Unknown parameters are left alone.

    Raises:
        InvalidPath: text that is not valid UTF-8.
        InvalidParameter: a parameter given twice, or of the wrong form.
    """
    given = _given(
        raw,
        (
            "limit",
            "start_after",
            "content_hash",
            "content_type",
            "resource_type",
            "created_from",
            "created_before",
        ),
    )
    start_after = given.get("start_after")
    content_hash = given.get("content_hash")
    if content_hash is not None and not _SHA256.fullmatch(content_hash):
        raise InvalidParameter("64 hexadecimal digits", at=("query", "content_hash"))
    return MediaParameters(
        limit=_limit(given.get("limit"), MAX_MEDIA_LIMIT),
        start_after=None if start_after is None else resource_id(start_after, _AFTER),
        content_hash=None if content_hash is None else bytes.fromhex(content_hash),
        content_type=_name(given, "content_type"),
        resource_type=_name(given, "resource_type"),
        created_from=_moment(given, "created_from"),
        created_before=_moment(given, "created_before"),
        given=tuple(given.items()),
    )


def resource_id(text: str, at: tuple[str, ...]) -> uuid.UUID:
    """A resource's id in its one spelling, but for the case of its letters (RFC 9562, 4).

    Raises:
        InvalidParameter: it is none.
    """
    if not _UUID.fullmatch(text):
        raise InvalidParameter("not a UUID", at=at)
    return uuid.UUID(text)


def _name(given: dict[str, str], name: str) -> str | None:
    text = given.get(name)
    if text is not None and not _VISIBLE.fullmatch(text):
        raise InvalidParameter("visible ASCII", at=("query", name))
    return text


def _moment(given: dict[str, str], name: str) -> datetime | None:
    text = given.get(name)
    if text is None:
        return None
    try:
        if _RFC3339.fullmatch(text):
            return datetime.fromisoformat(text.upper()).astimezone(UTC)
    except (ValueError, OverflowError):
        pass
    raise InvalidParameter("a time such as 2026-11-24T18:00:00Z", at=("query", name))


def _given(raw: bytes, names: Collection[str]) -> dict[str, str]:
    """The parameters with these names, decoded strictly."""
    given: dict[str, str] = {}
    for pair in raw.split(b"&"):
        raw_name, _, raw_value = pair.partition(b"=")
        name = decode_query_text(raw_name, at=("query",))
        if name not in names:
            continue
        if name in given:
            raise InvalidParameter("given more than once", at=("query", name))
        given[name] = decode_query_text(raw_value, at=("query", name))
    return given


def _limit(text: str | None, most: int) -> int:
    if text is None:
        return DEFAULT_LIMIT
    digits = text.lstrip("0")
    if not _NUMBER.fullmatch(text) or not digits:
        raise InvalidParameter("a whole number from 1 on", at=("query", "limit"))
    return min(int(digits[:6]), most)  # six digits are more than counts
