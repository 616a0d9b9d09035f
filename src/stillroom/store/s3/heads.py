"""Conversion between the headers of S3 objects and their properties or metadata."""

import re
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Final

from stillroom.errors import BackendUnavailable
from stillroom.store.objectstore import ObjectHead, Properties

_METADATA: Final = "x-amz-meta-"
_OPAQUE: Final = re.compile(r"[\x21\x23-\x7e]{1,1024}")  # of an ETag (RFC 9110, 8.8.3), in ASCII


def headers_of(properties: Properties) -> dict[str, str]:
    """Return the headers for a request that stores an object with these properties."""
    headers = {
        "content-type": properties.content_type,
        "cache-control": properties.cache_control,
        "content-disposition": properties.content_disposition,
    }
    return {name: text for name, text in headers.items() if text is not None} | {
        f"{_METADATA}{name}": text for name, text in properties.metadata.items()
    }


def head_of(headers: Mapping[str, str]) -> ObjectHead:
    """Parse an object's metadata in a response to HEAD or GET. Raises `BackendUnavailable`."""
    etag = strong_etag(headers.get("etag"))
    try:
        size = int(headers.get("content-length", ""))
        modified_s = int(parsedate_to_datetime(headers.get("last-modified", "")).timestamp())
    except (ValueError, OverflowError) as error:
        raise BackendUnavailable(
            "the bucket sent an image whose Content-Length or Last-Modified is missing or invalid"
        ) from error
    metadata = {
        name.removeprefix(_METADATA): text
        for name, text in headers.items()
        if name.startswith(_METADATA)
    }
    kind, cache_control = (headers.get(name, "") for name in ("content-type", "cache-control"))
    return ObjectHead(etag, size, modified_s, kind, metadata, cache_control)


def strong_etag(text: str | None) -> str:
    """Return the ETag in a header as a strong ETag in quotes, or raise `BackendUnavailable`."""
    # A compressing proxy may have marked the ETag as weak, and some servers omit the quotes.
    bare = (text or "").removeprefix("W/").strip('"')
    if not _OPAQUE.fullmatch(bare):
        what = "with an invalid ETag" if bare else "without an ETag"
        raise BackendUnavailable(f"the bucket responded {what}: the outcome is unknown")
    return f'"{bare}"'
