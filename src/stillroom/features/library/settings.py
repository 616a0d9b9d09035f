"""Settings of the media library."""

from datetime import timedelta

from pydantic import Field

from stillroom.store.settings import Settings


class LibrarySettings(Settings):
    """Settings of the media library."""

    deletion_grace_seconds: int = Field(default=3600, ge=0)
    """Seconds until the original of a copied image, or a deleted resource's file, is deleted."""

    @property
    def deletion_grace(self) -> timedelta:
        """Time between scheduling the deletion of an image and deleting it."""
        return timedelta(seconds=self.deletion_grace_seconds)

    @property
    def media_url(self) -> str:
        """Base URL of media resources, to which a key (CDN) or an id (this server) is appended."""
        return self._cdn_url or f"{self._api_url}/media-resources"


SECTION = LibrarySettings
