"""AI marks in listings of images, from the search index."""

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from stillroom.errors import BackendUnavailable
from stillroom.features.library.database import MediaDatabase
from stillroom.paths import StorageKey
from stillroom.store.values import StoredImage


@dataclass(frozen=True, slots=True)
class EntryMarks:
    """`EntryHook` that adds the AI marks of images, if the database is open."""

    database: MediaDatabase

    async def members(
        self, images: Sequence[StoredImage], deadline: float
    ) -> Mapping[StorageKey, Mapping[str, object]]:
        """Return the AI marks, or {} if the database does not respond in time."""
        rows = self.database.opened
        if rows is not None:
            with contextlib.suppress(BackendUnavailable, TimeoutError):
                async with asyncio.timeout_at(deadline):
                    marks = await rows.search.marks(images)
                return {key: {"ai_mark": mark} for key, mark in marks.items()}
        return {}
