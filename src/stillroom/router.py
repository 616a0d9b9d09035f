"""The router of the API: every operation over the parts of an assembly, wired once."""

from fastapi import APIRouter

from stillroom.api.copies import Copies, copies_router
from stillroom.api.dead_letters import DeadLetterOperations, dead_letters_router
from stillroom.api.deletions import Deletions, deletions_router
from stillroom.api.entries import EntryListing, entries_router
from stillroom.api.images import ImageOperations, images_router
from stillroom.api.media import MediaOperations, media_router
from stillroom.api.signed_urls import UrlSigning, signed_urls_router
from stillroom.assembly import Parts, media_url_of


def stillroom_router(parts: Parts) -> APIRouter:
    """The operations on images; on signed URLs and the media library where the parts have them."""
    storage, authorize = parts.storage, parts.authorize
    router = APIRouter()
    router.include_router(images_router(image_operations(parts)))
    router.include_router(entries_router(EntryListing(storage, authorize)))
    router.include_router(deletions_router(Deletions(storage, authorize)))
    router.include_router(copies_router(Copies(storage, authorize, parts.images_url)))
    if parts.signer is not None:
        signing = UrlSigning(authorize, parts.signer, parts.signed_images_url)
        router.include_router(signed_urls_router(signing))
    if parts.library is not None:
        operations = MediaOperations(
            media=parts.library.service,
            authorize=authorize,
            public_url=media_url_of(parts.settings),
        )
        router.include_router(media_router(operations))
        letters = DeadLetterOperations(parts.library.database, authorize)
        router.include_router(dead_letters_router(letters))
    return router


def image_operations(parts: Parts) -> ImageOperations:
    """The five operations on images; the server's fast path answers by them, too."""
    return ImageOperations(
        storage=parts.storage,
        authorize=parts.authorize,
        public_url=parts.images_url,
        max_upload_bytes=parts.settings.max_upload_bytes,
        signer=parts.signer,
        public_read=parts.settings.public_read,
        derived=parts.derived,
    )
