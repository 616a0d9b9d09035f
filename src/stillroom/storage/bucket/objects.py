"""Conversion of images to objects and back: stored properties, and facts read from a head."""

import binascii
import re
from collections.abc import Mapping
from typing import Final

from stillroom.errors import ImageNotFound
from stillroom.paths import StorageKey
from stillroom.storage.content_type import DEFAULT, INLINE
from stillroom.storage.objectstore import ObjectHead, ObjectStore, Properties
from stillroom.storage.values import StoredImage

SHA256_FIELD: Final = "sha256"
SAVE_ID_FIELD: Final = "save-id"
TYPE_FIELD: Final = "content-type"
"""Stored only if no signature names a type: SeaweedFS drops `application/octet-stream` and responds
with the type that the name suggests."""

MTIME_FIELD: Final = "mtime"
"""Modification time of an image from another store, in seconds since the epoch, as in rclone
(https://rclone.org/s3/#modification-times-and-hashes)."""

_MTIME: Final = re.compile(r"([0-9]{1,10})(?:\.([0-9]{1,9})[0-9]*)?")

_SHA256_BYTES: Final = 32
_PRINTABLE: Final = re.compile(r"[\x21-\x7e][\x20-\x7e]*")

_OPAQUE: Final = re.compile(r"[\x21\x23-\x7e]{1,1024}")
"""Valid save id: printable ASCII without spaces and quotes."""


def properties_of(
    kind: str,
    *,
    cache_control: str,
    save_id: str,
    sha256: bytes | None,
    modified_ns: int | None = None,
) -> Properties:
    """Return the properties to store with an image. The CDN serves the object with them."""
    metadata = {SAVE_ID_FIELD: save_id}
    if sha256 is not None:
        metadata[SHA256_FIELD] = sha256.hex()
    if modified_ns is not None and modified_ns >= 0:
        metadata[MTIME_FIELD] = f"{modified_ns // 10**9}.{modified_ns % 10**9:09}"
    if kind == DEFAULT:
        metadata[TYPE_FIELD] = DEFAULT
    return Properties(kind, cache_control, None if kind in INLINE else "attachment", metadata)


async def fetch_facts(
    store: ObjectStore, key: StorageKey, *, deadline: float | None
) -> StoredImage:
    """Read the facts of an image by a HEAD request.

    Raises:
        ImageNotFound: there is no image.
        BackendUnavailable: the bucket could not be read.
    """
    head = await store.head(key.text, deadline=deadline)
    if head is None:
        raise ImageNotFound
    return image_of(key, head)


def image_of(key: StorageKey, head: ObjectHead) -> StoredImage:
    """Return the facts in an object's head, which another tool may have written."""
    metadata = head.metadata
    save_id = metadata.get(SAVE_ID_FIELD, "")
    return StoredImage(
        key=key,
        size=head.size,
        etag=head.etag,
        modified_ns=_mtime_ns(metadata) or head.modified_s * 10**9,
        content_type=_media_type(metadata.get(TYPE_FIELD) or head.content_type),
        sha256=_sha256(metadata.get(SHA256_FIELD, "")),
        # Without a save id, the content and the time identify a foreign save best.
        save_id=save_id if _OPAQUE.fullmatch(save_id) else f"{head.etag}-{head.modified_s}",
    )


def _media_type(text: str) -> str:
    """Return the type, or the default if another tool stored text unfit for a header."""
    return text if _PRINTABLE.fullmatch(text) else DEFAULT


def _mtime_ns(metadata: Mapping[str, str]) -> int | None:
    match = _MTIME.fullmatch(metadata.get(MTIME_FIELD, ""))
    return int(match[1]) * 10**9 + int((match[2] or "0").ljust(9, "0")) if match else None


def _sha256(text: str) -> bytes | None:
    try:
        digest = binascii.unhexlify(text)
    except ValueError:
        return None
    return digest if len(digest) == _SHA256_BYTES else None
