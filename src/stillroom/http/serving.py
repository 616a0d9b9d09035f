"""How a stored image is answered: status, headers, and which of its bytes.

RFC 9110, sections 13 (conditions), 14 (ranges) and 8.8 (validators).
"""

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from stillroom.errors import PreconditionFailed
from stillroom.http.fields import (
    Fields,
    announced_sha256,
    as_repr_digest,
    entity_tags,
    format_http_date,
    parse_http_date,
)
from stillroom.http.problems import ERROR_FIELD
from stillroom.storage.content_type import INLINE, VIDEO
from stillroom.storage.values import ANY, Condition, RemoteImage, StoredImage

PRIVATE_CACHE: Final = "private, max-age=0, must-revalidate"
"""For images behind a token: keep them, but ask each time."""

PUBLIC_CACHE: Final = "public, max-age=0, must-revalidate"
"""For public images: shared caches may keep them, too, and revalidate each time."""

IMMUTABLE_CACHE: Final = "private, max-age=31536000, immutable"
"""For the media library's: behind a token too, but the same for good (RFC 8246); a year."""

_SAFE: Final = (
    ("x-content-type-options", "nosniff"),
    ("content-security-policy", "default-src 'none'; sandbox"),
)
"""Stored bytes come from strangers: nothing in them may run in our origin."""

_SAFE_VIDEO: Final = (
    _SAFE[0],
    ("content-security-policy", "default-src 'none'; media-src 'self'; sandbox allow-same-origin"),
)
"""The same, but the document that a browser makes around a video may load it once more: else a
video that is opened by its URL would not play. No script may run in it either."""

_CONDITIONS: Final = frozenset(
    ("if-match", "if-none-match", "if-modified-since", "if-unmodified-since")
)

_RANGE: Final = re.compile(r"bytes=\s*(?:(\d+)-(\d*)|-(\d+))\s*", re.IGNORECASE | re.ASCII)
_MAX_DIGITS: Final = 19  # of 2**63; a longer number is no position in any file


@dataclass(frozen=True, slots=True)
class ImageAnswer:
    """The head of an answer, and the slice of the image that is its body (HEAD: none sent)."""

    status: int
    headers: list[tuple[str, str]]
    start: int = 0
    length: int = 0


def write_condition(fields: Fields) -> Condition:
    """What a request that changes an image demands of the stored one.

    Raises:
        PreconditionFailed: an If-None-Match that cannot be read; a guard that is not
            understood must not be taken for none.
    """
    if_none_match = entity_tags(fields.get("if-none-match"), weak=True)
    if if_none_match == frozenset():
        raise PreconditionFailed("If-None-Match is neither `*` nor a list of ETags in quotes")
    return Condition(
        if_match=entity_tags(fields.get("if-match"), weak=False), if_none_match=if_none_match
    )


@contextlib.contextmanager
def explained(condition: Condition) -> Iterator[None]:
    """Around a change: a `condition` that does not hold is refused by its name.

    Raises:
        PreconditionFailed: with a message for the client, whatever the storage said.
    """
    try:
        yield
    except PreconditionFailed as error:
        raise PreconditionFailed(_failure(condition)) from error


def _failure(condition: Condition) -> str:
    if condition.if_match is None:
        if condition.if_none_match == ANY:
            return "If-None-Match failed: an image already exists here"
        return "If-None-Match failed: the image here has this ETag"
    if condition.if_none_match is not None:
        return "If-Match or If-None-Match failed: the image is not in the required state"
    if condition.if_match == ANY:
        return "If-Match failed: no image exists here"
    return "If-Match failed: the image has changed, or does not exist"


def request_sha256(fields: Fields) -> bytes | None:
    """The `Repr-Digest` of the request, read as the image's (a documented liberty).

    Raises:
        DigestMismatch: it cannot be read.
    """
    return announced_sha256(fields.get("repr-digest"))


