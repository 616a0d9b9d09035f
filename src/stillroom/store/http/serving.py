"""Responses to requests for stored images: status codes, headers and ranges (RFC 9110)."""

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from stillroom.errors import PreconditionFailed
from stillroom.store.content_type import INLINE, VIDEO
from stillroom.store.http.fields import (
    Fields,
    as_repr_digest,
    entity_tags,
    format_http_date,
    parse_http_date,
)
from stillroom.store.http.problems import ERROR_FIELD
from stillroom.store.values import ANY, Condition, RemoteImage, StoredImage

# Values of `Cache-Control`, for images that require a token, public images, and media files.
PRIVATE_CACHE: Final = "private, max-age=0, must-revalidate"
PUBLIC_CACHE: Final = "public, max-age=0, must-revalidate"
IMMUTABLE_CACHE: Final = "private, max-age=31536000, immutable"  # media files never change

# Security headers, which prevent scripts in untrusted files from running. A browser that opens a
# video by URL creates a document that loads the URL again; `media-src` allows that.
_NOSNIFF: Final = ("x-content-type-options", "nosniff")
_SAFE: Final = (_NOSNIFF, ("content-security-policy", "default-src 'none'; sandbox"))
_SAFE_VIDEO: Final = (
    _NOSNIFF,
    ("content-security-policy", "default-src 'none'; media-src 'self'; sandbox allow-same-origin"),
)

_CONDITIONS: Final = frozenset(
    ("if-match", "if-none-match", "if-modified-since", "if-unmodified-since")
)

ANSWER_FIELDS: Final = (*sorted(_CONDITIONS), "if-range", "range")  # read by `answer_image`
_RANGE: Final = re.compile(r"bytes=\s*(?:(\d+)-(\d*)|-(\d+))\s*", re.IGNORECASE | re.ASCII)
_MAX_DIGITS: Final = 19  # number of digits in 2**63, which exceeds every file offset


@dataclass(frozen=True, slots=True)
class ImageAnswer:
    """Response to a request for an image, without the bytes of the body."""

    status: int
    headers: list[tuple[str, str]]
    start: int = 0  # offset of the part of the image that is the body
    length: int = 0  # length of that part


def write_condition(fields: Fields) -> Condition:
    """Parse `If-Match` and `If-None-Match` of a request that changes an image or a resource."""
    if_none_match = entity_tags(fields.get("if-none-match"), weak=True)
    if if_none_match == frozenset():  # invalid; ignoring it could replace a protected image
        raise PreconditionFailed("If-None-Match is neither `*` nor a list of ETags in quotes")
    return Condition(
        if_match=entity_tags(fields.get("if-match"), weak=False), if_none_match=if_none_match
    )


@contextlib.contextmanager
def explain_failure(condition: Condition) -> Iterator[None]:
    """Context manager that adds the failed header to the message of `PreconditionFailed`."""
    try:
        yield
    except PreconditionFailed as error:
        if condition.if_match is None and condition.if_none_match == ANY:
            message = "If-None-Match failed: an image already exists here"
        elif condition.if_match is None:
            message = "If-None-Match failed: the image here has this ETag"
        elif condition.if_none_match is not None:
            message = "If-Match or If-None-Match failed: the image is not in the required state"
        elif condition.if_match == ANY:
            message = "If-Match failed: no image exists here"
        else:
            message = "If-Match failed: the image has changed, or does not exist"
        raise PreconditionFailed(message) from error


def answer_image(
    method: str, fields: Fields, image: StoredImage, *, cache_control: str = PRIVATE_CACHE
) -> ImageAnswer:
    """Return the response to a GET or HEAD request for an existing image.

    The order of conditions is that of RFC 9110, section 13.2.2. May raise `PreconditionFailed`.
    """
    validators = [
        ("etag", image.etag),
        ("last-modified", format_http_date(image.modified_ns)),
        ("cache-control", cache_control),
    ]
    safe = _SAFE_VIDEO if image.content_type in VIDEO else _SAFE
    if not _needs_image(fields, image):
        return ImageAnswer(304, [*validators, *safe])

    headers = [("content-type", image.content_type), ("accept-ranges", "bytes")]
    headers += [*validators, *safe]
    if image.sha256 is not None:
        headers.append(("repr-digest", as_repr_digest(image.sha256)))
    if image.content_type not in INLINE:
        headers.append(("content-disposition", "attachment"))

    part = _parse_range(fields, image) if method == "GET" else None
    if part is None:
        headers.append(("content-length", str(image.size)))
        return ImageAnswer(200, headers, 0, image.size)
    start, length = part
    if length == 0:
        sizes = ("content-range", f"bytes */{image.size}"), ("content-length", "0")
        error = (ERROR_FIELD, "range_not_satisfiable")
        return ImageAnswer(416, [error, *sizes, *validators, *safe])
    headers.append(("content-range", f"bytes {start}-{start + length - 1}/{image.size}"))
    headers.append(("content-length", str(length)))
    return ImageAnswer(206, headers, start, length)


def answer_redirect(location: RemoteImage) -> ImageAnswer:
    """Return a redirect to the URL of an image. CDNs may not cache the redirect."""
    headers = [("location", location.url), ("cache-control", "private, no-store")]
    return ImageAnswer(302, [*headers, ("content-length", "0")])


def answer_cdn_head(content_type: str) -> ImageAnswer:
    """Return the response to HEAD for a thumbnail that the CDN creates on demand."""
    headers = [("content-type", content_type), ("cache-control", "private, no-store")]
    return ImageAnswer(200, [*headers, *_SAFE])


def has_current_copy(fields: Fields, image: StoredImage) -> bool:
    """Return whether `If-None-Match` lists the image's ETag (False for `*` or with `If-Match`)."""
    tags = entity_tags(fields.get("if-none-match"), weak=True)
    return tags is not None and tags != ANY and image.etag in tags and "if-match" not in fields


def _needs_image(fields: Fields, image: StoredImage) -> bool:
    """Evaluate the conditions. Return False if the client already has the current image."""
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


def _parse_range(fields: Fields, image: StoredImage) -> tuple[int, int] | None:
    """Return the start and length of the requested range; None if the whole image must be sent.

    The length is 0 outside of the image. Several, unknown and invalid ranges are ignored (RFC).
    """
    value = fields.get("range")
    # A date in If-Range never matches. Two versions saved within one second have the same date, and
    # parts of different versions must not be combined (RFC 9110, 13.1.5).
    if value is None or fields.get("if-range", image.etag) != image.etag:
        return None
    match = _RANGE.fullmatch(value)
    if match is None:
        return None
    first, last, suffix = match.groups()
    if max(len(first or ""), len(last or ""), len(suffix or "")) > _MAX_DIGITS:
        first, last, suffix = _clamp(first), _clamp(last), _clamp(suffix)
    if suffix:
        length = min(int(suffix), image.size)
        return image.size - length, length
    start = int(first)
    end = int(last) if last else image.size - 1
    if last and end < start:
        return None  # an invalid range is ignored
    return start, max(0, min(end, image.size - 1) - start + 1)


def _clamp(digits: str | None) -> str | None:
    return "9" * _MAX_DIGITS if digits and len(digits.lstrip("0")) > _MAX_DIGITS else digits
