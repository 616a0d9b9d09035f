"""Media library feature: resources, pending deletions and dead letters."""

from collections.abc import Callable, Iterable
from datetime import timedelta
from urllib.parse import quote

from stillroom.features.database.feature import DatabaseFeature
from stillroom.features.library.database import MediaDatabase
from stillroom.features.library.dead_letters import DeadLetterOperations
from stillroom.features.library.enrichment import Enrichment
from stillroom.features.library.healing import HEAL_EVERY_S, Healer
from stillroom.features.library.missing_bytes import warn_about_missing_bytes
from stillroom.features.library.operations import MediaOperations
from stillroom.features.library.resource import RULE, MediaResource, QueueMetrics
from stillroom.features.library.service import MediaResourceService
from stillroom.features.library.settings import LibrarySettings
from stillroom.features.library.sweeper import Sweeper, Swept
from stillroom.features.search.comparing import Healed
from stillroom.features.search.feature import SearchFeature
from stillroom.store.api.images import ImageOperations
from stillroom.store.background import Job, Stopping
from stillroom.store.feature import Feature, Store


class LibraryFeature(Feature):
    """Media library with its operations and background jobs."""

    def __init__(self, store: Store) -> None:
        store.need(DatabaseFeature).kind = MediaDatabase
        database = store.need(DatabaseFeature).database
        assert isinstance(database, MediaDatabase)  # noqa: S101  (set above)
        storage, section = store.storage, store.settings.section(LibrarySettings)
        self.storage, self.database = storage, database
        self.grace = timedelta(seconds=section.deletion_grace_seconds)
        self.service = MediaResourceService(storage, database, grace=self.grace)
        # Skip deletions by retention rules, unless the retention feature empties `leaves`.
        self.sweeper = Sweeper(storage, database, leaves=[RULE])
        derived = getattr(store.features.get("pictures"), "derived", None)
        self.healer = Healer(storage, database, derived)
        if derived is not None:
            self.service.erasing.append(derived.forget)
        self._report: Callable[[QueueMetrics], None] | None = None
        self._report_swept: Callable[[Swept], None] = lambda _: None
        if store.is_counted:
            from stillroom.features.library import metrics

            self.healer.report = metrics.count_healed
            self._report = metrics.report_queues
            self._report_swept = metrics.report_swept
        self._media_url = _media_url_of(store)
        self._is_bucket = store.settings.storage.kind == "bucket"

    def ready(self, store: Store) -> None:
        """Register a check for files missing from a bucket, which runs after the server start."""
        store.need(SearchFeature).caught_up.append(self._warn_about_missing_bytes)

    async def _warn_about_missing_bytes(self, healed: Healed, stopping: Stopping) -> None:
        # If another process has compared the index, that process also warns about missing files.
        if healed.is_whole and self._is_bucket:
            await warn_about_missing_bytes(self.storage, self.database, stopping.is_set)

    def routes(self, images: ImageOperations) -> Iterable[tuple[str, object]]:
        """Return the operations of the media library with their URL prefixes."""
        authorize = images.authorize
        media = MediaOperations(self.service, authorize, self._media_url, images.hooks.body)
        return [
            # `heal` is not a resource id, so its route must be before those of resources.
            ("/media-resources", Enrichment(self.service, self.healer, authorize)),
            ("/media-resources", media),
            ("/media-dead-letters", DeadLetterOperations(self.database, authorize)),
        ]

    def jobs(self) -> Iterable[Job]:
        """Return the background jobs: deletions, queue metrics and missing metadata."""
        return [
            Job(self._sweep),
            Job(lambda _: self._report_queue(), is_report=True),
            Job(self._heal, max_pause_s=HEAL_EVERY_S),
        ]

    async def _sweep(self, stopping: Stopping) -> None:
        swept = [Swept()]
        try:
            await self.sweeper.sweep(swept.append, is_stopping=stopping.is_set)
        finally:
            self._report_swept(swept[-1])
        await self._report_queue()

    async def _heal(self, stopping: Stopping) -> None:
        if await self.healer.heal(stopping.is_set):
            await self._report_queue()

    async def _report_queue(self) -> None:
        if self._report is not None:
            self._report(await (await self.database.rows()).queue_metrics())


def _media_url_of(store: Store) -> Callable[[MediaResource], str]:
    cdn, base = store.settings.storage.public_url, f"{store.api_url}/media-resources"
    if cdn:
        return lambda resource: f"{cdn}/{quote(resource.storage_key.text, safe='/')}"
    return lambda resource: f"{base}/{resource.id}/file"
