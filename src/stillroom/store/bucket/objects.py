"""Images as objects in a bucket: conversion of metadata, and reading by range requests."""

import re
from collections.abc import AsyncIterator, Mapping
from typing import Final

from stillroom.errors import BackendUnavailable, ImageNotFound
from stillroom.paths import StorageKey
from stillroom.store.content_type import DEFAULT, INLINE
from stillroom.store.objectstore import ObjectHead, ObjectStore, Properties
from stillroom.store.values import StoredImage

SHA256_FIELD: Final = "sha256"
SAVE_ID_FIELD: Final = "save-id"
TYPE_FIELD: Final = "content-type"
"""Metadata entry for the content type, stored only if no type was detected, since SeaweedFS
replaces `application/octet-stream` by a type that it guesses from the name."""

MTIME_FIELD: Final = "mtime"
"""Metadata entry for the modification time of an imported image, in seconds since the epoch. It has
the format of rclone (https://rclone.org/s3/#modification-times-and-hashes)."""

_MTIME: Final = re.compile(r"([0-9]{1,10})(?:\.([0-9]{1,9})[0-9]*)?")
_SHA256: Final = re.compile(r"[0-9A-Fa-f]{64}")
_PRINTABLE: Final = re.compile(r"[\x21-\x7e][\x20-\x7e]*")  # types that are valid in a header
_OPAQUE: Final = re.compile(r"[\x21\x23-\x7e]{1,1024}")  # save ids: ASCII without spaces and quotes
_READ_BYTES: Final = 4 * 1024**2  # by one request; in memory until the caller has consumed them


class ObjectImage:
    """An opened object. All range requests require its ETag, so they read the same version."""

    def __init__(self, store: ObjectStore, image: StoredImage, start: bytes = b"") -> None:
        """Use the metadata `image` of an object. `start` has its first bytes, if they are known."""
        self._store = store
        self.image = image
        self._start = start

    async def chunks(self, start: int, length: int) -> AsyncIterator[bytes]:
        """Yield `length` bytes from offset `start` in chunks; see `OpenedImage.chunks`."""
        end = start + length
        if end <= len(self._start):
            yield self._start[start:end]
            return
        while start < end:
            last = min(end, start + _READ_BYTES) - 1
            data = await self._store.get_range(self.image.key.text, self.image.etag, start, last)
            if data is None:
                raise BackendUnavailable("the image was replaced while it was read: read it again")
            if len(data) != last - start + 1:
                raise BackendUnavailable(
                    "the bucket returned a different range of the image than requested"
                )
            yield data
            start = last + 1

    def close(self) -> None:
        """Do nothing, since no connection is open between reads."""


def properties_of(
    kind: str,
    sha256: bytes | None,
    *,
    save_id: str,
    cache_control: str,
    mtime_ns: int | None = None,
) -> Properties:
    """Return the object properties to store with an image. The CDN sends them as headers."""
    metadata = {SAVE_ID_FIELD: save_id}
    if sha256 is not None:
        metadata[SHA256_FIELD] = sha256.hex()
    if mtime_ns is not None and mtime_ns >= 0:
        metadata[MTIME_FIELD] = f"{mtime_ns // 10**9}.{mtime_ns % 10**9:09}"
    if kind == DEFAULT:
        metadata[TYPE_FIELD] = DEFAULT
    return Properties(kind, cache_control, None if kind in INLINE else "attachment", metadata)


async def fetch_facts(
    store: ObjectStore, key: StorageKey, *, deadline: float | None
) -> StoredImage:
    """Return an image's metadata (HEAD request). Raises `ImageNotFound` or `BackendUnavailable`."""
    head = await store.head(key.text, deadline=deadline)
    if head is None:
        raise ImageNotFound
    return image_of(key, head)


def image_of(key: StorageKey, head: ObjectHead) -> StoredImage:
    """Convert the metadata of an object (perhaps uploaded by another tool) to a `StoredImage`."""
    metadata = head.metadata
    save_id = metadata.get(SAVE_ID_FIELD, "")
    media_type = metadata.get(TYPE_FIELD) or head.content_type
    return StoredImage(
        key=key,
        size=head.size,
        etag=head.etag,
        modified_ns=_mtime_ns(metadata) or head.modified_s * 10**9,
        content_type=media_type if _PRINTABLE.fullmatch(media_type) else DEFAULT,
        sha256=_sha256(metadata.get(SHA256_FIELD, "")),
        # Objects that other tools uploaded have no save id: derive one from the ETag and the time.
        save_id=save_id if _OPAQUE.fullmatch(save_id) else f"{head.etag}-{head.modified_s}",
    )


def _mtime_ns(metadata: Mapping[str, str]) -> int | None:
    match = _MTIME.fullmatch(metadata.get(MTIME_FIELD, ""))
    return int(match[1]) * 10**9 + int((match[2] or "0").ljust(9, "0")) if match else None


def _sha256(text: str) -> bytes | None:
    return bytes.fromhex(text) if _SHA256.fullmatch(text) else None
