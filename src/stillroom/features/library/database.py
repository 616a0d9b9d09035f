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

    @classmethod
    def connect(cls, config: RowsConfig) -> "RowsEngine":
        """Connect as `Database.connect` does, with hooks that index texts and tags of resources."""
        from stillroom.features.library.rows.words import describe, reword

        engine = super().connect(config)
        engine.hooks.indexing.append(describe)
        engine.hooks.changed.append(reword)
        return engine

    async def rows(self) -> "MediaRepository":
        """Return the library's `MediaRepository`. Raises the same exceptions as `engine`."""
        await self.engine()  # which imports SQLAlchemy in a thread
        from stillroom.features.library.rows.repository import MediaRepository

        return await self.part(MediaRepository)
