"""Settings of the media library."""

from pydantic import Field

from stillroom.store.settings import Settings


class LibrarySettings(Settings):
    """Settings of the media library."""

    deletion_grace_seconds: int = Field(default=3600, ge=0)
    """Seconds until the original of a copied image, or a deleted resource's file, is deleted."""
