"""Comparison of stored images with the hashes and versions recorded in the media library."""

import asyncio
import contextlib
import hashlib
from collections.abc import Awaitable, Callable

from stillroom.errors import ImageNotFound
from stillroom.features.library.resource import MediaResource
from stillroom.paths import StorageKey
from stillroom.store.port import ImageStorage
from stillroom.store.values import OpenedImage, StoredImage


async def has_its_bytes(storage: ImageStorage, resource: MediaResource) -> bool:
    """Return whether the storage still contains a resource's file, unchanged."""
    try:
        image = await storage.stat(resource.storage_key)
    except ImageNotFound:
        return False
    return is_intact(image, resource)


def is_intact(image: StoredImage, resource: MediaResource) -> bool:
    """Return whether the image at a resource's key has the recorded content."""
    if resource.storage_key.is_media and image.sha256 is None:
        return image.size == resource.file_size
    return is_recorded(image, resource)


def is_recorded(image: StoredImage, resource: MediaResource) -> bool:
    """Return whether an image is the recorded version. Clients may have overwritten the image."""
    if image.sha256 is None:
        return image.save_id == resource.save_id
    return image.sha256 == resource.content_hash


async def hash_of(storage: ImageStorage, key: StorageKey) -> bytes:
    """Return an image's stored SHA-256, or compute the hash from the bytes if none is stored."""
    with contextlib.closing(await storage.open(key)) as opened:
        return opened.image.sha256 or await hash_opened(opened)


async def hash_opened(
    opened: OpenedImage, before_chunk: Callable[[int], Awaitable[None]] | None = None
) -> bytes:
    """Compute an open image's SHA-256. Before each chunk, await `before_chunk` with its size."""
    digest = hashlib.sha256()
    async for chunk in opened.chunks(0, opened.image.size):
        if before_chunk is not None:
            await before_chunk(len(chunk))
        await asyncio.to_thread(digest.update, chunk)
    return digest.digest()
