"""Comparison of stored images with the hashes and saves that their resources record."""

import asyncio
import hashlib

from stillroom.errors import ImageNotFound
from stillroom.media.resource import MediaResource
from stillroom.paths import StorageKey
from stillroom.storage.port import ImageStorage
from stillroom.storage.values import OpenedImage, StoredImage


async def has_its_bytes(storage: ImageStorage, resource: MediaResource) -> bool:
    """Return whether the resource's bytes are stored under its key.

    Raises:
        BackendUnavailable: the storage failed.
    """
    try:
        image = await storage.stat(resource.storage_key)
    except ImageNotFound:
        return False
    return is_intact(image, resource)


def is_intact(image: StoredImage, resource: MediaResource) -> bool:
    """Return whether the image under a resource's key has the recorded bytes."""
    if resource.storage_key.is_media and image.sha256 is None:
        return image.size == resource.file_size
    return is_recorded(image, resource)


def is_recorded(image: StoredImage, resource: MediaResource) -> bool:
    """Return whether an image is the recorded one, under a key to which clients may save."""
    if image.sha256 is None:
        return image.save_id == resource.save_id
    return image.sha256 == resource.content_hash


async def hash_of(storage: ImageStorage, key: StorageKey) -> bytes:
    """Return the SHA-256 of an image: the stored hash, or else computed from the bytes.

    Raises:
        ImageNotFound: there is no image.
        BackendUnavailable: the storage failed.
    """
    opened = await storage.open(key)
    try:
        return opened.image.sha256 or await hash_opened(opened)
    finally:
        opened.close()


async def hash_opened(opened: OpenedImage) -> bytes:
    """Compute a SHA-256, for files copied in by hand and large uploads to a bucket."""
    digest = hashlib.sha256()
    async for chunk in opened.chunks(0, opened.image.size):
        await asyncio.to_thread(digest.update, chunk)
    return digest.digest()
