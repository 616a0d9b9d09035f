"""Whether a resource's bytes are where its row says, and are those that were recorded."""

import asyncio
import hashlib

from stillroom.errors import ImageNotFound
from stillroom.media.resource import MediaResource
from stillroom.paths import StorageKey
from stillroom.storage.port import ImageStorage
from stillroom.storage.values import OpenedImage, StoredImage


async def has_its_bytes(storage: ImageStorage, resource: MediaResource) -> bool:
    """Whether they are where the row says: a source must not go if they are not.

    Raises:
        BackendUnavailable: as its name says.
    """
    try:
        found = await storage.stat(resource.storage_key)
    except ImageNotFound:
        return False
    return is_intact(found, resource)


def is_intact(found: StoredImage, resource: MediaResource) -> bool:
    """Whether what lies under a resource's key is what was recorded of it."""
    if resource.storage_key.is_media and found.sha256 is None:
        return found.size == resource.file_size
    return is_recorded(found, resource)


def is_recorded(found: StoredImage, resource: MediaResource) -> bool:
    """Whether what lies under a key that clients may save to is what was recorded there."""
    if found.sha256 is None:
        return found.save_id == resource.save_id
    return found.sha256 == resource.content_hash


async def hash_of(storage: ImageStorage, key: StorageKey) -> bytes:
    """The SHA-256 of what lies under a key, by what was noted of it or else by reading it.

    Raises:
        ImageNotFound, BackendUnavailable: as their names say.
    """
    opened = await storage.open(key)
    try:
        return opened.image.sha256 or await hash_opened(opened)
    finally:
        opened.close()


async def hash_opened(opened: OpenedImage) -> bytes:
    """The SHA-256 of a file that was copied in by hand, or of a large upload to a bucket."""
    found = hashlib.sha256()
    async for chunk in opened.chunks(0, opened.image.size):
        await asyncio.to_thread(found.update, chunk)
    return found.digest()
