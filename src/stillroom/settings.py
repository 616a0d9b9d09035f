"""Settings of the core, of `speed` and of all features, read together."""

from stillroom.features.database.settings import DatabaseSettings
from stillroom.features.gallery.settings import GallerySettings
from stillroom.features.library.settings import LibrarySettings
from stillroom.features.pictures.settings import PictureSettings
from stillroom.features.retention.settings import RetentionSettings
from stillroom.speed.settings import SpeedSettings


class AllSettings(
    SpeedSettings,
    GallerySettings,
    RetentionSettings,
    LibrarySettings,
    DatabaseSettings,
    PictureSettings,
):
    """Settings of a process with all features. Without a feature, delete its class here."""
