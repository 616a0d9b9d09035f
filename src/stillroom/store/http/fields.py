"""Functions that parse and format the values of HTTP header fields."""

import base64
import binascii
import contextlib
import re
import time
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Final

from stillroom.durations import parse_duration
from stillroom.errors import DigestMismatch, InvalidParameter
from stillroom.store.values import ANY, EntityTags

Fields = Mapping[str, str]
"""Header values by lower-case name. The values of a repeated header are joined by commas."""

_ENTITY_TAG: Final = re.compile(
    r'[\s,]*(W/)?("[\x21\x23-\x7e\x80-\xff]*")\s*(?:,[\s,]*|$)', re.ASCII
)
_MEMBER: Final = re.compile(
    r"\s*([a-z*][a-z0-9_.*-]*)=:([A-Za-z0-9+/=]*):\s*(?:;[^,]*)?(?:,|$)", re.ASCII
)

_SHA256_BYTES: Final = 32
_WEEKDAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS: Final = (
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
)  # fmt: skip
# Earliest and latest time (epoch seconds) in HTTP dates and RFC 3339. A tmpfs allows later times.
_EARLIEST_S: Final = -62_135_596_800
_LATEST_S: Final = 253_402_300_799


def combined(raw: Iterable[tuple[bytes, bytes]]) -> Fields:
    """Return raw headers as a mapping. Values of a repeated header are joined by commas."""
    fields: dict[str, str] = {}
    for raw_name, raw_value in raw:
        # Strip bytes, since `str.strip` would also remove Unicode whitespace such as 0xA0.
        name, value = raw_name.decode("latin-1").lower(), raw_value.strip(b" \t").decode("latin-1")
        fields[name] = f"{fields[name]}, {value}" if name in fields else value
    return fields


def entity_tags(value: str | None, *, weak: bool) -> EntityTags | None:
    """Parse the value of an `If-Match` or `If-None-Match` header; None if the header is missing.

    Weak ETags (`W/"…"`) are skipped unless `weak` is set. Returns no ETags for an invalid value.
    """
    if value is None:
        return None
    if value.strip(" \t") == "*":
        return ANY
    tags: set[str] = set()
    at = 0
    while at < len(value):
        match = _ENTITY_TAG.match(value, at)
        if match is None:
            return frozenset()
        if weak or not match[1]:
            tags.add(match[2])
        at = match.end()
    return frozenset(tags)


def parse_http_date(value: str | None) -> int | None:
    """Convert an HTTP date to seconds since the epoch. Return None if it is missing or invalid."""
    with contextlib.suppress(ValueError, OverflowError):
        if value is not None:
            moment = parsedate_to_datetime(value)
            return int(moment.replace(tzinfo=moment.tzinfo or UTC).timestamp())
    return None


def format_http_date(nanoseconds: int) -> str:
    """Format a time (nanoseconds since the epoch) as an HTTP date, rounded down to seconds."""
    seconds = max(_EARLIEST_S, min(nanoseconds // 1_000_000_000, _LATEST_S))
    year, month, day, hour, minute, second, weekday, *_ = time.gmtime(seconds)
    # Same result as email.utils.formatdate, but three times as fast.
    return (
        f"{_WEEKDAYS[weekday]}, {day:02} {_MONTHS[month - 1]} {year:04}"
        f" {hour:02}:{minute:02}:{second:02} GMT"
    )


def as_rfc3339(nanoseconds: int) -> str:
    """Format a time (nanoseconds since the epoch) as in RFC 3339, for JSON."""
    seconds = max(_EARLIEST_S, min(nanoseconds / 1e9, _LATEST_S))
    return datetime.fromtimestamp(seconds, UTC).isoformat()


def lifetime(fields: Fields, name: str, longest: timedelta, longest_text: str) -> timedelta | None:
    """Return the duration in a header, or None if it is missing. May raise `InvalidParameter`."""
    if (value := fields.get(name)) is None:
        return None
    duration = parse_duration(value, may_lack_unit=True)
    if not duration or duration > longest:
        raise InvalidParameter(
            "must be a duration such as 90s, 15m, 12h or 7d, or a number of seconds; "
            f"{longest_text} at most",
            at=("header", name),
        )
    return duration


def announced_sha256(value: str | None) -> bytes | None:
    """Return the SHA-256 in a `Repr-Digest` header, if any (RFC 9530). May raise DigestMismatch."""
    sha256: bytes | None = None
    at, value = 0, value or ""
    while at < len(value):
        member = _MEMBER.match(value, at)
        if member is None:
            raise DigestMismatch("Repr-Digest must have the form `sha-256=:<base64>:`")
        if member[1] == "sha-256":
            sha256 = _decode_sha256(member[2])
        at = member.end()
    return sha256


def _decode_sha256(text: str) -> bytes:
    digest = b""
    with contextlib.suppress(binascii.Error):
        digest = base64.b64decode(text, validate=True)
    if len(digest) != _SHA256_BYTES:
        raise DigestMismatch("the value of sha-256 in Repr-Digest must be 32 bytes in base64")
    return digest


def as_repr_digest(sha256: bytes) -> str:
    """Format a SHA-256 as the value of a `Repr-Digest` header."""
    return f"sha-256=:{base64.b64encode(sha256).decode('ascii')}:"
