"""An image as an object: the properties it is saved with, and the facts read back."""

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
"""Only where no signature names a type: SeaweedFS keeps no `application/octet-stream`, and answers
what the name claims."""

MTIME_FIELD: Final = "mtime"
"""When an image that came from elsewhere was saved, in seconds since the epoch; as rclone calls it
(https://rclone.org/s3/#modification-times-and-hashes)."""

_MTIME: Final = re.compile(r"([0-9]{1,10})(?:\.([0-9]{1,9})[0-9]*)?")

_SHA256_BYTES: Final = 32
_PRINTABLE: Final = re.compile(r"[\x21-\x7e][\x20-\x7e]*")

_OPAQUE: Final = re.compile(r"[\x21\x23-\x7e]{1,1024}")
"""What may be a save id: printable ASCII without spaces and quotes."""


def properties_of(
    kind: str,
    *,
    cache_control: str,
    save_id: str,
    sha256: bytes | None,
    modified_ns: int | None = None,
) -> Properties:
    """What is stored with an object; the CDN serves it with these, out of our hands."""
    metadata = {SAVE_ID_FIELD: save_id}
    if sha256 is not None:
        metadata[SHA256_FIELD] = sha256.hex()
    if modified_ns is not None and modified_ns >= 0:
        metadata[MTIME_FIELD] = f"{modified_ns // 10**9}.{modified_ns % 10**9:09}"
    if kind == DEFAULT:
        metadata[TYPE_FIELD] = DEFAULT
    return Properties(kind, cache_control, None if kind in INLINE else "attachment", metadata)


async def look(store: ObjectStore, key: StorageKey, *, deadline: float | None) -> StoredImage:
    """Ask for the facts of an image.

    Raises:
        ImageNotFound, BackendUnavailable: as their names say.
    """
    head = await store.head(key.text, deadline=deadline)
    if head is None:
        raise ImageNotFound
    return image_of(key, head)


def image_of(key: StorageKey, head: ObjectHead) -> StoredImage:
    """The facts that an object's head gives, also of one that another tool has put there."""
    metadata = head.metadata
    save_id = metadata.get(SAVE_ID_FIELD, "")
    return StoredImage(
        key=key,
        size=head.size,
        etag=head.etag,
        modified_ns=_mtime_ns(metadata) or head.modified_s * 10**9,
        content_type=_media_type(metadata.get(TYPE_FIELD) or head.content_type),
        sha256=_sha256(metadata.get(SHA256_FIELD, "")),
        # Without an id of ours, what names a foreign save best is what it is and when it came.
        save_id=save_id if _OPAQUE.fullmatch(save_id) else f"{head.etag}-{head.modified_s}",
    )


def _media_type(text: str) -> str:
    """What other tools store may be anything, and goes into a header of ours."""
    return text if _PRINTABLE.fullmatch(text) else DEFAULT


def _mtime_ns(metadata: Mapping[str, str]) -> int | None:
    found = _MTIME.fullmatch(metadata.get(MTIME_FIELD, ""))
    return int(found[1]) * 10**9 + int((found[2] or "0").ljust(9, "0")) if found else None


def _sha256(text: str) -> bytes | None:
    try:
        digest = binascii.unhexlify(text)
    except ValueError:
        return None
    return digest if len(digest) == _SHA256_BYTES else None
