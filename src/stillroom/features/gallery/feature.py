"""Gallery feature: web page that shows the stored images."""

import functools
from collections.abc import Iterable
from datetime import timedelta

from fastapi import APIRouter

from stillroom.features.gallery.batch import batch_router
from stillroom.features.gallery.page import Gallery, gallery_router
from stillroom.features.gallery.settings import GallerySettings
from stillroom.features.gallery.sign_in import SignIn, sign_in_router
from stillroom.features.gallery.sign_in_codes import SignInCodes
from stillroom.store.auth.choose import signing_secrets
from stillroom.store.auth.config import SecretConfig
from stillroom.store.auth.grants import Authorize
from stillroom.store.auth.tokens import mint_token
from stillroom.store.feature import Feature, Store


class GalleryFeature(Feature):
    """Web page that shows the stored images."""

    def __init__(self, store: Store) -> None:
        self._settings = store.settings
        self._grace = timedelta(0)
        self._trash = timedelta(0)
        self._max_direct_bytes = 0

    @functools.cached_property
    def sign_in(self) -> SignIn | None:
        """Sign-in operation; None if the server signs no tokens. May create the signing secret."""
        settings = self._settings
        if not isinstance(settings.keys, SecretConfig):
            return None
        (secret, *_), _ = signing_secrets(settings.secret)

        def mint(life: timedelta) -> str:
            audience, issuer = settings.jwt_audience, settings.jwt_issuer
            return mint_token(secret, expires_in=life, audience=audience, issuer=issuer)

        return SignIn(SignInCodes(settings.section(GallerySettings).sign_in_folder), mint)

    def ready(self, store: Store) -> None:
        """Read the settings of other features that the page needs."""
        self._grace = getattr(store.features.get("library"), "grace", self._grace)
        trash = getattr(store.features.get("trash"), "trash", None)
        self._trash = getattr(trash, "retention", self._trash)
        if self._settings.storage.upload_origins:
            self._max_direct_bytes = getattr(store.features.get("grants"), "max_bytes", 0)

    def pages(self, authorize: Authorize, *, is_embedded: bool) -> Iterable[APIRouter]:
        """Return the routes of the page, of its files and, if `is_embedded`, of batches."""
        if not is_embedded and not self._settings.section(GallerySettings).gallery:
            return []
        gallery = Gallery(
            {
                "files": "" if is_embedded else "gallery/",
                "api": "../" if is_embedded else "api/v1/",
                "max_upload_bytes": self._settings.max_upload_bytes,
                "max_direct_bytes": self._max_direct_bytes,
                "deletion_grace_s": int(self._grace.total_seconds()),
                "trash_s": int(self._trash.total_seconds()),
            },
            image_origins=self._settings.storage.image_origins,
            upload_origins=self._settings.storage.upload_origins if self._max_direct_bytes else (),
        )
        page = gallery_router(gallery, is_embedded=is_embedded)
        return [page, batch_router(authorize)] if is_embedded else [page]

    def api_pages(self, authorize: Authorize, *, is_embedded: bool) -> Iterable[APIRouter]:
        """Return the route of sign-in and, unless `is_embedded`, the route of batches."""
        if not is_embedded and not self._settings.section(GallerySettings).gallery:
            return []
        routers = [] if self.sign_in is None else [sign_in_router(self.sign_in)]
        return routers if is_embedded else [*routers, batch_router(authorize)]