def answer_image(
    method: str, fields: Fields, image: StoredImage, *, cache_control: str = PRIVATE_CACHE
) -> ImageAnswer:
    """Answer GET or HEAD for an image that is there.

    Conditions come first, in the order of RFC 9110, 13.2.2; then, for GET alone, a
    single range. Several ranges, unknown units and what cannot be parsed are
    answered in full, as the RFC allows or demands.

    Raises:
        PreconditionFailed: If-Match or If-Unmodified-Since does not hold.
    """
    validators = [
        ("etag", image.etag),
        ("last-modified", format_http_date(image.modified_ns)),
        ("cache-control", cache_control),
    ]
    safe = _SAFE_VIDEO if image.content_type in VIDEO else _SAFE
    if not _must_be_sent(fields, image):
        return ImageAnswer(304, [*validators, *safe])

    headers = [
        ("content-type", image.content_type),
        ("accept-ranges", "bytes"),
        *validators,
        *safe,
    ]
    if image.sha256 is not None:
        headers.append(("repr-digest", as_repr_digest(image.sha256)))
    if image.content_type not in INLINE:
        headers.append(("content-disposition", "attachment"))

    chosen = _range(fields, image) if method == "GET" else None
    if chosen is None:
        headers.append(("content-length", str(image.size)))
        return ImageAnswer(200, headers, 0, image.size)
    start, length = chosen
    if length == 0:
        outside = [
            (ERROR_FIELD, "range_not_satisfiable"),
            ("content-range", f"bytes */{image.size}"),
            ("content-length", "0"),
        ]
        return ImageAnswer(416, [*outside, *validators, *safe])
    headers += [
        ("content-range", f"bytes {start}-{start + length - 1}/{image.size}"),
        ("content-length", str(length)),
    ]
    return ImageAnswer(206, headers, start, length)


def answer_redirect(location: RemoteImage) -> ImageAnswer:
    """Redirect to the URL that serves the bytes. CDNs keep unmarked redirects for long."""
    return ImageAnswer(
        302,
        [
            ("location", location.url),
            ("cache-control", "private, no-store"),
            ("content-length", "0"),
        ],
    )


def answer_made_elsewhere(content_type: str) -> ImageAnswer:
    """HEAD of what a CDN makes when it is asked: its size is unknown before it is made."""
    return ImageAnswer(
        200, [("content-type", content_type), ("cache-control", "private, no-store"), *_SAFE]
    )


def is_named(fields: Fields, image: StoredImage) -> bool:
    """Whether the client says by its tag that it has this very image, so that it need not be made.

    `*` names nothing: whether there is any such image is not known before it is made.
    """
    tags = entity_tags(fields.get("if-none-match"), weak=True)
    return tags is not None and tags != ANY and image.etag in tags and "if-match" not in fields


def _must_be_sent(fields: Fields, image: StoredImage) -> bool:
    """Whether the client needs the image; False means that its own copy is current."""
    if _CONDITIONS.isdisjoint(fields):
        return True
    modified = image.modified_ns // 1_000_000_000
    if_match = entity_tags(fields.get("if-match"), weak=False)
    if if_match is not None:
        if if_match != ANY and image.etag not in if_match:
            raise PreconditionFailed("If-Match failed: the image has another ETag")
    else:
        unmodified_since = parse_http_date(fields.get("if-unmodified-since"))
        if unmodified_since is not None and modified > unmodified_since:
            raise PreconditionFailed("If-Unmodified-Since failed: the image was modified later")
    if_none_match = entity_tags(fields.get("if-none-match"), weak=True)
    if if_none_match is not None:
        return if_none_match != ANY and image.etag not in if_none_match
    modified_since = parse_http_date(fields.get("if-modified-since"))
    return modified_since is None or modified > modified_since


def _range(fields: Fields, image: StoredImage) -> tuple[int, int] | None:
    """Start and length of the one range asked for; length 0: outside; None: no range."""
    value = fields.get("range")
    if value is None or not _if_range_holds(fields, image):
        return None
    found = _RANGE.fullmatch(value)
    if found is None:
        return None
    first, last, suffix = found.groups()
    if max(len(first or ""), len(last or ""), len(suffix or "")) > _MAX_DIGITS:
        first, last, suffix = _clamped(first), _clamped(last), _clamped(suffix)
    if suffix:
        length = min(int(suffix), image.size)
        return image.size - length, length
    start = int(first)
    end = int(last) if last else image.size - 1
    if last and end < start:
        return None  # not a valid range at all, so not an unsatisfiable one
    return start, max(0, min(end, image.size - 1) - start + 1)


def _clamped(digits: str | None) -> str | None:
    return "9" * _MAX_DIGITS if digits and len(digits.lstrip("0")) > _MAX_DIGITS else digits


def _if_range_holds(fields: Fields, image: StoredImage) -> bool:
    """Whether the part that the client has belongs to the image as it is now.

    A date never does: two saves within one second have the same one, so it is a
    weak validator (8.8.2.2), and a weak one must not join two parts (13.1.5).
    """
    value = fields.get("if-range")
    return value is None or value == image.etag
