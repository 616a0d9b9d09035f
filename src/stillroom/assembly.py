"""Assembly of all parts (storage, database, keys, thumbnails) from the settings.

Servers, embedded routers and plain processes call `assemble`. Commands open only the parts that
they need, with the `opened_…` functions. This module does not depend on HTTP (see `router.py`).
"""

import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

from stillroom.auth.choose import open_keys, signing_secrets
from stillroom.auth.grants import Authorize
from stillroom.auth.keys import KeySource
from stillroom.auth.signed_urls import UrlSigner
from stillroom.auth.tokens import TokenVerifier
from stillroom.auth.verified import VerifiedTokens
from stillroom.derived.images import DerivedImages
from stillroom.generation.ai_mark import AiMark
from stillroom.media.background import Background
from stillroom.media.database import MediaDatabase
from stillroom.media.expiry import Expiry
from stillroom.media.healing import Healer, Outcome
from stillroom.media.index.catching_up import CatchingUp
from stillroom.media.index.filling import IndexFilling
from stillroom.media.index.healing import IndexHealing
from stillroom.media.lifetimes import Lifetimes
from stillroom.media.resource import MediaResource, QueueMetrics
from stillroom.media.retention.evaluator import RetentionEvaluator
from stillroom.media.retention.file import FILE_NAME, read_rules
from stillroom.media.retention.rules import Rules
from stillroom.media.runs.deletion import RunDeletions
from stillroom.media.runs.service import Runs
from stillroom.media.service import MediaResourceService
from stillroom.media.sweeper import Sweeper, Swept
from stillroom.settings import Settings
from stillroom.storage.capabilities import CallObserver, unobserved
from stillroom.storage.choose import open_inspection, open_storage, require_store
from stillroom.storage.inspection import Inspection
from stillroom.storage.port import ImageStorage
from stillroom.storage.values import SaveRules

_SWEEPER_STOPS_WITHIN_S: Final = 5.0
"""Seconds that background jobs may continue after the last response. Deletions take milliseconds,
and may be interrupted safely."""

_INDEX_STOPS_WITHIN_S: Final = 2.0
"""Seconds for writing pending changes to the search index. A later comparison finds the rest."""

_IMAGES: Final = "/storage/images"
"""Path of images, below the prefix that they share with media resources."""


@dataclass(frozen=True, slots=True)
class Reports:
    """Callbacks for metrics. By default, they do nothing.

    Attributes:
        call: Called for each fsync or bucket request.
        picture: Called with the outcome for each thumbnail: `kept`, `made`, `refused` or `failed`.
        queue: Called periodically with the metrics of the deletion queue.
        swept: Called with the result of each sweep (execution of due deletions).
        healed: Called with the outcome for each resource whose metadata was incomplete.
        mark: Called with the AI mark of each saved image, or None if it is unknown.
    """

    call: CallObserver = unobserved
    picture: Callable[[str], None] = lambda _: None
    queue: Callable[[QueueMetrics], None] | None = None
    swept: Callable[[Swept], None] | None = None
    healed: Callable[[Outcome], None] = lambda _: None
    mark: Callable[[AiMark | None], None] = lambda _: None


UNREPORTED: Final = Reports()


@dataclass(frozen=True, slots=True)
class Library:
    """The media library and its background jobs, for one storage.

    Attributes:
        storage: Storage of the images and of the media resources.
        database: Database of the library, opened on demand.
        service: Operations on resources, for the API and the commands.
        healer: Computes missing metadata of resources.
        sweeper: Executes due deletions.
        expiry: Schedules the deletion of expired images; None without retention rules.
        retention: Evaluates the retention rules.
        runs: Publishes runs.
        run_deletions: Deletes runs.
        lifetimes: Sets the expiration of saved images.
        filling: Writes changes in the storage to the search index.
        index_healing: Periodically compares the search index with the storage.
        catching_up: Compares the search index with the storage once after a start.
    """

    storage: ImageStorage
    database: MediaDatabase
    service: MediaResourceService
    healer: Healer
    sweeper: Sweeper
    expiry: Expiry | None
    retention: RetentionEvaluator
    runs: Runs
    run_deletions: RunDeletions
    lifetimes: Lifetimes
    filling: IndexFilling
    index_healing: IndexHealing
    catching_up: CatchingUp


