"""Database of the media library, with access to the library's rows."""

from typing import TYPE_CHECKING, ClassVar

from stillroom.features.database.config import RowsConfig
from stillroom.features.database.database import ROW_MODULES, Database, RowsOf, rows_of

if TYPE_CHECKING:
    from stillroom.features.database.engine import RowsEngine
    from stillroom.features.library.rows.repository import MediaRepository

ROW_MODULES.add("stillroom.features.library.rows.words")


class MediaDatabase(Database):
    """Connection to the media library's database."""

    rows: "ClassVar[RowsOf[MediaRepository]]" = rows_of(
        "stillroom.features.library.rows.repository.MediaRepository"
    )

    def __init__(self, config: RowsConfig) -> None:
        super().__init__(config)
        self.on_connect.append(_index_texts)


def _index_texts(engine: "RowsEngine") -> None:
    from stillroom.features.library.rows.words import count_tags, describe, reword

    engine.hooks.tags = count_tags
    engine.hooks.indexing.append(describe)
    engine.hooks.changed.append(reword)
