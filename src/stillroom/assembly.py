"""The assembly: opens storage, rows, keys and derived images according to the settings.

Servers, embedded routers and plain processes call `assemble`; commands open only what they need,
with the `opened_…` functions. This module is independent of HTTP: `router.py` creates the routes.
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
from stillroom.media.missing_bytes import MissingBytes
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
from stillroom.storage.choose import R2Config, open_inspection, open_storage, require_store
from stillroom.storage.inspection import Inspection
from stillroom.storage.port import ImageStorage
from stillroom.storage.values import SaveRules

_SWEEPER_STOPS_WITHIN_S: Final = 5.0
"""Seconds for background work after the last response. Deletions take milliseconds, and it is safe
to interrupt them."""


_INDEX_STOPS_WITHIN_S: Final = 2.0
"""Seconds to write pending changes to the index. Those left out are found by comparing later."""

_IMAGES: Final = "/storage/images"
"""Path of images, which have a common prefix with resources."""


@dataclass(frozen=True, slots=True)
class Reports:
    """Callbacks that report the work of the parts, for metrics; by default they do nothing.

    Attributes:
        call: Each sync, or each call to the bucket.
        picture: Outcome of each derived image: `kept`, `made`, `refused` or `failed`.
        queue: Length of the queue of deletions, now and then.
        swept: Result of each sweep in a server process.
        healed: Outcome of each resource of which something was missing.
        mark: AI mark of each saved image; None if it cannot be determined.
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
    """The media library of one storage.

    Attributes:
        storage: Bytes of compute results and of resources.
        database: Rows; opened on demand.
        service: Operations on resources, for the API and the commands.
        healer: Computes missing facts of resources.
        sweeper: Carries out due deletions.
        expiry: Schedules the deletion of expired compute results; None without retention rules.
        retention: Evaluator of the retention rules.
        runs: Publishes runs.
        run_deletions: Deletes runs.
        lifetimes: Sets expirations of saved images.
        filling: Writes changes of the storage into the search index.
        index_healing: Compares the search index with the storage.
        catching_up: Does the same once after a start.
        background: Repeats all of these periodically in a server.
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
    background: Background


@dataclass(frozen=True, slots=True)
class Parts:
    """All open parts of one process that serves.

    Attributes:
        keys: Keys that verify tokens; None if `authorize` is the host application's.
        tokens: Cache of verified tokens, for the fast path; None if `keys` is.
        images_url: Beginning of the public URLs of images.
        signed_images_url: Beginning of their signed URLs.
        media_url: Returns the public URL of a resource: of its key at the CDN, else of its id.
        proxy_key: Key by which a proxy proves that it may send images itself; None if none may.
        made_secret: The secret was created just now.
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
        """Fetch keys, open the database and run the background jobs; close everything at the end.

        Args:
            again: All parts can be used again afterwards, also in another event loop: connections
                are closed, but a data directory stays open until the process ends.
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
                self.library.background.running(
                    every_s=self.settings.sweep_interval_seconds,
                    stop_within_s=min(_SWEEPER_STOPS_WITHIN_S, self.settings.drain_seconds),
                )
            )
            yield
        await self.close(again=again)

    def indexing(
        self, *, stop_within_s: float = _INDEX_STOPS_WITHIN_S
    ) -> contextlib.AbstractAsyncContextManager[None]:
        """Write changes of the storage into the search index, in a process that is no server."""
        return self.library.filling.running(self.storage, stop_within_s=stop_within_s)

    async def close(self, *, again: bool = False) -> None:
        """Stop the decoders, close the database and the storage; `again` is that of `running`."""
        await self.derived.close()
        await self.library.database.close()
        if isinstance(self.settings.storage, R2Config) or not again:
            await self.storage.close()


def assemble(
    settings: Settings,
    *,
    authorize: Authorize | None = None,
    images_url: str | None = None,
    reports: Reports = UNREPORTED,
) -> Parts:
    """Open all parts for serving. No process is started and no database opened yet.

    Args:
        settings: Settings of the process.
        authorize: Replaces the verification of tokens. URLs are signed with the secret anyway.
        images_url: Replaces the beginning of public and signed URLs from the settings.
        reports: Callbacks that report the work of the parts.

    Raises:
        ConfigurationError: the settings cannot work.
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
    return Parts(
        settings=settings,
        storage=storage,
        derived=derived,
        authorize=authorize,
        keys=keys,
        tokens=tokens,
        signer=UrlSigner(secrets),
        library=_library(settings, storage, filling, derived, reports),
        images_url=images_url or settings.images_url,
        signed_images_url=images_url or settings.api_images_url,
        media_url=_media_url_of(settings, images_url),
        proxy_key=proxy_key,
        made_secret=made_secret,
    )


