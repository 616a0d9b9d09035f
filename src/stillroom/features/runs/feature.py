"""Runs feature: folders of images that are published and deleted together."""

from collections.abc import Awaitable, Callable, Iterable
from datetime import datetime

from stillroom.features.library.feature import LibraryFeature
from stillroom.features.runs.database import report_runs
from stillroom.features.runs.deletion import RunDeletions
from stillroom.features.runs.listing import RunListing
from stillroom.features.runs.operations import RunOperations
from stillroom.features.runs.service import Runs
from stillroom.store.api.images import ImageOperations
from stillroom.store.feature import Feature, Store


class RunsFeature(Feature):
    """Publication and deletion of runs. The retention feature sets `expiration`."""

    expiration: Callable[[str, int], Awaitable[datetime | None]] | None = None

    def __init__(self, store: Store) -> None:
        library = store.need(LibraryFeature)
        library.database.on_connect.append(report_runs)
        self.runs = Runs(store.storage, library.database)
        self.published_keys = self.runs.published_keys  # for links to archives
        self.deletions = RunDeletions(store.storage, library.database, grace=library.grace)
        library.sweeper.resume = self.deletions.resume

    def routes(self, images: ImageOperations) -> Iterable[tuple[str, object]]:
        """Return the run operations with their URL prefix."""
        listing, authorize = RunListing(images.storage), images.authorize
        operations = RunOperations(self.runs, self.deletions, listing, authorize, self.expiration)
        return [("/storage/runs", operations)]
