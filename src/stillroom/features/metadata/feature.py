"""Metadata feature: properties and generation parameters of single images."""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from datetime import datetime

from stillroom.features.metadata.metrics import count_exceeded
from stillroom.features.metadata.operation import MetadataOperation
from stillroom.generation.reading import exceeded_reports
from stillroom.store.api.images import ImageOperations
from stillroom.store.feature import Feature, Store
from stillroom.store.values import StoredImage


class MetadataFeature(Feature):
    """Feature that returns the metadata of single images.

    The features retention and lineage set the attributes `expiration` and `lineage`.
    """

    expiration: Callable[[StoredImage], Awaitable[datetime | None]] | None = None
    lineage: Callable[[StoredImage, str], Awaitable[Mapping[str, object]]] | None = None

    def __init__(self, store: Store) -> None:
        if store.is_counted:
            exceeded_reports.add(count_exceeded)

    def routes(self, images: ImageOperations) -> Iterable[tuple[str, object]]:
        """Return the metadata operation with its URL prefix."""
        return [("/storage/metadata", MetadataOperation(images, self.expiration, self.lineage))]
