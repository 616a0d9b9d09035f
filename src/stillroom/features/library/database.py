"""Database of the media library, with access to the library's rows."""

from typing import TYPE_CHECKING, ClassVar

from stillroom.features.database.config import RowsConfig
from stillroom.features.database.database import Database

if TYPE_CHECKING:
    from stillroom.features.database.engine import RowsEngine
    from stillroom.features.library.rows.repository import MediaRepository


class MediaDatabase(Database):
    """Connection to the media library's database."""

    modules: ClassVar[tuple[str, ...]] = (
        *Database.modules,
        "stillroom.features.library.rows.repository",
        "stillroom.features.library.rows.words",
    )

    def __init__(self, config: RowsConfig) -> None:
        super().__init__(config)
        self.on_connect.append(_index_texts)

    async def rows(self) -> "MediaRepository":
        """Return the library's `MediaRepository`. Raises the same exceptions as `engine`."""
        await self.engine()  # which imports SQLAlchemy in a thread
        from stillroom.features.library.rows.repository import MediaRepository

        return await self.part(MediaRepository)


def _index_texts(engine: "RowsEngine") -> None:
    """Add hooks that index texts and tags of resources."""
    from stillroom.features.library.rows.words import describe, reword

    engine.hooks.indexing.append(describe)
    engine.hooks.changed.append(reword)
