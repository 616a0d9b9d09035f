"""Assembly of all parts (storage, database, keys, thumbnails) from the settings.

Servers, embedded routers and plain processes call `assemble`. Commands open only the parts that
they need, with the `opened_…` functions. All of them raise `ConfigurationError` if the settings
are invalid or do not work together. This module does not depend on HTTP (see `router.py`).
"""

import contextlib
import functools
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

from stillroom.features.database import background
from stillroom.features.database.background import Job, Stopping
from stillroom.features.database.settings import DatabaseSettings
from stillroom.features.library.background import LibraryJobs
from stillroom.features.library.database import MediaDatabase
from stillroom.features.library.healing import Healer, Outcome
from stillroom.features.library.missing_bytes import warn_about_missing_bytes
from stillroom.features.library.resource import MediaResource, QueueMetrics
from stillroom.features.library.service import MediaResourceService
from stillroom.features.library.settings import LibrarySettings
from stillroom.features.library.sweeper import Sweeper, Swept
from stillroom.features.pictures.images import DerivedImages
from stillroom.features.pictures.settings import PictureSettings
from stillroom.features.retention.evaluator import RetentionEvaluator
from stillroom.features.retention.expiry import Expiry
from stillroom.features.retention.file import FILE_NAME, read_rules
from stillroom.features.retention.lifetimes import Lifetimes
from stillroom.features.retention.rules import Rules
from stillroom.features.retention.settings import RetentionSettings
from stillroom.features.runs.deletion import RunDeletions
from stillroom.features.runs.service import Runs
from stillroom.features.search.catching_up import CatchingUp
from stillroom.features.search.filling import IndexFilling
from stillroom.features.search.healing import IndexHealing
from stillroom.maintenance.inspection.choose import open_inspection, require_store
from stillroom.maintenance.inspection.port import Inspection
from stillroom.speed.disk.storage import FastDiskStorage
from stillroom.speed.settings import SpeedSettings
from stillroom.store.auth.choose import open_keys, signing_secrets
from stillroom.store.auth.grants import Authorize
from stillroom.store.auth.keys import KeySource
from stillroom.store.auth.signed_urls import UrlSigner
from stillroom.store.auth.tokens import TokenVerifier
from stillroom.store.auth.verified import VerifiedTokens
from stillroom.store.capabilities import CallObserver, unobserved
from stillroom.store.choose import open_storage
from stillroom.store.port import ImageStorage
from stillroom.store.settings import Settings
from stillroom.store.values import SaveRules

_SWEEPER_STOPS_WITHIN_S: Final = 5.0
"""Seconds that background jobs may continue after the last response. Deletions take milliseconds,
and may be interrupted safely."""

_INDEX_STOPS_WITHIN_S: Final = 2.0
"""Seconds for writing pending changes to the search index. A later comparison finds the rest."""

_CATCH_UP_S: Final = 5.0
"""Seconds between attempts to compare the search index with the storage after a start."""

_ROWS: Final = (
    "stillroom.features.retention.rows",
    "stillroom.features.runs.deletion_rows",
    "stillroom.features.search.indexed_rows",
    "stillroom.features.search.start_rows",
)
"""Modules that are imported before a server accepts requests, since that takes time."""

_IMAGES: Final = "/storage/images"
"""Path of images, below the prefix that they share with media resources."""


@dataclass(frozen=True, slots=True)
class Reports:
    """Callbacks for metrics. By default, they do nothing. `mark` gets the AI mark of each save."""

    call: CallObserver = unobserved
    picture: Callable[[str], None] = lambda _: None
    queue: Callable[[QueueMetrics], None] | None = None
    swept: Callable[[Swept], None] | None = None
    healed: Callable[[Outcome], None] = lambda _: None
    mark: Callable[[str | None], None] = lambda _: None


UNREPORTED: Final = Reports()


