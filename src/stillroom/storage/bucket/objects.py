"""An image as an object: what its headers say when it is saved, and when it is looked at."""

import binascii
import re
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Final

from stillroom.errors import BackendUnavailable
from stillroom.paths import StorageKey
from stillroom.storage.content_type import DEFAULT, RASTER
from stillroom.storage.values import StoredImage

SHA256_FIELD: Final = "x-amz-meta-sha256"
SAVE_ID_FIELD: Final = "x-amz-meta-save-id"
TYPE_FIELD: Final = "x-amz-meta-content-type"
"""Only where no signature names a type: SeaweedFS keeps no `application/octet-stream`, and answers
what the name claims."""

MTIME_FIELD: Final = "x-amz-meta-mtime"
"""When an image that came from elsewhere was saved, in seconds since the epoch; as rclone calls it
(https://rclone.org/s3/#modification-times-and-hashes)."""

_MTIME: Final = re.compile(r"([0-9]{1,10})(?:\.([0-9]{1,9})[0-9]*)?")

_SHA256_BYTES: Final = 32
_PRINTABLE: Final = re.compile(r"[\x21-\x7e][\x20-\x7e]*")

_OPAQUE: Final = re.compile(r"[\x21\x23-\x7e]{1,1024}")
"""What is between an ETag's quotes (RFC 9110, 8.8.3), but for bytes outside of ASCII."""


def headers_of(
    kind: str,
    *,
    cache_control: str,
    save_id: str,
    sha256: bytes | None,
    modified_ns: int | None = None,
) -> dict[str, str]:
    """What is stored with an object; the CDN serves it with these, out of our hands."""
    headers = {
        "content-type": kind,
        "cache-control": cache_control,
        SAVE_ID_FIELD: save_id,
    }
    if sha256 is not None:
        headers[SHA256_FIELD] = sha256.hex()
    if modified_ns is not None and modified_ns >= 0:
        headers[MTIME_FIELD] = f"{modified_ns // 10**9}.{modified_ns % 10**9:09}"
    if kind == DEFAULT:
        headers[TYPE_FIELD] = DEFAULT
    if kind not in RASTER:
        headers["content-disposition"] = "attachment"
    return headers


def image_of(key: StorageKey, headers: Mapping[str, str]) -> StoredImage:
    """The facts that HEAD gives of an object, also of one that another tool has put there.

    Raises:
        BackendUnavailable: they are not those of an object.
    """
    etag = etag_of(headers)
    try:
        size = int(headers.get("content-length", ""))
        modified_s = int(parsedate_to_datetime(headers.get("last-modified", "")).timestamp())
    except (ValueError, OverflowError) as error:
        raise BackendUnavailable("the bucket described an image in no way we know") from error
    save_id = headers.get(SAVE_ID_FIELD, "")
    return StoredImage(
        key=key,
        size=size,
        etag=etag,
        modified_ns=_mtime_ns(headers) or modified_s * 10**9,
        content_type=_media_type(headers.get(TYPE_FIELD) or headers.get("content-type", "")),
        sha256=_sha256(headers.get(SHA256_FIELD, "")),
        # Without an id of ours, what names a foreign save best is what it is and when it came.
        save_id=save_id if _OPAQUE.fullmatch(save_id) else f"{etag}-{modified_s}",
    )


def etag_of(headers: Mapping[str, str]) -> str:
    """The strong ETag of an object, with its quotes.

    A proxy that compresses marks it weak on its way, and some servers leave the quotes out.

    Raises:
        BackendUnavailable: there is none.
    """
    return strong_etag(headers.get("etag"))


def strong_etag(text: str | None) -> str:
    """The same, from wherever an answer has it.

    It goes into headers of ours, and back to the bucket as a condition.
    """
    bare = (text or "").removeprefix("W/").strip('"')
    if not _OPAQUE.fullmatch(bare):
        what = "with an ETag that is none" if bare else "without an ETag"
        raise BackendUnavailable(f"the bucket answered {what}: the outcome is unknown")
    return f'"{bare}"'


def _media_type(text: str) -> str:
    """What other tools store may be anything, and goes into a header of ours."""
    return text if _PRINTABLE.fullmatch(text) else DEFAULT


def _mtime_ns(headers: Mapping[str, str]) -> int | None:
    found = _MTIME.fullmatch(headers.get(MTIME_FIELD, ""))
    return int(found[1]) * 10**9 + int((found[2] or "0").ljust(9, "0")) if found else None


def _sha256(text: str) -> bytes | None:
    try:
        digest = binascii.unhexlify(text)
    except ValueError:
        return None
    return digest if len(digest) == _SHA256_BYTES else None