@dataclass(frozen=True, slots=True)
class Parts:
    """All open parts of one process.

    Attributes:
        keys: Keys that verify tokens; None if the host application provides `authorize`.
        tokens: Cache of verified tokens, for the fast path; None if `keys` is None.
        background: Periodic jobs of a server.
        images_url: Beginning of the public URLs of images.
        signed_images_url: Beginning of the signed URLs of images.
        media_url: Function that returns the public URL of a media resource (at the CDN, if any).
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
    background: Background
    images_url: str
    signed_images_url: str
    media_url: Callable[[MediaResource], str]
    proxy_key: bytes | None
    made_secret: bool

    @contextlib.asynccontextmanager
    async def running(self, *, again: bool = False) -> AsyncIterator[None]:
        """Context manager: fetch keys, open the database and run background jobs.

        Args:
            again: Whether the parts can be used again later, also in another event loop. Then
                connections are closed, but a data directory remains open until the process ends.
        """
        async with contextlib.AsyncExitStack() as stack:
            if self.keys is not None:
                await stack.enter_async_context(self.keys.keep_fresh())
            await stack.enter_async_context(self.library.database.kept_open())
            await stack.enter_async_context(
                self.library.filling.running(
                    self.storage,
                    stop_within_s=_INDEX_STOPS_WITHIN_S,
                    before_writing=self.library.catching_up.note_start,
                )
            )
            await stack.enter_async_context(
                self.background.running(
                    every_s=self.settings.sweep_interval_seconds,
                    stop_within_s=min(_SWEEPER_STOPS_WITHIN_S, self.settings.drain_seconds),
                )
            )
            yield
        await self.close(again=again)

    def indexing(
        self, *, stop_within_s: float = _INDEX_STOPS_WITHIN_S
    ) -> contextlib.AbstractAsyncContextManager[None]:
        """Context manager for commands: write changes in the block also to the search index."""
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

    Args:
        settings: Settings of the process.
        authorize: Replaces the verification of tokens, but not the signing of URLs.
        images_url: Beginning of public and signed URLs; None: from the settings.
        reports: Callbacks for metrics.

    Raises:
        ConfigurationError: the settings are invalid or do not work together.
    """
    keys, tokens, proxy_key = None, None, settings.proxy_key
    secrets, made_secret = signing_secrets(settings.secret)
    if authorize is None:
        keys = open_keys(settings.keys)
        tokens = VerifiedTokens(verifier_of(keys, settings))
        authorize = tokens.verify
    filling = IndexFilling(MediaDatabase(settings.rows), report_mark=reports.mark)
    storage = open_storage(
        settings.storage, settings.save_rules, observer=reports.call, changes=filling
    )
    derived = DerivedImages(settings.derived, report=reports.picture)
    library = _library(settings, storage, filling, derived, reports)
    return Parts(
        settings=settings,
        storage=storage,
        derived=derived,
        authorize=authorize,
        keys=keys,
        tokens=tokens,
        signer=UrlSigner(secrets),
        library=library,
        background=_background(library, settings, reports),
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
    """Context manager: open the media library for a command.

    Raises:
        ConfigurationError: the settings are invalid, or there is no store.
    """
    require_store(settings.storage)
    async with opened_storage(settings) as storage:
        derived = DerivedImages(settings.derived)
        filling = IndexFilling(MediaDatabase(settings.rows))
        library = _library(settings, storage, filling, derived, UNREPORTED)
        try:
            yield library
        finally:
            await derived.close()
            await library.database.close()


@contextlib.asynccontextmanager
async def opened_storage(
    settings: Settings, rules: SaveRules | None = None
) -> AsyncIterator[ImageStorage]:
    """Context manager: open only the storage, for a command.

    `rules` replaces the rules from the settings.

    Raises:
        ConfigurationError: the settings are invalid or do not work together.
    """
    storage = open_storage(settings.storage, rules or settings.save_rules)
    try:
        yield storage
    finally:
        await storage.close()


@contextlib.asynccontextmanager
async def opened_inspection(settings: Settings) -> AsyncIterator[Inspection]:
    """Context manager: open the store for inspection, for a command.

    Raises:
        ConfigurationError: the settings are invalid, or there is no store.
    """
    inspection = open_inspection(settings.storage, _names_in_data_dir(settings))
    try:
        yield inspection
    finally:
        await inspection.close()


def _names_in_data_dir(settings: Settings) -> list[str]:
    """Return the names of the operator's files in the data directory (the retention rules)."""
    files = [settings.data_dir / FILE_NAME]
    if settings.retention_file is not None:
        files.append(settings.retention_file)
    top = settings.data_dir.absolute()
    inside = (file.absolute() for file in files)
    return [file.relative_to(top).parts[0] for file in inside if top in file.parents]


def _media_url_of(settings: Settings, images_url: str | None) -> Callable[[MediaResource], str]:
    base = settings.media_url
    if settings.storage.public_url:
        return lambda resource: f"{base}/{quote(resource.storage_key.text, safe='/')}"
    if images_url is not None and images_url.endswith(_IMAGES):
        base = f"{images_url.removesuffix(_IMAGES)}/media-resources"
    return lambda resource: f"{base}/{resource.id}/file"


def rules_of(settings: Settings) -> Rules:
    """Read the retention rules from their file and `STILLROOM_COMPUTE_TTL`.

    Raises:
        ConfigurationError: the file cannot be read, or a line is invalid.
    """
    file = settings.retention_file
    return read_rules(
        file or settings.data_dir / FILE_NAME,
        is_named=file is not None,
        compute_ttl=settings.compute_ttl,
    )


def _library(
    settings: Settings,
    storage: ImageStorage,
    filling: IndexFilling,
    derived: DerivedImages,
    reports: Reports,
) -> Library:
    database, grace = filling.database, settings.deletion_grace
    rules = rules_of(settings)
    expires = rules.expire_anything
    expiry = Expiry(storage, database, rules=rules, grace=grace) if expires else None
    run_deletions = RunDeletions(storage, database, grace=grace)
    compares_saves = settings.storage.kind == "disk"
    return Library(
        storage=storage,
        database=database,
        service=MediaResourceService(storage, database, grace=grace),
        healer=Healer(storage, database, derived, report=reports.healed),
        sweeper=Sweeper(storage, database, expiry=expiry, run_deletions=run_deletions),
        expiry=expiry,
        retention=RetentionEvaluator(storage, database, rules),
        runs=Runs(storage, database),
        run_deletions=run_deletions,
        lifetimes=Lifetimes(storage, database),
        filling=filling,
        index_healing=IndexHealing(storage, database, compares_saves=compares_saves),
        catching_up=CatchingUp(storage, database),
    )


def _background(library: Library, settings: Settings, reports: Reports) -> Background:
    return Background(
        library.database,
        library.sweeper,
        expiry=library.expiry,
        healer=library.healer,
        index_healing=library.index_healing,
        catching_up=library.catching_up,
        bucket=library.storage if settings.storage.kind == "bucket" else None,
        report=reports.queue,
        report_swept=reports.swept,
    )