def verifier_of(keys: KeySource, settings: Settings) -> TokenVerifier:
    """Return a verifier of tokens with these keys, for the configured audience and issuer."""
    return TokenVerifier(keys, audience=settings.jwt_audience, issuer=settings.jwt_issuer)


@contextlib.asynccontextmanager
async def opened_library(settings: Settings) -> AsyncIterator[Library]:
    """Open the media library for a command.

    Raises:
        ConfigurationError: the settings cannot work, or there is no store.
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
    """Open only the storage for a command; `rules` replace those of the settings.

    Raises:
        ConfigurationError: the settings cannot work.
    """
    storage = open_storage(settings.storage, rules or settings.save_rules)
    try:
        yield storage
    finally:
        await storage.close()


@contextlib.asynccontextmanager
async def opened_inspection(settings: Settings) -> AsyncIterator[Inspection]:
    """Open the store for inspection by a command.

    Raises:
        ConfigurationError: the settings cannot work, or there is no store.
    """
    inspection = open_inspection(settings.storage, _names_in_data_dir(settings))
    try:
        yield inspection
    finally:
        await inspection.close()


def _names_in_data_dir(settings: Settings) -> list[str]:
    """Return the names of operators' files in the data directory: the retention rules."""
    files = [settings.data_dir / FILE_NAME]
    if settings.retention_file is not None:
        files.append(settings.retention_file)
    top = settings.data_dir.absolute()
    inside = (file.absolute() for file in files)
    return [file.relative_to(top).parts[0] for file in inside if top in file.parents]


def _media_url_of(settings: Settings, images_url: str | None) -> Callable[[MediaResource], str]:
    base = settings.media_url
    if isinstance(settings.storage, R2Config) and settings.storage.public_url:
        return lambda resource: f"{base}/{quote(resource.storage_key.text, safe='/')}"
    if images_url is not None and images_url.endswith(_IMAGES):
        base = f"{images_url.removesuffix(_IMAGES)}/media-resources"
    return lambda resource: f"{base}/{resource.id}/file"


def rules_of(settings: Settings) -> Rules:
    """Read the retention rules: those of the file, and `STILLROOM_COMPUTE_TTL`.

    Raises:
        ConfigurationError: the file cannot be read, or one of its lines is wrong.
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
    database, grace, expiry = filling.database, settings.deletion_grace, None
    rules = rules_of(settings)
    if rules.expire_anything:
        expiry = Expiry(storage, database, rules=rules, grace=grace)
    run_deletions = RunDeletions(storage, database, grace=grace)
    is_bucket = isinstance(settings.storage, R2Config)
    index_healing = IndexHealing(storage, database, compares_saves=not is_bucket)
    catching_up = CatchingUp(storage, database)
    healer = Healer(storage, database, derived, report=reports.healed)
    sweeper = Sweeper(storage, database, expiry=expiry, run_deletions=run_deletions)
    return Library(
        storage=storage,
        database=database,
        service=MediaResourceService(storage, database, grace=grace),
        healer=healer,
        sweeper=sweeper,
        expiry=expiry,
        retention=RetentionEvaluator(storage, database, rules),
        runs=Runs(storage, database),
        run_deletions=run_deletions,
        lifetimes=Lifetimes(storage, database),
        filling=filling,
        index_healing=index_healing,
        catching_up=catching_up,
        background=Background(
            database,
            sweeper,
            expiry=expiry,
            healer=healer,
            index_healing=index_healing,
            catching_up=catching_up,
            missing_bytes=MissingBytes(storage, database) if is_bucket else None,
            report=reports.queue,
            report_swept=reports.swept,
        ),
    )
