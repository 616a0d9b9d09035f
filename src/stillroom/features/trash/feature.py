"""Trash feature: deletions by clients can be undone for a while."""

from collections.abc import Iterable

from stillroom.features.library.feature import LibraryFeature
from stillroom.features.runs.feature import RunsFeature
from stillroom.features.trash.operations import TrashOperations
from stillroom.features.trash.service import Trash
from stillroom.features.trash.settings import TrashSettings
from stillroom.store.api.images import ImageOperations
from stillroom.store.background import Job
from stillroom.store.feature import Feature, Store
from stillroom.store.hooks import NO_HOOKS, Hooks
from stillroom.store.uploads import SavesUploads


class TrashFeature(Feature):
    """Trash, if it is enabled. After it is disabled, the files in the trash still expire."""

    trash: Trash | None = None

    def __init__(self, store: Store) -> None:
        """Open the trash, and let deletions of runs move files to the trash."""
        retention = store.settings.section(TrashSettings).trash
        self._is_disk = store.settings.storage.kind == "disk"
        if retention is not None and isinstance(store.storage, SavesUploads):
            database = store.need(LibraryFeature).database
            self.trash = Trash(store.storage, store.storage.uploads, database, retention)
            store.need(RunsFeature).deletions.discard = self.trash.discard_of_run

    def hooks(self) -> Hooks:
        """Return the hook that moves images to the trash instead of deleting them."""
        return NO_HOOKS if self.trash is None else Hooks(trash=self.trash.delete)

    def routes(self, images: ImageOperations) -> Iterable[tuple[str, object]]:
        """Return the operations on the trash."""
        return [("/storage/trash", TrashOperations(images, self.trash))]

    def jobs(self) -> Iterable[Job]:
        """Return the job that deletes the oldest files of the trash if the disk is full."""
        if self.trash is None or not self._is_disk:
            return []
        return [Job(self.trash.free_space, max_pause_s=10)]

    def facts(self) -> Iterable[str]:
        """Return a line with the time after which deletions are final, for the server's log."""
        if self.trash is None:
            return []
        return ["trash: kept for " + str(self.trash.retention).removesuffix(", 0:00:00")]
