"""Embedding of the store in a FastAPI app: `create_router`, or `Stillroom` for more control.

from stillroom.embed import create_router
app.include_router(create_router(), prefix="/api/v1")
"""

import contextlib
import inspect
import logging
from collections.abc import AsyncIterator, Collection
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from fastapi import APIRouter, Request
from starlette.applications import Starlette
from starlette.routing import NoMatchFound

from stillroom.assembly import Parts, assemble, described, reason_off
from stillroom.client import AsyncImageStore
from stillroom.errors import ConfigurationError
from stillroom.in_process import InProcessImageStore
from stillroom.router import stillroom_router
from stillroom.settings import AllSettings
from stillroom.store.api.operation import raw_target
from stillroom.store.auth.grants import Authorize
from stillroom.variables import BUCKET

if TYPE_CHECKING:
    from stillroom.features.library.service import MediaResourceService

_DEFAULT_SERVER: Final = ("127.0.0.1", 8000)
_DEFAULT_IMAGES: Final = "/api/v1/storage/images"

log = logging.getLogger("stillroom.embed")


class Stillroom:
    """A store inside a FastAPI app.

    Attributes:
        router: Router with all operations, for `app.include_router`. It has its own lifespan.
        images: Asynchronous SDK for the app's own endpoints. It has all permissions, and calls the
            store directly, without HTTP requests to a server.
        media: Media library, as in `await media.ingest_from_storage_key("compute/a.png")`.
    """

    router: APIRouter
    images: AsyncImageStore

    def __init__(
        self,
        data_dir: str | Path | None = None,
        *,
        storage: Literal["disk"] | None = None,
        authorize: Authorize | None = None,
        public_url: str | None = None,
        gallery: bool = False,
        features: Collection[str] | None = None,
        **settings: object,
    ) -> None:
        """Open the store that the environment variables select, as the server does.

        Args:
            data_dir: Replaces `STILLROOM_DATA_DIR`. Several processes may share it.
            storage: `disk` stores images on the disk even if the variables of a bucket are set.
            authorize: Function that replaces the verification of tokens. Its argument is the
                `Authorization` header (or None). It returns a `stillroom.auth.grants.Grant` or
                raises `stillroom.errors.Unauthenticated`. A plain function runs on the event loop
                and must be fast; an async function may wait. It is used for images, the media
                library and the signing of URLs. With `public_read`, it is called only for requests
                with an `Authorization` header.
            public_url: Beginning of public URLs, to which `/<path>` is appended. The default is
                `STILLROOM_PUBLIC_BASE_URL` followed by `/api/v1/storage/images`.
            gallery: Serve the gallery at `/gallery/`, below the router's prefix. It needs the
                feature `gallery`.
            features: Names of the features to use, such as `["pictures"]`; those that they need are
                added. By default, all features whose libraries are installed. `[]` uses none.
                All processes that use the same data should use the same features; see
                docs/embedding.md#different-features-on-the-same-data.
            settings: Other settings by name, such as `max_upload_bytes=…`. They have priority over
                environment variables. See docs/reference/settings.md.

        Raises:
            ConfigurationError: the settings are invalid or do not work together.
        """
        if gallery and (reason := reason_off("gallery", features)):
            raise ConfigurationError(
                f"gallery=True needs the feature 'gallery', which is off: {reason}"
            )
        if storage not in (None, "disk"):
            raise ConfigurationError(f"storage is {storage!r}: pass 'disk', or omit it")
        if authorize is not None:
            _check_signature(authorize)
        bucket = {name.lower(): "" for name in BUCKET} if storage == "disk" else {}
        resolved = AllSettings.read(**{"data_dir": data_dir, **bucket, **settings})
        self._parts = parts = assemble(
            resolved,
            authorize=authorize,
            images_url=public_url.rstrip("/") if public_url else None,
            features=features,
        )
        self._running = 0
        self.images = InProcessImageStore(parts)
        self._is_url_checked = bool(public_url)
        self._has_saved = False
        self.router = APIRouter(lifespan=self.lifespan)
        self.router.include_router(stillroom_router(parts, on_save=self._check_first_save))
        self._signs_in = gallery and authorize is None
        for feature in parts.features if gallery else ():
            for pages in feature.pages(parts.authorize, is_embedded=True, signs_in=self._signs_in):
                self.router.include_router(pages)
        _log_start(parts, are_all_wanted=features is None)

    @property
    def media(self) -> "MediaResourceService":
        """Media library of this store. Raises `ConfigurationError` if the feature is off."""
        from stillroom.features.library.feature import LibraryFeature

        return self._parts.store.need(LibraryFeature).service

    def sign_in_link(self, gallery_url: str) -> str:
        """Create a gallery link that signs in once, within 10 minutes, with all permissions.

        Args:
            gallery_url: URL at which browsers reach this app's gallery, such as
                `https://compute.example.com/api/v1/gallery/`.

        Raises:
            ConfigurationError: there is no gallery, or tokens come from another issuer.
            OSError: the data directory is not writable.
        """
        from stillroom.features.gallery.feature import GalleryFeature

        sign_in = self._parts.store.need(GalleryFeature).sign_in
        if sign_in is None or not self._signs_in:
            raise ConfigurationError(
                "cannot create a sign-in link: pass gallery=True, do not pass authorize=, and "
                "set STILLROOM_JWT_ALGORITHM=HS256"
            )
        return f"{gallery_url}#sign-in={sign_in.codes.make()}"

    @contextlib.asynccontextmanager
    async def lifespan(self, app: object = None) -> AsyncIterator[None]:
        """Context manager: run the background jobs, and keep the database and the keys open.

        `FastAPI(lifespan=stillroom.lifespan)` is needed only if the router is in a mounted app,
        because Starlette does not run the lifespans of mounted apps. Nested calls do nothing.
        """
        self._running += 1
        if isinstance(app, Starlette) and not self._is_url_checked:
            self._check_prefix(app)
        try:
            async with contextlib.AsyncExitStack() as stack:
                if self._running == 1:
                    await stack.enter_async_context(self._parts.running(again=True))
                yield
        finally:
            self._running -= 1

    def _check_prefix(self, app: Starlette) -> None:
        """Warn if the router is not included with the prefix of public URLs.

        Only the first of several routers is checked, since names lead to its routes.
        """
        if getattr(app.state, "has_stillroom", False):
            return
        app.state.has_stillroom = True
        with contextlib.suppress(NoMatchFound):
            path = app.url_path_for("list_images")
            if path.endswith("/storage/images") and not path.endswith(_DEFAULT_IMAGES):
                self._is_url_checked = True
                log.warning(
                    "public URLs begin with %s, but this app has its images at %s: include the "
                    'router with prefix="/api/v1", or pass public_url="https://…%s", with the '
                    "host under which clients reach this app (docs/embedding.md)",
                    self._parts.images_url,
                    path,
                    path,
                )

    def _check_first_save(self, request: Request) -> None:
        """Warn at the first save if the app's address or the router's lifespan is wrong."""
        if self._has_saved:
            return
        self._has_saved = True
        is_default = tuple(request.scope.get("server") or ()) == _DEFAULT_SERVER
        is_default &= raw_target(request).startswith(_DEFAULT_IMAGES.encode())
        if not (self._is_url_checked or self._parts.settings.public_base_url or is_default):
            log.warning(
                "public URLs begin with %s, which is not the address of this app: set "
                "STILLROOM_PUBLIC_BASE_URL to the root URL under which clients reach it",
                self._parts.images_url,
            )
        if not self._running:
            log.warning(
                "the lifespan of this router does not run, so due deletions are not executed: "
                "pass lifespan=stillroom.lifespan to the outermost app (docs/embedding.md)"
            )


def create_router(
    data_dir: str | Path | None = None,
    *,
    storage: Literal["disk"] | None = None,
    authorize: Authorize | None = None,
    public_url: str | None = None,
    gallery: bool = False,
    features: Collection[str] | None = None,
    **settings: object,
) -> APIRouter:
    """Create a `Stillroom` and return its `router`. See `Stillroom` for arguments and errors."""
    return Stillroom(
        data_dir,
        storage=storage,
        authorize=authorize,
        public_url=public_url,
        gallery=gallery,
        features=features,
        **settings,
    ).router


def _check_signature(authorize: Authorize) -> None:
    with contextlib.suppress(ValueError):  # a compiled function may have no signature
        try:
            inspect.signature(authorize).bind(None)
        except TypeError as error:
            message = "authorize= must be a function of the header `Authorization` (or None)"
            raise ConfigurationError(f"{message}: {error}") from error


def _log_start(parts: Parts, *, are_all_wanted: bool) -> None:
    log.info("storage: %s", parts.storage.description)
    warnings = [line for feature in parts.features for line in feature.warnings()]
    off = [described(parts.store.off)] if parts.store.off and are_all_wanted else []
    for line in (*parts.settings.warnings(), *warnings, *off):
        log.warning("%s", line)