class Library:
    """Media library of one storage, with background jobs. `expiry` is None if nothing expires."""

    def __init__(
        self,
        settings: Settings,
        storage: ImageStorage,
        *,
        database: MediaDatabase,
        filling: IndexFilling,
        derived: DerivedImages,
        reports: Reports,
    ) -> None:
        grace = settings.section(LibrarySettings).deletion_grace
        rules = rules_of(settings)
        self._is_bucket = settings.storage.kind == "bucket"
        expiry = Expiry(storage, database, rules=rules, grace=grace)
        self.storage = storage
        self.database = database
        self.service = MediaResourceService(storage, database, grace=grace)
        self.healer = Healer(storage, database, derived, report=reports.healed)
        self.expiry = expiry if rules.expire_anything else None
        self.retention = RetentionEvaluator(storage, database, rules)
        self.runs = Runs(storage, database)
        self.run_deletions = RunDeletions(storage, database, grace=grace)
        self.sweeper = Sweeper(
            storage,
            database,
            still_holds=self.expiry.still_holds if self.expiry else None,
            resume=self.run_deletions.resume,
        )
        self.lifetimes = Lifetimes(storage, database)
        self.filling = filling
        self.index_healing = IndexHealing(storage, database, compares_saves=not self._is_bucket)
        self.catching_up = CatchingUp(storage, database)
        self._jobs = LibraryJobs(
            database,
            self.sweeper,
            healer=self.healer,
            report=reports.queue,
            report_swept=reports.swept,
        )

    def jobs(self) -> list[Job]:
        """Return the background jobs of a server."""
        jobs = [
            *self._jobs.all(),
            Job(lambda stopping: self.index_healing.heal(stopping.within)),
            Job(self._catch_up, max_pause_s=_CATCH_UP_S, at_once=True),
        ]
        if (expiry := self.expiry) is not None:
            jobs.append(Job(lambda stopping: expiry.mark_expired(stopping.within)))
        return jobs

    async def _catch_up(self, stopping: Stopping) -> None:
        # If another process has compared the index, that process also warns about missing files.
        healed = await self.catching_up.catch_up(stopping.within)
        if healed is not None and healed.is_whole and self._is_bucket:
            await warn_about_missing_bytes(self.storage, self.database, stopping.is_set)


@dataclass(frozen=True, slots=True)
class Parts:
    """All open parts of one process.

    Attributes:
        keys: Keys that verify tokens; None if the host application provides `authorize`.
        tokens: Cache of verified tokens, for the fast path; None if `keys` is None.
        images_url: Beginning of the public URLs of images (at the CDN, if any).
        proxy_key: Secret that authenticates a proxy which sends images itself; None if disabled.
        made_secret: Whether the token secret has just been generated.
    """

    settings: Settings
    storage: ImageStorage
    derived: DerivedImages
    authorize: Authorize
    keys: KeySource | None
    tokens: VerifiedTokens | None
    signer: UrlSigner
    library: Library
    images_url: str
    signed_images_url: str
    media_url: Callable[[MediaResource], str]
    proxy_key: bytes | None
    made_secret: bool

    @contextlib.asynccontextmanager
    async def running(self, *, again: bool = False) -> AsyncIterator[None]:
        """Context manager: fetch keys, open the database and run background jobs.

        With `again`, the parts can be used again later, also in another event loop: connections
        are closed, but a data directory remains open until the process ends.
        """
        async with (
            self.keys.keep_fresh() if self.keys else contextlib.nullcontext(),
            self.library.database.kept_open(*_ROWS),
            self.library.filling.running(
                self.storage,
                stop_within_s=_INDEX_STOPS_WITHIN_S,
                before_writing=self.library.catching_up.note_start,
            ),
            background.running(
                self.library.jobs(),
                every_s=self.settings.section(DatabaseSettings).sweep_interval_seconds,
                stop_within_s=min(_SWEEPER_STOPS_WITHIN_S, self.settings.drain_seconds),
            ),
        ):
            yield
        await self.close(again=again)

    def indexing(self, *, stop_within_s: float) -> contextlib.AbstractAsyncContextManager[None]:
        """Context manager for commands: also write the block's changes to the search index."""
        return self.library.filling.running(self.storage, stop_within_s=stop_within_s)

    async def close(self, *, again: bool = False) -> None:
        """Stop the decoders, and close database and storage. See `running` for `again`."""
        await self.derived.close()
        await self.library.database.close()
        if not again or self.settings.storage.kind == "bucket":
            await self.storage.close()


