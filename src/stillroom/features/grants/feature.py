"""Grants feature: uploads of large files without a token, to the server or directly to a bucket."""

from collections.abc import Iterable
from typing import Final

from stillroom.features.grants.completed import CompletedGrants
from stillroom.features.grants.operations import GrantOperations
from stillroom.features.grants.probes import UploadProbe
from stillroom.features.grants.service import Grants
from stillroom.features.grants.settings import GrantsSettings
from stillroom.store.api.images import ImageOperations
from stillroom.store.background import Job
from stillroom.store.feature import Feature, Store
from stillroom.store.uploads import SavesUploads

_PATH: Final = "/storage/upload-grants"


class GrantsFeature(Feature):
    """Upload grants."""

    def __init__(self, store: Store) -> None:
        self._settings = store.settings
        self.max_bytes = store.settings.section(GrantsSettings).max_grant_bytes
        self._grants: Grants | None = None
        self._url = store.api_url + _PATH

    def routes(self, images: ImageOperations) -> Iterable[tuple[str, object]]:
        """Return the operations for grants, or none if the server cannot sign or store uploads."""
        settings, storage = self._settings, images.storage
        if not isinstance(storage, SavesUploads) or images.signer is None:
            return ()
        bucket = storage.uploads.store
        self._grants = Grants(
            images,
            storage.uploads,
            images.signer,
            self._url,
            CompletedGrants(settings.data_dir / ".stillroom" / "grants"),
            None if bucket is None else UploadProbe(bucket),
            settings.require_image,
            self.max_bytes,
        )
        return [(_PATH, GrantOperations(self._grants))]

    def jobs(self) -> Iterable[Job]:
        """Return the periodic job that deletes abandoned uploads."""
        return [] if self._grants is None else [Job(self._grants.sweep)]
