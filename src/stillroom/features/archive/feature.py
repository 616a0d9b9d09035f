"""Archive feature: ZIP downloads of many images."""

from collections.abc import Iterable

from stillroom.features.archive.operation import Archives
from stillroom.features.archive.selection import ArchiveSelection
from stillroom.features.archive.settings import ArchiveSettings
from stillroom.store.api.images import ImageOperations
from stillroom.store.feature import Feature, Store
from stillroom.store.hooks import Hooks


class ArchiveFeature(Feature):
    """Downloads of ZIP files."""

    def __init__(self, store: Store) -> None:
        max_images = store.settings.section(ArchiveSettings).max_archive_link_images
        self._selection = ArchiveSelection(store.storage, max_images)

    def ready(self, store: Store) -> None:
        """Get access to the manifests of runs, if the feature `runs` is on."""
        self._selection.run_keys = getattr(store.features.get("runs"), "published_keys", None)

    def hooks(self) -> Hooks:
        """Return the hook that checks the parameters of a ZIP file before its URL is signed."""
        return Hooks(archive=self._selection.sign)

    def routes(self, images: ImageOperations) -> Iterable[tuple[str, object]]:
        """Return the operations that send ZIP files, with their URL path."""
        archives = Archives(images.storage, images.authorize, self._selection, images.signer)
        return [("/storage/archive", archives)]
