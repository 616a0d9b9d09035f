"""Configuration of thumbnails ("derived images")."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class DerivedConfig:
    """Settings for making and caching thumbnails.

    Attributes:
        folder: Folder of the cache, which no other store may use.
        cache_bytes: Maximum total size of the files in the cache; 0 disables the cache.
        min_free_bytes: Free space on the disk below which nothing is cached.
        durable: True to write cached files to the disk with fsync. If False, a power failure may
            damage them.
        processes: Maximum number of decoding processes. Each decodes one image at a time.
        max_pixels: Maximum number of pixels. Larger images are not decoded.
        transformations_url: URL of Cloudflare's CDN. If set, the CDN makes the thumbnails.
    """

    folder: Path
    cache_bytes: int = 1024**3
    min_free_bytes: int = 256 * 1024**2
    durable: bool = True
    processes: int = 2
    max_pixels: int = 100_000_000
    transformations_url: str | None = None
