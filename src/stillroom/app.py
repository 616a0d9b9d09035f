"""The server's FastAPI application: API, health, metrics, API documents and gallery."""

import asyncio
import contextlib
import functools
import os
from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi_offline import FastAPIOffline
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware

from stillroom import __version__
from stillroom.assembly import Parts, assemble, described
from stillroom.errors import StillroomError
from stillroom.router import image_operations, stillroom_router
from stillroom.store.api.browsers import DefaultSecurityHeaders, document_router
from stillroom.store.api.health import Check, health_router
from stillroom.store.api.responses import ProblemResponse
from stillroom.store.capabilities import TurnsReadOnly
from stillroom.store.http.problems import internal_error, plain_problem
from stillroom.store.settings import Settings
from stillroom.store.telemetry import metrics, request_id

# Headers are those that pages on other origins may send and read, in addition to safelisted ones
# (https://fetch.spec.whatwg.org/#cors-safelisted-request-header). Cookies are never accepted.
_ALLOWED_HEADERS: Final = (
    *("Authorization", "Content-Disposition", "If-Match", "If-Modified-Since", "If-None-Match"),
    *("If-Range", "If-Unmodified-Since", "Range", "Repr-Digest", "Sign-Url"),
    *("X-Amz-Checksum-Sha256", "X-Request-Id"),
)
_EXPOSED_HEADERS: Final = (
    *("Accept-Ranges", "Content-Disposition", "Content-Range", "ETag", "Link", "Repr-Digest"),
    *("Retry-After", "Stillroom-Error", "WWW-Authenticate", "X-Request-Id"),
)
_CORS: Final[dict[str, Any]] = {
    "allow_methods": ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"],
    "expose_headers": _EXPOSED_HEADERS,
    "max_age": 600,
}

# Not the code `not_found` of a missing image: clients must be able to distinguish them.
_ROUTING: Final = {
    404: ("nothing is served here: operations are below /api/v1, see /docs", "route_not_found"),
    405: ("this method is not allowed here, see /docs", "method_not_allowed"),
}


def create_app(settings: Settings) -> FastAPI:
    """Create the application. Raise `ConfigurationError` if the settings cannot work."""
    parts = assemble(settings, observer=metrics.count_call)
    metrics.report_build(
        __version__,
        storage=settings.storage.kind,
        database=next((kind for f in parts.features if (kind := f.database_kind)), "none"),
    )
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
    checks: dict[str, Check] = {"storage": parts.storage.check}
    for feature in parts.features:
        checks.update(feature.checks())
    app.include_router(health_router(checks, functools.partial(_report_disk, parts)))
    # Used by the server's fast path, which has no router.
    app.state.operations, app.state.tokens = operations, parts.tokens
    app.state.varies_by_origin = bool(settings.cors_origins)  # as the middleware does
    app.include_router(stillroom_router(parts), prefix="/api/v1")
    for feature in parts.features:
        for router in feature.pages(parts.authorize, is_embedded=False):
            app.include_router(router)
    return app


def _report_disk(parts: Parts) -> None:
    with contextlib.suppress(OSError):  # there may be no data directory
        disk = os.statvfs(parts.settings.data_dir)
        metrics.set_gauges(
            data_free_bytes=disk.f_bavail * disk.f_frsize,
            data_min_free_bytes=parts.settings.min_free_bytes,
            read_only=isinstance(parts.storage, TurnsReadOnly) and parts.storage.is_read_only,
        )


def check_settings(settings: Settings) -> tuple[list[str], list[str]]:
    """Check the settings by opening and closing all parts that the workers will open.

    Return lines about the configuration, and warnings. May raise `ConfigurationError`.
    """
    parts = assemble(settings)
    assert parts.keys is not None  # noqa: S101  (`assemble` was given no `authorize`)
    warnings = [*asyncio.run(_try_storage(parts)), *settings.warnings()]
    lines = [f"storage: {parts.storage.description}"]
    for feature in parts.features:
        lines += feature.facts()
        warnings += feature.warnings()
    warnings += [described({name: reason}) for name, reason in parts.store.off.items()]
    if parts.made_secret:
        lines.append(f"made a token secret in {settings.secret_file}")
    command = settings.token_command
    lines.append(f"tokens: {parts.keys.description}{command and f'; mint one with: {command}'}")
    if settings.public_read:
        lines.append("images are public: they can be read without a token")
    return lines, warnings


async def _try_storage(parts: Parts) -> list[str]:
    """Return a warning if the storage fails now. The server starts, as the storage may recover."""
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
