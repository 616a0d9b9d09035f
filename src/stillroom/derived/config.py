"""Configuration of derived images."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class DerivedConfig:
    """Settings for making and caching thumbnails.

    Attributes:
        folder: Folder of the cache.
        cache_bytes: Bound on the cache.
        min_free_bytes: Nothing is added that would leave less free space on the disk.
        durable: Whether cached files are synced.
        processes: Images decoded at once, each in a process.
        max_pixels: Larger images are not decoded.
        transformations_url: Cloudflare's CDN, which makes the thumbnails if this is set.
    """

    folder: Path
    cache_bytes: int = 1024**3
    min_free_bytes: int = 256 * 1024**2
    durable: bool = True
    processes: int = 2
    max_pixels: int = 100_000_000
    transformations_url: str | None = None
