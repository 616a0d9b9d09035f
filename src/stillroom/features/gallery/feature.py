"""Gallery feature: web page that shows the stored images."""

import functools
from collections.abc import Iterable
from datetime import timedelta

from fastapi import APIRouter

from stillroom.features.gallery.batch import batch_operation
from stillroom.features.gallery.page import Gallery, gallery_router
from stillroom.features.gallery.settings import GallerySettings
from stillroom.features.gallery.sign_in import SignIn
from stillroom.features.gallery.sign_in_codes import SignInCodes
from stillroom.store.api.operation import OperationRoute
from stillroom.store.auth.choose import signing_secrets
from stillroom.store.auth.config import SecretConfig
from stillroom.store.auth.grants import Authorize
from stillroom.store.auth.tokens import mint_token
from stillroom.store.feature import Feature, Store


class GalleryFeature(Feature):
    """Web page that shows the stored images."""

    def __init__(self, store: Store) -> None:
        self._settings, self._features = store.settings, store.features

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

    def pages(
        self, authorize: Authorize, *, is_embedded: bool, signs_in: bool = True
    ) -> Iterable[APIRouter]:
        """Return the routes of the page, of its files, of batches and, if enabled, of sign-in."""
        if not is_embedded and not self._settings.section(GallerySettings).gallery:
            return []
        features, origins = self._features, self._settings.storage.upload_origins
        grace = getattr(features.get("library"), "grace", timedelta(0))
        trash = getattr(features.get("trash"), "trash", None)
        max_direct_bytes = getattr(features.get("grants"), "max_bytes", 0) if origins else 0
        gallery = Gallery(
            {
                "files": "" if is_embedded else "gallery/",
                "api": "../" if is_embedded else "api/v1/",
                "features": " ".join(sorted(features)),
                "login": "token" if signs_in else "app",
                "max_upload_bytes": self._settings.max_upload_bytes,
                "max_direct_bytes": max_direct_bytes,
                "deletion_grace_s": int(grace.total_seconds()),
                "trash_s": int(getattr(trash, "retention", timedelta(0)).total_seconds()),
            },
            image_origins=self._settings.storage.image_origins,
            upload_origins=origins if max_direct_bytes else (),
        )
        prefix = "" if is_embedded else "/api/v1"
        api = APIRouter(prefix=prefix, include_in_schema=False, route_class=OperationRoute)
        api.add_api_route("/batch", batch_operation(authorize), methods=["POST"])
        if signs_in and self.sign_in is not None:
            api.add_api_route("/sign-in", self.sign_in.sign_in, methods=["POST"])
        return [gallery_router(gallery, is_embedded=is_embedded), api]
