"""The server's FastAPI application: API, health, metrics, API documents and gallery."""

import asyncio
import contextlib
import functools
import os
from typing import Any, Final, NamedTuple

from fastapi import FastAPI, Request
from fastapi_offline import FastAPIOffline
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware

from stillroom import __version__
from stillroom.assembly import Parts, Reports, assemble
from stillroom.errors import StillroomError
from stillroom.features.database.settings import DatabaseSettings
from stillroom.features.gallery.page import Gallery, gallery_router
from stillroom.features.gallery.settings import GallerySettings
from stillroom.features.gallery.sign_in import sign_in_router
from stillroom.features.library.metrics import count_healed, report_queues, report_swept
from stillroom.features.library.settings import LibrarySettings
from stillroom.features.metadata.metrics import count_exceeded
from stillroom.features.pictures import confinement
from stillroom.features.pictures.metrics import count_picture, report_confinement
from stillroom.features.search.metrics import count_saved_mark
from stillroom.generation.reading import exceeded_reports
from stillroom.router import image_operations, sign_in_of, stillroom_router
from stillroom.store.api.browsers import DefaultSecurityHeaders, document_router
from stillroom.store.api.health import health_router
from stillroom.store.api.responses import ProblemResponse
from stillroom.store.capabilities import TurnsReadOnly
from stillroom.store.http.problems import internal_error, plain_problem
from stillroom.store.settings import Settings
from stillroom.store.telemetry import metrics, request_id

# Headers are those that pages on other origins may send and read, in addition to safelisted ones
# (https://fetch.spec.whatwg.org/#cors-safelisted-request-header). Cookies are never accepted.
_ALLOWED_HEADERS: Final = (
    "Authorization",
    "If-Match",
    "If-Modified-Since",
    "If-None-Match",
    "If-Range",
    "If-Unmodified-Since",
    "Range",
    "Repr-Digest",
    "X-Request-Id",
)
_CORS: Final[dict[str, Any]] = {
    "allow_methods": ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"],
    "expose_headers": [
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
    ],
    "max_age": 600,
}

# Not the code `not_found` of a missing image: clients must be able to distinguish them.
_ROUTING: Final = {
    404: ("nothing is served here: operations are below /api/v1, see /docs", "route_not_found"),
    405: ("this method is not allowed here, see /docs", "method_not_allowed"),
}


_METRICS: Final = Reports(
    call=metrics.count_call,
    picture=count_picture,
    queue=report_queues,
    swept=report_swept,
    healed=count_healed,
    mark=count_saved_mark,
)


def create_app(settings: Settings) -> FastAPI:
    """Create the application and open its storage.

    Raises:
        ConfigurationError: the settings are invalid or do not work together.
    """
    parts = assemble(settings, reports=_METRICS)
    _report_process(settings)

    app = FastAPIOffline(
        title="Stillroom",
        version=__version__,
        summary="The image store of an image-generation compute server.",
        lifespan=lambda _: parts.running(),
        docs_url=None,  # `document_router` serves them with a content security policy
        redoc_url=None,
        redirect_slashes=False,  # such redirects would use the Host header
        exception_handlers={HTTPException: _http_problem, Exception: _unexpected},
    )
    app.add_middleware(DefaultSecurityHeaders)
    app.include_router(document_router(app))
    operations = image_operations(parts)
    if settings.cors_origins:
        allowed = [*_ALLOWED_HEADERS, *(header.name for header in operations.hooks.save_headers)]
        app.add_middleware(
            CORSMiddleware, allow_origins=settings.cors_origins, allow_headers=allowed, **_CORS
        )
    report_disk = functools.partial(_report_disk, parts)
    checks = {"storage": parts.storage.check, "database": parts.library.database.check}
    app.include_router(health_router(checks, report_disk))
    # Used by the server's fast path, which has no router.
    app.state.operations, app.state.tokens = operations, parts.tokens
    app.state.varies_by_origin = bool(settings.cors_origins)  # as the middleware does
    app.include_router(stillroom_router(parts), prefix="/api/v1")
    if settings.section(GallerySettings).gallery:
        gallery = Gallery.of_package(
            image_origins=settings.storage.image_origins,
            max_upload_bytes=settings.max_upload_bytes,
            deletion_grace_s=settings.section(LibrarySettings).deletion_grace_seconds,
        )
        app.include_router(gallery_router(gallery))
        if (sign_in := sign_in_of(settings)) is not None:
            app.include_router(sign_in_router(sign_in), prefix="/api/v1")
    return app


def _report_process(settings: Settings) -> None:
    exceeded_reports.add(count_exceeded)
    report_confinement()
    database = settings.section(DatabaseSettings).rows
    metrics.report_build(__version__, storage=settings.storage.kind, database=database.kind)


def _report_disk(parts: Parts) -> None:
    with contextlib.suppress(OSError):  # there may be no data directory
        disk = os.statvfs(parts.settings.data_dir)
        metrics.set_gauges(
            data_free_bytes=disk.f_bavail * disk.f_frsize,
            data_min_free_bytes=parts.settings.min_free_bytes,
            read_only=isinstance(parts.storage, TurnsReadOnly) and parts.storage.is_read_only,
        )


class SettingsReport(NamedTuple):
    """Lines for the operator: the configuration, and settings that may cause problems later."""

    facts: list[str]
    warnings: list[str]


def check_settings(settings: Settings) -> SettingsReport:
    """Check the settings by opening and closing all parts that the workers will open.

    Raises:
        ConfigurationError: the workers would fail to start.
    """
    parts = assemble(settings)
    assert parts.keys is not None  # noqa: S101  (`assemble` was given no `authorize`)
    warnings = [*asyncio.run(_try_storage(parts)), *settings.warnings()]
    warnings += [f"{gap}: {remedy}" for gap, remedy in confinement.gaps()]
    lines = [f"storage: {parts.storage.description}"]
    lines.append(f"media library: {parts.library.database.description}")
    if rules := parts.library.retention.rules.rules:
        lines.append(f"retention: {', '.join(rule.name for rule in rules)}")
    if parts.made_secret:
        lines.append(f"made a token secret in {settings.secret_file}")
    command = settings.token_command
    lines.append(f"tokens: {parts.keys.description}{command and f'; mint one with: {command}'}")
    if settings.public_read:
        lines.append("images are public: they can be read without a token")
    return SettingsReport(lines, warnings)


async def _try_storage(parts: Parts) -> list[str]:
    """Return a warning if the storage fails now. The start continues: the storage may recover."""
    try:
        await parts.storage.check()
    except StillroomError as error:
        return [f"the storage cannot serve yet: {error}"]
    finally:
        await parts.close()
    return []


async def _http_problem(_: Request, error: Exception) -> ProblemResponse:
    assert isinstance(error, HTTPException)  # noqa: S101  (registered for it)
    message, code = _ROUTING.get(error.status_code, (str(error.detail), "not_served"))
    problem = plain_problem(error.status_code, message, code, request_id.current.get())
    problem.headers.extend((error.headers or {}).items())
    return ProblemResponse(problem)


async def _unexpected(_: Request, error: Exception) -> ProblemResponse:
    del error  # the server logs it with a traceback
    return ProblemResponse(internal_error(request_id.current.get()))
