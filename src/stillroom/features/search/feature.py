"""Search feature: index of the metadata of all images."""

import contextlib
from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, Final

from stillroom.features.database.feature import DatabaseFeature
from stillroom.features.search.catching_up import CatchingUp
from stillroom.features.search.database import count_rows
from stillroom.features.search.filling import IndexFilling
from stillroom.features.search.healing import IndexHealing
from stillroom.features.search.operation import EntryMarks, SearchOperation
from stillroom.store.api.images import ImageOperations
from stillroom.store.background import Job, Stopping
from stillroom.store.feature import Feature, Store
from stillroom.store.hooks import Hooks

if TYPE_CHECKING:
    from stillroom.features.search.comparing import Healed

_STOPS_WITHIN_S: Final = 2.0  # seconds to write pending changes; a comparison finds the rest
_CATCH_UP_S: Final = 5.0  # seconds between attempts to compare the index with the storage
_COUNT_S: Final = 60.0  # seconds between attempts to count rows that are not counted yet


class SearchFeature(Feature):
    """Search index of all images, which is updated when the storage changes.

    The functions in `caught_up` are called after the comparison that follows a server start.
    """

    def __init__(self, store: Store) -> None:
        opened = store.need(DatabaseFeature)
        self._storage, self._database = store.storage, opened.database
        self.filling = IndexFilling(self._database)
        if store.is_counted:
            from stillroom.features.search.metrics import count_saved_mark

            self.filling.report_mark = count_saved_mark
        store.changes.observer = self.filling
        compares_saves = store.settings.storage.kind != "bucket"
        self.healing = IndexHealing(self._storage, self._database, compares_saves=compares_saves)
        self._catching_up = CatchingUp(self._storage, self._database)
        self.caught_up: list[Callable[[Healed, Stopping], Awaitable[object]]] = []

    def hooks(self) -> Hooks:
        """Return the hook that adds AI marks to listings."""
        return Hooks(entries=(EntryMarks(self._database),))

    def routes(self, images: ImageOperations) -> Iterable[tuple[str, object]]:
        """Return the search operation with its URL prefix."""
        return [("/storage/search", SearchOperation(self._database, images.authorize))]

    def jobs(self) -> Iterable[Job]:
        """Return the background jobs: comparisons of storage and index, and counting."""
        return [
            Job(lambda stopping: self.healing.heal(stopping.within)),
            Job(self._catch_up, max_pause_s=_CATCH_UP_S, at_once=True),
            Job(self._count, max_pause_s=_COUNT_S, at_once=True),
        ]

    async def _count(self, stopping: Stopping) -> None:
        scans = await self._database.scans()
        await (await count_rows(self._database)).catch_up(scans, stopping.within)

    async def _catch_up(self, stopping: Stopping) -> None:
        healed = await self._catching_up.catch_up(stopping.within)
        if healed is not None:
            for caught_up in self.caught_up:
                await caught_up(healed, stopping)

    def running(self) -> contextlib.AbstractAsyncContextManager[None]:
        """Context manager: write changes to the index in the background."""
        return self.filling.running(
            self._storage,
            stop_within_s=_STOPS_WITHIN_S,
            before_writing=self._catching_up.note_start,
        )

    def indexing(self, *, stop_within_s: float) -> contextlib.AbstractAsyncContextManager[None]:
        """Context manager: index the changes that are made inside the block."""
        return self.filling.running(self._storage, stop_within_s=stop_within_s)
