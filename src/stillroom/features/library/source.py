"""Source image of an ingest, and the resource that is created from it."""

import contextlib
from dataclasses import dataclass

from stillroom.errors import InvalidPath
from stillroom.features.database.clock import new_id, now
from stillroom.features.library.headers.probe import Probed, probe
from stillroom.features.library.recorded_bytes import hash_opened
from stillroom.features.library.resource import MediaResource
from stillroom.paths import StorageKey, path_of_key
from stillroom.store.port import ImageStorage
from stillroom.store.values import StoredImage
from stillroom.wire.thumbnails import POSTER_SUFFIX


@dataclass(frozen=True, slots=True)
class Source:
    """Image to ingest, with its hash and the properties read from its header."""

    image: StoredImage
    sha256: bytes
    probed: Probed


async def read_source(storage: ImageStorage, key: StorageKey) -> Source:
    """Open an image, and read its properties, hash and header from the same version.

    Raises `ImageNotFound`, or `UnsupportedMedia` if the file is neither a raster image nor a video.
    """
    with contextlib.closing(await storage.open(key)) as opened:
        probed = await probe(opened)
        return Source(opened.image, opened.image.sha256 or await hash_opened(opened), probed)


def poster_key(video: StorageKey) -> StorageKey | None:
    """Return the key of a video's poster image, or None if no image can have this key."""
    with contextlib.suppress(InvalidPath):
        return StorageKey.of_image(path_of_key(video.text + POSTER_SUFFIX, at=()))
    return None


def new_resource(source: Source) -> MediaResource:
    """Create a resource for a source image that is not copied: its file is the source itself."""
    probed = source.probed
    return MediaResource(
        id=new_id(),
        storage_key=source.image.key,
        save_id=source.image.save_id,
        content_hash=source.sha256,
        file_size=source.image.size,
        created_at=now(),
        source_key=source.image.key,
        **probed.properties,
    )
