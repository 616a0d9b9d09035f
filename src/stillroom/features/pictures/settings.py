"""Settings of thumbnails."""

from pydantic import Field

from stillroom.errors import ConfigurationError
from stillroom.features.pictures.cache import DerivedConfig
from stillroom.store.settings import MIB, Settings


class PicturesSettings(Settings):
    """Settings of thumbnails."""

    derived_cache_bytes: int = Field(default=1024 * MIB, ge=0)
    """Bytes of disk space for cached thumbnails (docs/api.md#thumbnails); 0: no cache. If the cache
    is full, the least recently used thumbnails are deleted."""

    derived_processes: int = Field(default=2, ge=1, le=64)
    """Number of images that each server process decodes at once, each in a separate process. A
    decoding process needs 30 MiB of memory, and ends after a minute without work."""

    derived_max_pixels: int = Field(default=100_000_000, ge=1, le=1_000_000_000)
    """Maximum number of pixels of an image to decode. Larger images get 415. Each pixel needs 4 to
    8 bytes of memory in each decoding process, or 16 bytes for WebP."""

    r2_image_transformations: bool = False
    """Let Cloudflare create thumbnails: docs/r2.md#thumbnails."""

    @property
    def derived(self) -> DerivedConfig:
        """Settings for making and caching thumbnails, which are passed to `DerivedImages`."""
        transforms = self.r2_image_transformations and self._has_bucket
        if transforms and not self.r2_public_url:
            raise ConfigurationError(
                "R2_IMAGE_TRANSFORMATIONS is set, but R2_PUBLIC_URL is not: set it to a domain "
                "of the bucket at Cloudflare"
            )
        return DerivedConfig(
            folder=self.data_dir / ".stillroom" / "derived",
            cache_bytes=self.derived_cache_bytes,
            min_free_bytes=self.min_free_bytes,
            durable=self.durability == "full",
            processes=self.derived_processes,
            max_pixels=self.derived_max_pixels,
            transformations_url=self.r2_public_url if transforms else None,
        )
