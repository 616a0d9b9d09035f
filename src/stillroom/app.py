"""The composition root: settings in, a wired application out."""

import asyncio
import contextlib
import dataclasses
import os
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from typing import Final, NamedTuple
from urllib.parse import quote

from fastapi import FastAPI, Request
from fastapi_offline import FastAPIOffline
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware

from stillroom import __version__
from stillroom.api.browsers import ToldToBrowsers, document_router
from stillroom.api.copies import Copies, copies_router
from stillroom.api.dead_letters import DeadLetterOperations, dead_letters_router
from stillroom.api.deletions import Deletions, deletions_router
from stillroom.api.entries import EntryListing, entries_router
from stillroom.api.health import health_router
from stillroom.api.images import ImageOperations, images_router
from stillroom.api.media import MediaOperations, media_router
from stillroom.api.operation import ProblemResponse
from stillroom.api.signed_urls import UrlSigning, signed_urls_router
from stillroom.auth.keys import check_secrets
from stillroom.auth.signed_urls import UrlSigner
from stillroom.auth.tokens import TokenVerifier
from stillroom.auth.verified import VerifiedTokens
from stillroom.derived import confinement
from stillroom.derived.images import DerivedImages
from stillroom.errors import StillroomError
from stillroom.gallery.page import Gallery, gallery_router
from stillroom.http.problems import plain_problem
from stillroom.media.config import PostgresConfig
from stillroom.media.database import MediaDatabase
from stillroom.media.expiry import Expiry
from stillroom.media.resource import MediaResource
from stillroom.media.service import MediaResourceService
from stillroom.media.sweeper import Sweeper
from stillroom.settings import Settings
from stillroom.storage.capabilities import TurnsReadOnly
from stillroom.storage.choose import R2Config, open_storage
from stillroom.storage.port import ImageStorage
from stillroom.telemetry import metrics, request_id

# What pages of other origins may send and read beside what every page may
# (https://fetch.spec.whatwg.org/#cors-safelisted-request-header). Cookies are never taken.
_CORS_REQUEST_HEADERS: Final = [
    "Authorization",
    "If-Match",
    "If-Modified-Since",
    "If-None-Match",
    "If-Range",
    "If-Unmodified-Since",
    "Range",
    "Repr-Digest",
    "X-Request-Id",
]
_CORS_ANSWER_HEADERS: Final = [
    "Accept-Ranges",
    "Content-Disposition",
    "Content-Range",
    "ETag",
    "Link",
    "Repr-Digest",
    "Retry-After",
    "Stillroom-Error",
    "WWW-Authenticate",
    "X-Request-Id",
]
_CORS_MAX_AGE_S: Final = 600

# Never the `not_found` of an image: clients must see the difference.
_ROUTING: Final = {
    404: ("nothing is served here: operations are below /api/v1, see /docs", "route_not_found"),
    405: ("this method is not allowed here, see /docs", "method_not_allowed"),
}

_SWEEPER_STOPS_WITHIN_S: Final = 5.0
"""After the answers under way. A deletion takes milliseconds, and what is abandoned is safe."""


def create_app(settings: Settings) -> FastAPI:
    """The application, its storage opened.

    Raises:
        ConfigurationError: the settings cannot work.
    """
    secrets, _ = settings.signing_secrets()
    signer = UrlSigner(secrets)
    keys = settings.token_keys()
    verifier = TokenVerifier(keys, audience=settings.jwt_audience, issuer=settings.jwt_issuer)
    tokens = VerifiedTokens(verifier)
    storage = open_storage(settings.storage, settings.save_rules, observer=metrics.count_call)
    derived = DerivedImages(settings.derived, report=metrics.count_picture)
    database = MediaDatabase(settings.rows)
    sweeper = Sweeper(
        storage,
        database,
        expiry=expiry_of(settings, storage, database),
        report=lambda waiting: metrics.report_queue(**dataclasses.asdict(waiting)),
        report_swept=lambda swept: metrics.report_swept(swept.outcomes),
    )
    metrics.report_confinement(confinement.missing())
    metrics.report_build(
        __version__,
        storage="bucket" if isinstance(settings.storage, R2Config) else "disk",
        database="postgresql" if isinstance(settings.rows, PostgresConfig) else "sqlite",
    )

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with keys.kept_fresh(), database.kept_open(), _swept(sweeper, settings):
            yield
        await derived.close()
        await storage.close()

    app = FastAPIOffline(
        title="Stillroom",
        version=__version__,
        summary="The image store of an image-generation compute server.",
        lifespan=lifespan,
        docs_url=None,  # document_router has its own, with a policy
        redoc_url=None,
        redirect_slashes=False,  # those redirects are built from the Host header
        exception_handlers={HTTPException: _http_problem, Exception: _unexpected},
    )
    app.add_middleware(ToldToBrowsers)
    app.include_router(document_router(app))
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=["GET", "HEAD", "POST", "PATCH", "DELETE"],
            allow_headers=_CORS_REQUEST_HEADERS,
            expose_headers=_CORS_ANSWER_HEADERS,
            max_age=_CORS_MAX_AGE_S,
        )
    app.include_router(health_router(storage, database, _look_at_disk(settings, storage)))
    operations = ImageOperations(
        storage=storage,
        authorize=tokens.verify,
        public_url=settings.images_url,
        max_upload_bytes=settings.max_upload_bytes,
        signer=signer,
        public_read=settings.public_read,
        derived=derived,
    )
    app.state.operations, app.state.tokens = operations, tokens  # for the server's fast path
    app.state.varies_by_origin = bool(settings.cors_origins)  # as the middleware says it
    app.include_router(images_router(operations), prefix="/api/v1")
    entries = EntryListing(storage, tokens.verify)
    app.include_router(entries_router(entries), prefix="/api/v1")
    deletions = Deletions(storage, tokens.verify)
    app.include_router(deletions_router(deletions), prefix="/api/v1")
    copies = Copies(storage, tokens.verify, settings.images_url)
    app.include_router(copies_router(copies), prefix="/api/v1")
    signing = UrlSigning(tokens.verify, signer, settings.api_images_url)
    app.include_router(signed_urls_router(signing), prefix="/api/v1")
    library = MediaOperations(
        media=MediaResourceService(storage, database, grace=_grace(settings)),
        authorize=tokens.verify,
        public_url=_public_media_url(settings),
    )
    app.include_router(media_router(library), prefix="/api/v1")
    letters = DeadLetterOperations(database, tokens.verify)
    app.include_router(dead_letters_router(letters), prefix="/api/v1")
    if settings.gallery:
        gallery = Gallery.of_package(
            image_origins=settings.image_origins,
            max_upload_bytes=settings.max_upload_bytes,
            deletion_grace_s=settings.deletion_grace_seconds,
        )
        app.include_router(gallery_router(gallery))
    return app


