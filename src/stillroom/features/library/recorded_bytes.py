"""Comparison of stored files with the hashes and versions in the rows of the media library."""

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
    """Return whether the storage still contains the unchanged file of a resource."""
    with contextlib.suppress(ImageNotFound):
        return is_intact(await storage.stat(resource.storage_key), resource)
    return False


def is_intact(image: StoredImage, resource: MediaResource) -> bool:
    """Return whether the file at a resource's key has the content that was ingested.

    If a file below `media/` has no hash, only its size is compared: clients cannot overwrite it.
    """
    if resource.storage_key.is_media and image.sha256 is None:
        return image.size == resource.file_size
    return is_recorded(image, resource)


def is_recorded(image: StoredImage, resource: MediaResource) -> bool:
    """Return whether a stored file is the version that the resource's row describes."""
    if image.sha256 is None:
        return image.save_id == resource.save_id
    return image.sha256 == resource.content_hash


async def hash_of(storage: ImageStorage, key: StorageKey) -> bytes:
    """Return an image's SHA-256. Compute the hash if the storage has not stored one."""
    with contextlib.closing(await storage.open(key)) as opened:
        return opened.image.sha256 or await hash_opened(opened)


async def hash_opened(
    opened: OpenedImage, before_chunk: Callable[[int], Awaitable[None]] | None = None
) -> bytes:
    """Compute an image's SHA-256. Await `before_chunk(size)` before each chunk is hashed."""
    digest = hashlib.sha256()
    async for chunk in opened.chunks(0, opened.image.size):
        if before_chunk is not None:
            await before_chunk(len(chunk))
        await asyncio.to_thread(digest.update, chunk)
    return digest.digest()
