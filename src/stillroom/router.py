"""Construction of the API's router with all operations."""

import dataclasses
from collections.abc import Callable
from datetime import timedelta

from fastapi import APIRouter, Request

from stillroom.assembly import Parts
from stillroom.features.archive.operation import Archives
from stillroom.features.gallery.settings import GallerySettings
from stillroom.features.gallery.sign_in import SignIn
from stillroom.features.gallery.sign_in_codes import SignInCodes
from stillroom.features.library.dead_letters import DeadLetterOperations
from stillroom.features.library.enrichment import Enrichment
from stillroom.features.library.operations import MediaOperations
from stillroom.features.metadata.operation import MetadataOperation
from stillroom.features.pictures.operation import Thumbnails
from stillroom.features.runs.listing import RunListing
from stillroom.features.runs.operations import RunOperations
from stillroom.features.search.operation import EntryMarks, SearchOperation
from stillroom.speed.capabilities import PinsNames
from stillroom.speed.proxy_sendfile import ProxySendfile
from stillroom.store.api.copies import Copies
from stillroom.store.api.deletions import Deletions
from stillroom.store.api.entries import EntryListing
from stillroom.store.api.images import ImageOperations
from stillroom.store.api.routes import operation_router
from stillroom.store.api.signed_urls import UrlSigning
from stillroom.store.auth.choose import signing_secrets
from stillroom.store.auth.config import SecretConfig
from stillroom.store.auth.grants import Grant
from stillroom.store.auth.tokens import mint_token
from stillroom.store.hooks import Hooks
from stillroom.store.settings import Settings


def stillroom_router(
    parts: Parts, *, on_save: Callable[[Request], None] | None = None
) -> APIRouter:
    """Create the router with all operations. `on_save` is called for each save."""
    return _router(parts, dataclasses.replace(image_operations(parts), on_save=on_save))


def trusted_router(parts: Parts) -> APIRouter:
    """Create a router for calls within this process, with all permissions and no redirects."""
    parts = dataclasses.replace(parts, authorize=lambda _: Grant.everything(), proxy_key=None)
    return _router(parts, dataclasses.replace(image_operations(parts), redirects=False))


def sign_in_of(settings: Settings) -> SignIn | None:
    """Return the operation for sign-in codes, or None if tokens come from another issuer."""
    if not isinstance(settings.keys, SecretConfig):
        return None
    (secret, *_), _ = signing_secrets(settings.secret)

    def mint(life: timedelta) -> str:
        audience, issuer = settings.jwt_audience, settings.jwt_issuer
        return mint_token(secret, expires_in=life, audience=audience, issuer=issuer)

    return SignIn(SignInCodes(settings.section(GallerySettings).sign_in_folder), mint)


def _router(parts: Parts, images: ImageOperations) -> APIRouter:
    storage, authorize, library = parts.storage, parts.authorize, parts.library
    runs = RunOperations(
        library.runs,
        library.run_deletions,
        RunListing(storage),
        authorize,
        library.retention.expected_run_end,
    )
    signing = UrlSigning(authorize, parts.signer, parts.signed_images_url)
    media = MediaOperations(
        media=library.service,
        authorize=authorize,
        public_url=parts.media_url,
        delegate=images.hooks.body,
    )
    router = APIRouter()
    for prefix, operations in (
        ("/storage/images", images),
        ("/storage/entries", EntryListing(images)),
        ("/storage/archive", Archives(storage, authorize)),
        ("/storage/metadata", MetadataOperation(images, library.retention.expected_expiration)),
        ("/storage/search", SearchOperation(library.database, authorize)),
        ("/storage/delete", Deletions(images)),
        ("/storage/copy", Copies(images)),
        ("/storage/runs", runs),
        ("/storage/signed-urls", signing),
        # `heal` is not a resource id, so its route must be before those of resources.
        ("/media-resources", Enrichment(library.service, library.healer, authorize)),
        ("/media-resources", media),
        ("/media-dead-letters", DeadLetterOperations(library.database, authorize)),
    ):
        tag = "Media" if prefix.startswith("/media") else "Storage"
        router.include_router(operation_router(prefix, operations, tag=tag))
    return router


def image_operations(parts: Parts) -> ImageOperations:
    """Create the operations on images, which the server's fast path uses, too."""
    return ImageOperations(
        storage=parts.storage,
        authorize=parts.authorize,
        public_url=parts.images_url,
        max_upload_bytes=parts.settings.max_upload_bytes,
        signer=parts.signer,
        public_read=parts.settings.public_read,
        hooks=_hooks(parts),
    )


def _hooks(parts: Parts) -> Hooks:
    return Hooks(
        read=(Thumbnails(parts.derived),),
        save=(parts.library.lifetimes,),
        entries=(EntryMarks(parts.library.database),),
        body=_sendfile(parts),
    )


def _sendfile(parts: Parts) -> ProxySendfile | None:
    if parts.proxy_key is None or not isinstance(parts.storage, PinsNames):
        return None
    return ProxySendfile(parts.storage, parts.proxy_key)