@contextlib.asynccontextmanager
async def _swept(sweeper: Sweeper, settings: Settings) -> AsyncIterator[None]:
    every_s = settings.sweep_interval_seconds
    stop_within_s = min(_SWEEPER_STOPS_WITHIN_S, settings.drain_seconds)
    async with sweeper.running(every_s=every_s, stop_within_s=stop_within_s):
        yield


def _look_at_disk(settings: Settings, storage: ImageStorage) -> Callable[[], None]:
    """What brings the numbers of the disk up to date; with a bucket it has the rows, perhaps."""

    def look() -> None:
        with contextlib.suppress(OSError):  # there may be none, with a bucket and a PostgreSQL
            room = os.statvfs(settings.data_dir)
            metrics.report_disk(
                free_bytes=room.f_bavail * room.f_frsize,
                min_free_bytes=settings.min_free_bytes,
                read_only=isinstance(storage, TurnsReadOnly) and storage.is_read_only,
            )

    return look


@contextlib.asynccontextmanager
async def opened_library(settings: Settings) -> AsyncIterator[MediaResourceService]:
    """The media library alone, for commands.

    Raises:
        ConfigurationError: the settings cannot work.
    """
    async with opened_media(settings) as (storage, database):
        yield MediaResourceService(storage, database, grace=_grace(settings))


@contextlib.asynccontextmanager
async def opened_media(
    settings: Settings,
) -> AsyncIterator[tuple[ImageStorage, MediaDatabase]]:
    """The bytes and the rows, for commands.

    Raises:
        ConfigurationError: the settings cannot work.
    """
    storage = open_storage(settings.storage, settings.save_rules)
    database = MediaDatabase(settings.rows)
    try:
        yield storage, database
    finally:
        await database.close()
        await storage.close()


def expiry_of(settings: Settings, storage: ImageStorage, database: MediaDatabase) -> Expiry | None:
    """What finds compute results that have expired; None where they never do."""
    ttl = settings.compute_ttl
    if ttl is None:
        return None
    return Expiry(storage, database, ttl=ttl, grace=_grace(settings))


def _grace(settings: Settings) -> timedelta:
    return timedelta(seconds=settings.deletion_grace_seconds)


def _public_media_url(settings: Settings) -> Callable[[MediaResource], str]:
    base = settings.media_url
    if isinstance(settings.storage, R2Config) and settings.storage.public_url:
        return lambda resource: f"{base}/{quote(resource.storage_key.text, safe='/')}"
    return lambda resource: f"{base}/{resource.id}/file"


class Checked(NamedTuple):
    """What the operator should know, line by line: the backend first.

    Attributes:
        facts: What is configured.
        warnings: What works here and now, and may not elsewhere or later.
    """

    facts: list[str]
    warnings: list[str]


def check_settings(settings: Settings) -> Checked:
    """Try what the workers will do, in the process that starts them.

    Raises:
        ConfigurationError: they would fail.
    """
    secrets, made = settings.signing_secrets()
    check_secrets(secrets)
    keys = settings.token_keys()
    storage = open_storage(settings.storage, settings.save_rules)
    _ = settings.derived  # raises if it cannot be
    warnings = [*asyncio.run(_try_out(storage)), *settings.warnings()]
    warnings += [f"{said}: {remedy}" for said, remedy in confinement.gaps()]
    lines = [f"storage: {storage.description}"]
    lines.append(f"media library: {MediaDatabase(settings.rows).description}")
    if made:
        lines.append(f"made a token secret in {settings.secret_file}")
    lines.append(f"tokens: {keys.description}")
    if settings.public_read:
        lines.append("images are public: they can be read without a token")
    return Checked(lines, warnings)


async def _try_out(storage: ImageStorage) -> list[str]:
    """Why it cannot serve right now, if so; that may pass, so it stops no start."""
    try:
        await storage.check()
    except StillroomError as error:
        return [f"the storage cannot serve yet: {error}"]
    finally:
        await storage.close()
    return []


async def _http_problem(_: Request, error: Exception) -> ProblemResponse:
    assert isinstance(error, HTTPException)  # noqa: S101  (what it was registered for)
    named = request_id.current.get()
    message, code = _ROUTING.get(error.status_code, (str(error.detail), "not_served"))
    found = plain_problem(error.status_code, message, code, named)
    found.headers.extend((error.headers or {}).items())
    return ProblemResponse(found)


async def _unexpected(_: Request, error: Exception) -> ProblemResponse:
    del error  # the server logs it with its traceback
    broken = "internal server error; see the server log for this request id"
    return ProblemResponse(plain_problem(500, broken, "bug", request_id.current.get()))
