"""How derived images are made and kept."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class DerivedConfig:
    """How pictures are made and kept.

    Attributes:
        folder: Where they are kept.
        cache_bytes: What they may take there.
        min_free_bytes: Nothing is kept that would leave less room on the disk.
        durable: Whether what is kept is synced.
        processes: Images decoded at once, each in a process.
        max_pixels: Larger images are not decoded.
        transformations_url: Cloudflare's CDN, which makes them instead; None: we do.
    """

    folder: Path
    cache_bytes: int = 1024**3
    min_free_bytes: int = 256 * 1024**2
    durable: bool = True
    processes: int = 2
    max_pixels: int = 100_000_000
    transformations_url: str | None = None
