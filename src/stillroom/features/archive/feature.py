"""Archive feature: ZIP downloads of many images."""

from collections.abc import Iterable

from stillroom.features.archive.operation import Archives
from stillroom.store.api.images import ImageOperations
from stillroom.store.feature import Feature


class ArchiveFeature(Feature):
    """Downloads of many images as one ZIP file."""

    def routes(self, images: ImageOperations) -> Iterable[tuple[str, object]]:
        """Return the archive operations with their URL prefix."""
        return [("/storage/archive", Archives(images.storage, images.authorize))]
