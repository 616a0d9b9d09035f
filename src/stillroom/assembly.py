"""The assembly: opens storage, rows, keys and derived images by the settings.

Servers, embedded routers and plain processes call `assemble`; commands open only what they need,
with the `opened_…` functions. Nothing here knows HTTP: `router.py` makes operations of the parts.
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
from stillroom.media.retention.ends import Ends
from stillroom.media.retention.file import FILE_NAME, read_rules
from stillroom.media.retention.rules import Rules
from stillroom.media.runs.deletion import RunDeletions
from stillroom.media.runs.service import Runs
from stillroom.media.service import MediaResourceService
from stillroom.media.sweeper import Sweeper, Swept
from stillroom.settings import Settings
from stillroom.storage.capabilities import CallObserver, unobserved
from stillroom.storage.choose import R2Config, open_inspection, open_storage, require_begun
from stillroom.storage.inspection import Inspection
from stillroom.storage.port import ImageStorage
from stillroom.storage.values import SaveRules

_SWEEPER_STOPS_WITHIN_S: Final = 5.0
"""After the answers under way. A deletion takes milliseconds, and what is abandoned is safe."""


_INDEX_STOPS_WITHIN_S: Final = 2.0
"""What is left out is found again by comparing."""

_IMAGES: Final = "/storage/images"
"""Where images are beside resources, below one prefix."""


@dataclass(frozen=True, slots=True)
class Reports:
    """What the parts tell of their work, for metrics; by default nothing.

    Attributes:
        call: Each sync, or each call to the bucket.
        picture: What became of each derived image: `kept`, `made`, `refused` or `failed`.
        queue: How long the queue of deletions is, now and then.
        swept: What each sweep beside a server did.
        healed: What became of each resource of which something was missing.
        mark: Whether an image that was saved says that AI made it; None: that cannot be told.
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
    """The media library over one storage.

    Attributes:
        storage: The bytes of compute results and of resources.
        database: The rows, opened when they are first needed.
        service: What the API and the commands do with resources.
        healer: Computes what is missing of resources.
        sweeper: Deletes what is marked and due.
        expiry: Marks compute results that have expired; None: no rule ends any.
        ends: Says what the rules end, and when.
        runs: Publishes runs.
        run_deletions: Deletes them.
        lifetimes: Gives saves an end.
        filling: Writes into the search index what the storage changes.
        index_healing: Compares the search index with the storage.
        catching_up: The same once, after a start.
        background: Does all that again and again, beside a server.
    """

    storage: ImageStorage
    database: MediaDatabase
    service: MediaResourceService
    healer: Healer
    sweeper: Sweeper
    expiry: Expiry | None
    ends: Ends
    runs: Runs
    run_deletions: RunDeletions
    lifetimes: Lifetimes
    filling: IndexFilling
    index_healing: IndexHealing
    catching_up: CatchingUp
    background: Background


@dataclass(frozen=True, slots=True)
class Parts:
    """All that one process serves with, opened.

    Attributes:
        settings: What it was opened by.
        storage: Where the bytes of images are.
        derived: Makes and keeps derived images.
        authorize: Authenticates a request by its `Authorization` field.
        keys: What tokens are checked with; None where `authorize` is the host application's.
        tokens: The tokens that were checked before, for the fast path; None as `keys`.
        signer: Signs and checks URLs.
        library: The media library.
        images_url: What the public URLs of images begin with.
        signed_images_url: What their signed URLs begin with.
        media_url: Public URLs of resources: of their keys at the CDN, else of their ids.
        proxy_key: What a proxy shows that sends large images itself; None: none may.
        made_secret: Whether the secret was made just now.
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
        """Fetch keys, open the database, sweep; close everything at the end.

        Args:
            again: All may be used again afterwards, also in another event loop: connections
                are closed, a data directory stays open until the process ends.
        """
        async with contextlib.AsyncExitStack() as stack:
            if self.keys is not None:
                await stack.enter_async_context(self.keys.kept_fresh())
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
        """Write into the search index what the storage changes, in a process that is no server."""
        return self.library.filling.running(self.storage, stop_within_s=stop_within_s)

    async def close(self, *, again: bool = False) -> None:
        """End the decoders, close the database and the storage; `again` as in `running`."""
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
    """Open all that serving needs; no process is started and no database opened yet.

    Args:
        settings: By which.
        authorize: Instead of tokens of ours. The secret signs URLs in any case.
        images_url: Instead of the settings' own beginning of public and signed URLs.
        reports: What the parts tell of their work.

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
    """Checks tokens with these keys, for the audience and the issuer that are set."""
    return TokenVerifier(keys, audience=settings.jwt_audience, issuer=settings.jwt_issuer)


@contextlib.asynccontextmanager
async def opened_library(settings: Settings) -> AsyncIterator[Library]:
    """The media library, for commands.

    Raises:
        ConfigurationError: the settings cannot work, or there is no store yet.
    """
    require_begun(settings.storage)
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
    """The storage alone, for commands; `rules` instead of the settings' own.

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
    """The store as its operator looks at it, for commands.

    Raises:
        ConfigurationError: the settings cannot work, or there is no store yet.
    """
    inspection = open_inspection(settings.storage, _names_in_data_dir(settings))
    try:
        yield inspection
    finally:
        await inspection.close()


def _names_in_data_dir(settings: Settings) -> list[str]:
    """Names of what operators put into the data directory: the rules of retention."""
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
    """The rules of retention: those of the file, and `STILLROOM_COMPUTE_TTL`.

    Raises:
        ConfigurationError: the file cannot be read, or a line of it is wrong.
    """
    named = settings.retention_file
    return read_rules(
        named or settings.data_dir / FILE_NAME,
        is_named=named is not None,
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
    if rules.end_anything:
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
        ends=Ends(storage, database, rules),
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
