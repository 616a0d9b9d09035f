"""Construction of the API's router with all operations."""

import dataclasses
from collections.abc import Callable
from datetime import timedelta

from fastapi import APIRouter, Request

from stillroom.api.archives import Archives, archives_router
from stillroom.api.copies import Copies, copies_router
from stillroom.api.dead_letters import DeadLetterOperations, dead_letters_router
from stillroom.api.deletions import Deletions, deletions_router
from stillroom.api.enrichment import Enrichment, enrichment_router
from stillroom.api.entries import EntryListing, entries_router
from stillroom.api.images import ImageOperations, images_router
from stillroom.api.media import MediaOperations, media_router
from stillroom.api.metadata import MetadataOperation, metadata_router
from stillroom.api.runs import RunOperations, runs_router
from stillroom.api.search import SearchOperation, search_router
from stillroom.api.sendfile import ProxySendfile
from stillroom.api.sign_in import SignIn
from stillroom.api.signed_urls import UrlSigning, signed_urls_router
from stillroom.assembly import Parts
from stillroom.auth.choose import signing_secrets
from stillroom.auth.config import SecretConfig
from stillroom.auth.grants import Grant
from stillroom.auth.sign_in_codes import SignInCodes
from stillroom.auth.tokens import mint_token
from stillroom.media.runs.listing import RunListing
from stillroom.settings import Settings
from stillroom.storage.capabilities import PinsNames


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

    return SignIn(SignInCodes(settings.sign_in_folder), mint)


def _router(parts: Parts, images: ImageOperations) -> APIRouter:
    storage, authorize, library = parts.storage, parts.authorize, parts.library
    router = APIRouter()
    router.include_router(images_router(images))
    router.include_router(entries_router(EntryListing(storage, library.database, authorize)))
    router.include_router(archives_router(Archives(storage, authorize)))
    router.include_router(metadata_router(MetadataOperation(images, library.retention)))
    router.include_router(search_router(SearchOperation(library.database, authorize)))
    router.include_router(deletions_router(Deletions(storage, authorize)))
    router.include_router(copies_router(Copies(storage, authorize, parts.images_url)))
    runs = RunOperations(
        library.runs, library.run_deletions, RunListing(storage), library.retention, authorize
    )
    router.include_router(runs_router(runs))
    signing = UrlSigning(authorize, parts.signer, parts.signed_images_url)
    router.include_router(signed_urls_router(signing))
    media = MediaOperations(
        media=library.service,
        authorize=authorize,
        public_url=parts.media_url,
        sendfile=_sendfile(parts),
    )
    enrichment = Enrichment(library.service, library.healer, authorize)
    router.include_router(enrichment_router(enrichment))  # first: `heal` is not a resource id
    router.include_router(media_router(media))
    router.include_router(dead_letters_router(DeadLetterOperations(library.database, authorize)))
    return router


def image_operations(parts: Parts) -> ImageOperations:
    """Create the operations on images, which the server's fast path uses, too."""
    return ImageOperations(
        storage=parts.storage,
        authorize=parts.authorize,
        public_url=parts.images_url,
        max_upload_bytes=parts.settings.max_upload_bytes,
        lifetimes=parts.library.lifetimes,
        signer=parts.signer,
        public_read=parts.settings.public_read,
        derived=parts.derived,
        sendfile=_sendfile(parts),
    )


def _sendfile(parts: Parts) -> ProxySendfile | None:
    if parts.proxy_key is None or not isinstance(parts.storage, PinsNames):
        return None
    return ProxySendfile(parts.storage, parts.proxy_key)
