"""Lineage feature: origins and derivatives of images, in metadata and in searches."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from stillroom.features.database.database import RowsOf, rows_of
from stillroom.features.database.feature import DatabaseFeature
from stillroom.features.metadata.feature import MetadataFeature
from stillroom.store.feature import Feature, Store
from stillroom.store.values import StoredImage

if TYPE_CHECKING:
    from stillroom.features.database.engine import RowsEngine
    from stillroom.features.lineage.rows import LineageRows

lineage_rows: "RowsOf[LineageRows]" = rows_of("stillroom.features.lineage.rows.LineageRows")


class LineageFeature(Feature):
    """Feature that adds origins and derivatives to metadata, and extends searches by origin."""

    def __init__(self, store: Store) -> None:
        self._database = store.need(DatabaseFeature).database
        self._database.on_connect.append(expand_searches)
        store.need(MetadataFeature).lineage = self._lineage

    async def _lineage(self, image: StoredImage, folder: str) -> Mapping[str, object]:
        return await (await lineage_rows(self._database)).lineage(image, folder)


def expand_searches(engine: "RowsEngine") -> None:
    """Add a hook: a search for derivatives of a path also matches the SHA-256 of its image."""
    from stillroom.features.lineage.rows import expand

    engine.hooks.searching.append(expand)
