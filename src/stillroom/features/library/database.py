"""Database of the media library, with access to the library's rows."""

from typing import TYPE_CHECKING, ClassVar

from stillroom.features.database.database import Database

if TYPE_CHECKING:
    from stillroom.features.library.rows.repository import MediaRepository


class MediaDatabase(Database):
    """Connection to the media library's database."""

    modules: ClassVar[tuple[str, ...]] = (
        *Database.modules,
        "stillroom.features.library.rows.repository",
    )

    async def rows(self) -> "MediaRepository":
        """Return the access to the library's rows. Raises the same exceptions as `engine`."""
        from stillroom.features.library.rows.repository import MediaRepository

        return MediaRepository(await self.engine())