def assemble(
    settings: Settings,
    *,
    authorize: Authorize | None = None,
    images_url: str | None = None,
    reports: Reports = UNREPORTED,
) -> Parts:
    """Open all parts for serving. Decoders and the database are started later, on demand.

    `authorize` replaces the verification of tokens, but not the signing of URLs. `images_url` is
    the beginning of public and signed URLs, if it is not in the settings.
    """
    proxy_key = settings.section(SpeedSettings).proxy_key  # invalid settings open nothing
    keys, tokens = None, None
    secrets, made_secret = signing_secrets(settings.secret)
    if authorize is None:
        keys = open_keys(settings.keys)
        tokens = VerifiedTokens(verifier_of(keys, settings))
        authorize = tokens.verify
    database = MediaDatabase(settings.section(DatabaseSettings).rows)
    filling = IndexFilling(database, report_mark=reports.mark)
    storage = open_storage(
        settings.storage,
        settings.save_rules,
        observer=reports.call,
        changes=filling,
        disk=_disk_of(settings),
    )
    derived = DerivedImages(settings.section(PictureSettings).derived, report=reports.picture)
    return Parts(
        settings=settings,
        storage=storage,
        derived=derived,
        authorize=authorize,
        keys=keys,
        tokens=tokens,
        signer=UrlSigner(secrets),
        library=Library(
            settings, storage, database=database, filling=filling, derived=derived, reports=reports
        ),
        images_url=images_url or settings.images_url,
        signed_images_url=images_url or settings.api_images_url,
        media_url=_media_url_of(settings, images_url),
        proxy_key=proxy_key,
        made_secret=made_secret,
    )


def verifier_of(keys: KeySource, settings: Settings) -> TokenVerifier:
    """Return a token verifier with these keys and the configured audience and issuer."""
    return TokenVerifier(keys, audience=settings.jwt_audience, issuer=settings.jwt_issuer)


@contextlib.asynccontextmanager
async def opened_library(settings: Settings) -> AsyncIterator[Library]:
    """Context manager: open the media library of an existing store, for a command."""
    require_store(settings.storage)
    async with opened_storage(settings) as storage:
        derived = DerivedImages(settings.section(PictureSettings).derived)
        database = MediaDatabase(settings.section(DatabaseSettings).rows)
        filling = IndexFilling(database)
        library = Library(
            settings,
            storage,
            database=database,
            filling=filling,
            derived=derived,
            reports=UNREPORTED,
        )
        try:
            yield library
        finally:
            await derived.close()
            await library.database.close()


@contextlib.asynccontextmanager
async def opened_storage(
    settings: Settings, rules: SaveRules | None = None
) -> AsyncIterator[ImageStorage]:
    """Context manager: open only the storage. `rules`, if given, replaces the configured rules."""
    rules = rules or settings.save_rules
    storage = open_storage(settings.storage, rules, disk=_disk_of(settings))
    try:
        yield storage
    finally:
        await storage.close()


@contextlib.asynccontextmanager
async def opened_inspection(settings: Settings) -> AsyncIterator[Inspection]:
    """Context manager: open an existing store for inspection, for a command."""
    inspection = open_inspection(settings.storage, _names_in_data_dir(settings))
    try:
        yield inspection
    finally:
        await inspection.close()


def _disk_of(settings: Settings) -> Callable[..., ImageStorage]:
    cache_bytes = settings.section(SpeedSettings).list_cache_bytes
    return functools.partial(FastDiskStorage, list_cache_bytes=cache_bytes)


def _names_in_data_dir(settings: Settings) -> list[str]:
    files = [settings.data_dir / FILE_NAME]
    if (file := settings.section(RetentionSettings).retention_file) is not None:
        files.append(file)
    top = settings.data_dir.absolute()
    inside = (file.absolute() for file in files)
    return [file.relative_to(top).parts[0] for file in inside if top in file.parents]


def _media_url_of(settings: Settings, images_url: str | None) -> Callable[[MediaResource], str]:
    base = settings.section(LibrarySettings).media_url
    if settings.storage.public_url:
        return lambda resource: f"{base}/{quote(resource.storage_key.text, safe='/')}"
    if images_url is not None and images_url.endswith(_IMAGES):
        base = f"{images_url.removesuffix(_IMAGES)}/media-resources"
    return lambda resource: f"{base}/{resource.id}/file"


def rules_of(settings: Settings) -> Rules:
    """Read the retention rules from their file and `STILLROOM_COMPUTE_TTL`."""
    section = settings.section(RetentionSettings)
    file = section.retention_file
    return read_rules(
        file or settings.data_dir / FILE_NAME,
        is_named=file is not None,
        compute_ttl=section.compute_ttl,
    )
