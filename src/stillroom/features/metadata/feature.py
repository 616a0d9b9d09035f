"""Feature: metadata of generated images."""

from collections.abc import Awaitable, Callable, Iterable
from datetime import datetime

from stillroom.features.metadata.operation import MetadataOperation
from stillroom.generation.reading import exceeded_reports
from stillroom.store.api.images import ImageOperations
from stillroom.store.feature import Feature, Store
from stillroom.store.values import StoredImage


class MetadataFeature(Feature):
    """Metadata of single images. Other features may set `expiration`."""

    expiration: Callable[[StoredImage], Awaitable[datetime | None]] | None = None

    def __init__(self, store: Store) -> None:
        """Count files whose metadata takes too much work."""
        if store.is_counted:
            from stillroom.features.metadata.metrics import count_exceeded

            exceeded_reports.add(count_exceeded)

    def routes(self, images: ImageOperations) -> Iterable[tuple[str, object]]:
        """Return the operation."""
        return [("/storage/metadata", MetadataOperation(images, self.expiration))]
